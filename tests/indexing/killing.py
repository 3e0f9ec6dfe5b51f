"""A forked child killed at any of its changes to the disk, whoever makes them: our code, SQLite or FAISS.

The child runs under ptrace, which a seccomp filter wakes at the system calls that change files. A write is
torn, half of its bytes reaching the file; any other change is kept from happening. A kill at an fsync would
leave what a kill at the next change leaves: a dead process's writes are safe from all but a power cut.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from functools import cache

import pytest

_WRITES = (1, 18)  # write, pwrite64
_CHANGES = (*_WRITES, 77, 82, 83, 87)  # ftruncate, rename, mkdir, unlink

_TRACE_ME, _GO_ON, _GET_REGISTERS, _SET_REGISTERS, _TO_END_OF_CALL, _SET_OPTIONS = 0, 7, 12, 13, 24, 0x4200
_WAKE_AT_FILTERED, _DIE_WITH_TRACER = 0x80, 0x100000
_FILTERED = signal.SIGTRAP | 7 << 8
_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER_MODE = 38, 22, 2
_Registers = ctypes.c_ulong * 27
_SIZE, _NUMBER = 12, 15  # rdx and orig_rax among them


def changes_before_death(work: Callable[[], None], kill_at: int | None = None) -> int:
    """Run ``work`` in a child that is killed at its change number ``kill_at``, if it comes so far.

    Returns how many changes it made; an error of its own fails the test.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("knows the system calls of Linux on x86-64 alone")
    child = os.fork()
    if child == 0:
        _run_traced(work)
    if not os.WIFSTOPPED(os.waitpid(child, 0)[1]):
        pytest.skip("ptrace or seccomp is not allowed here")
    _ptrace(_SET_OPTIONS, child, _WAKE_AT_FILTERED | _DIE_WITH_TRACER)
    made = 0
    for call in _changes(child):
        if made == kill_at:
            if call in _WRITES:
                _tear(child)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        made += 1
    return made


def _run_traced(work: Callable[[], None]) -> None:
    code = 1
    try:
        if _ptrace(_TRACE_ME, 0, 0) == 0 and _filter():
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
    finally:
        os._exit(code)


def _filter() -> bool:
    """Wake the tracer at changes: a BPF program that compares the number of the call."""
    count = len(_CHANGES)
    lines = [(0x20, 0, 0, 0)]  # load the number
    lines += [(0x15, count - i, 0, number) for i, number in enumerate(_CHANGES)]  # jump where it is equal
    lines += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FF00000)]  # allow, wake
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(program)))
    prctl = _c_library().prctl
    prctl.argtypes = [ctypes.c_ulong] * 5
    allowed = prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    return allowed and prctl(_SET_FILTER, _FILTER_MODE, ctypes.addressof(header), 0, 0) == 0


def _changes(child: int) -> Iterator[int]:
    """Let the child run on; stops it before each change, and says which system call that is."""
    while True:
        _ptrace(_GO_ON, child, 0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the child failed"
            return
        if status >> 8 == _FILTERED:
            yield _registers(child)[_NUMBER]


def _tear(child: int) -> None:
    """Halve the write that is about to happen, and let it happen."""
    registers = _registers(child)
    registers[_SIZE] //= 2
    _ptrace(_SET_REGISTERS, child, ctypes.addressof(registers))
    _ptrace(_TO_END_OF_CALL, child, 0)
    os.waitpid(child, 0)


def _registers(child: int) -> "ctypes.Array[ctypes.c_ulong]":
    registers = _Registers()
    _ptrace(_GET_REGISTERS, child, ctypes.addressof(registers))
    return registers


def _ptrace(request: int, child: int, data: int) -> int:
    ptrace = _c_library().ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    return ptrace(request, child, None, data)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
