"""A forked child stopped at each of its changes to the disk, whoever makes them: our code, SQLite or FAISS.

The child runs under ptrace, which a seccomp filter wakes at the system calls that change or flush files, in
all its threads. A write at which it is killed is torn, half of its bytes reaching the file; any other change
is kept from happening. What a power cut leaves is another matter: ``power_cut`` reorders and loses writes.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, NoReturn

import pytest

WRITE, PWRITE, WRITEV, PWRITEV = 1, 18, 20, 296
TRUNCATE, FTRUNCATE, FALLOCATE, SENDFILE, COPY_RANGE = 76, 77, 285, 40, 326
FSYNC, FDATASYNC = 74, 75
RENAME, RENAMEAT, RENAMEAT2 = 82, 264, 316
MKDIR, MKDIRAT, RMDIR, UNLINK, UNLINKAT = 83, 258, 84, 87, 263
LINK, LINKAT, SYMLINK, SYMLINKAT = 86, 265, 88, 266
OPEN, OPENAT, MMAP = 2, 257, 9

_ALWAYS = (
    WRITE,
    PWRITE,
    WRITEV,
    PWRITEV,
    TRUNCATE,
    FTRUNCATE,
    FALLOCATE,
    SENDFILE,
    COPY_RANGE,
    FSYNC,
    FDATASYNC,
)
_ALWAYS += (
    RENAME,
    RENAMEAT,
    RENAMEAT2,
    MKDIR,
    MKDIRAT,
    RMDIR,
    UNLINK,
    UNLINKAT,
    LINK,
    LINKAT,
    SYMLINK,
    SYMLINKAT,
)
_MAY_CHANGE = os.O_CREAT | os.O_TRUNC
# Calls that change files where all these bits (any of each) are set: argument, bits.
_WHERE = {
    OPEN: ((1, _MAY_CHANGE),),
    OPENAT: ((2, _MAY_CHANGE),),
    MMAP: ((2, 2), (3, 1)),  # written through, shared
}

_TRACE_ME, _GO_ON, _GET_REGISTERS, _SET_REGISTERS, _TO_END_OF_CALL, _SET_OPTIONS = 0, 7, 12, 13, 24, 0x4200
_MARK_CALLS, _FOLLOW_THREADS, _WAKE_AT_FILTERED, _DIE_WITH_TRACER = 1, 0x8, 0x80, 0x100000
_FILTERED, _END_OF_CALL = signal.SIGTRAP | 7 << 8, signal.SIGTRAP | 0x80
_ALL_THREADS = 0x40000000
_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER_MODE = 38, 22, 2
_Registers = ctypes.c_ulong * 27
_RESULT, _SIZE, _NUMBER = 10, 12, 15  # rax, rdx and orig_rax among them
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi, rsi, rdx, r10, r8, r9


class Call(NamedTuple):
    """A system call that a thread of the child is about to make."""

    thread: int
    number: int
    arguments: tuple[int, ...]


def changes_before_death(work: Callable[[], object], kill_at: int | None = None) -> int:
    """Run ``work`` in a child that is killed at its change number ``kill_at``, if it comes so far.

    Returns how many changes it made; an error of its own fails the test. A flush counts as a change.
    """
    made = 0
    with Traced(work) as child:
        for call in child.calls():
            if made == kill_at:
                if call.number in (WRITE, PWRITE):
                    child.tear(call)
                break
            made += 1
    return made


class Traced:
    """``work`` in a child of its own; leaving the block kills what is left of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            pytest.skip("knows the system calls of Linux on x86-64 alone")
        self._errors, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _run_traced(work, writing)
        os.close(writing)
        if not os.WIFSTOPPED(os.waitpid(self._child, 0)[1]):
            os.close(self._errors)
            pytest.skip("ptrace or seccomp is not allowed here")
        options = _MARK_CALLS | _FOLLOW_THREADS | _WAKE_AT_FILTERED | _DIE_WITH_TRACER
        _ptrace(_SET_OPTIONS, self._child, options)

    def __enter__(self) -> "Traced":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            os.killpg(self._child, signal.SIGKILL)
            while True:
                os.waitpid(-self._child, _ALL_THREADS)
        except (ChildProcessError, ProcessLookupError):
            os.close(self._errors)

    def calls(self) -> Iterator[Call]:
        """Let the child run on; stops a thread before each change, and says which call that is."""
        _ptrace(_GO_ON, self._child, 0)
        while True:
            thread, status = os.waitpid(-self._child, _ALL_THREADS)
            if not os.WIFSTOPPED(status):
                if thread == self._child:
                    self._require_success(status)
                    return
                continue
            if status >> 8 == _FILTERED:
                registers = _registers(thread)
                yield Call(thread, registers[_NUMBER], tuple(registers[i] for i in _ARGUMENTS))
            _ptrace(_GO_ON, thread, _signal_of(status))

    def finish(self, call: Call) -> int:
        """Let the call happen; returns its result, negative where it failed."""
        delivered = 0
        while True:
            _ptrace(_TO_END_OF_CALL, call.thread, delivered)
            _, status = os.waitpid(call.thread, _ALL_THREADS)
            if not os.WIFSTOPPED(status) or status >> 8 == _END_OF_CALL:
                break
            delivered = _signal_of(status)
        return ctypes.c_long(_registers(call.thread)[_RESULT]).value

    def tear(self, call: Call) -> None:
        """Halve the write that is about to happen, and let it happen."""
        registers = _registers(call.thread)
        registers[_SIZE] //= 2
        _ptrace(_SET_REGISTERS, call.thread, ctypes.addressof(registers))
        self.finish(call)

    def _require_success(self, status: int) -> None:
        with os.fdopen(os.dup(self._errors)) as errors:
            said = errors.read()
        assert os.waitstatus_to_exitcode(status) == 0, f"the child failed:\n{said}"


def _signal_of(status: int) -> int:
    """What a stopped thread is to be given: none of the signals by which tracing tells of itself."""
    stopped_by = os.WSTOPSIG(status) & 0x7F
    return 0 if stopped_by in (signal.SIGSTOP, signal.SIGTRAP) else stopped_by


def _run_traced(work: Callable[[], object], errors: int) -> NoReturn:
    code = 1
    try:
        sys.dont_write_bytecode = True  # What is compiled in a child that is killed would be torn.
        os.setpgid(0, 0)
        if _ptrace(_TRACE_ME, 0, 0) == 0 and _filter():
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
    except BaseException:
        os.write(errors, traceback.format_exc()[-8_000:].encode())
    finally:
        os._exit(code)


def _filter() -> bool:
    """Wake the tracer at changes: a BPF program that compares the number of the call, then its arguments."""
    load, equal, any_set, leave = 0x20, 0x15, 0x45, 0x06
    wake, allow = (leave, 0, 0, 0x7FF00000), (leave, 0, 0, 0x7FFF0000)
    lines = [(load, 0, 0, 0)]
    for number in _ALWAYS:
        lines += [(equal, 0, 1, number), wake]
    for number, conditions in _WHERE.items():
        block = []
        for argument, bits in conditions:
            block += [(load, 0, 0, 16 + 8 * argument), (any_set, 1, 0, bits), allow]
        lines += [(equal, 0, len(block) + 1, number), *block, wake]
    lines.append(allow)
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(program)))
    prctl = _c_library().prctl
    prctl.argtypes = [ctypes.c_ulong] * 5
    allowed = prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    return allowed and prctl(_SET_FILTER, _FILTER_MODE, ctypes.addressof(header), 0, 0) == 0


def _registers(thread: int) -> "ctypes.Array[ctypes.c_ulong]":
    registers = _Registers()
    _ptrace(_GET_REGISTERS, thread, ctypes.addressof(registers))
    return registers


def _ptrace(request: int, thread: int, data: int) -> int:
    ptrace = _c_library().ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    return ptrace(request, thread, None, data)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
