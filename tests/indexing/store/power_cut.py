"""What a disk may hold after a power cut: what was not flushed is lost, torn or out of order.

A child's changes to a folder are recorded, with what it flushed and when. From any moment of that record come
states in which each file has all that was written before its last fsync, and of what was written since
nothing, everything or any sectors of it; likewise names, which only an fsync of their folder makes durable.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias

from . import killing
from .killing import Call, Traced

SECTORS = (512, 4_096)
_TO_DIRECTORY_FD = (killing.OPENAT, killing.MKDIRAT, killing.UNLINKAT)
_AT_WORKING_DIRECTORY = -100
_WRITES = (killing.WRITE, killing.PWRITE)
_FLUSHES = (killing.FSYNC, killing.FDATASYNC)
_OPENS = (killing.OPEN, killing.OPENAT)
_MAKES_FOLDER = (killing.MKDIR, killing.MKDIRAT)
_NAMES = (killing.RENAME, *_MAKES_FOLDER, killing.RMDIR, killing.UNLINK, killing.UNLINKAT)
_OTHERS_BY_DESCRIPTOR = (killing.WRITEV, killing.PWRITEV, killing.FALLOCATE, killing.SENDFILE)
_FORGOTTEN = "-shm"  # SQLite's shared memory: no part of what is durable


class Write(NamedTuple):
    """Of ``data`` into file ``file``."""

    file: int
    offset: int
    data: bytes


class Resize(NamedTuple):
    """Of a file."""

    file: int
    size: int


class Flush(NamedTuple):
    """An fsync of a file."""

    file: int


class Name(NamedTuple):
    """``path`` is file ``file`` from now on (None: a folder); ``old`` is what it was called before."""

    path: Path
    file: int | None
    old: Path | None = None


class Unname(NamedTuple):
    """A file or folder goes."""

    path: Path


class FlushFolder(NamedTuple):
    """An fsync of a folder."""

    path: Path


class Returned(NamedTuple):
    """The child says that something is done: what ``done`` wrote."""

    what: str


Event: TypeAlias = Write | Resize | Flush | Name | Unname | FlushFolder | Returned


def done(what: str) -> None:
    """Called by a recorded child: from now on ``what`` must outlast a power cut."""
    os.write(_MARK.fd, what.encode())


class _Mark:
    """A file that is written for the record alone."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("done")
        self.path = str(Path(f"/proc/self/fd/{self.fd}").readlink())


_MARK = _Mark()


@dataclass
class Record:
    """What a child did to the files of ``folder``, in order, and what was there before."""

    folder: Path
    files: dict[int, bytes] = field(default_factory=dict)
    names: dict[Path, int | None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @staticmethod
    def of(work: Callable[[], object], folder: Path) -> "Record":
        """Run ``work`` in a child to its end, recording. What ``folder`` holds counts as durable."""
        record = Record(folder.resolve())
        for path in sorted(record.folder.rglob("*")):
            record._create(path, path.read_bytes() if path.is_file() else None)
        recorder = _Recorder(record)
        with Traced(work) as child:
            for call in child.calls():
                recorder.see(child, call)
        return record

    def without_flushes(self, of: Callable[[str], bool]) -> "Record":
        """The same on a disk that does nothing at an fsync of files with such a name."""
        lying = {file for path, file in self._all_names() if file is not None and of(path.name)}
        kept = [event for event in self.events if not (isinstance(event, Flush) and event.file in lying)]
        return Record(self.folder, self.files, self.names, kept)

    def whole(self, at: int, into: Path) -> None:
        """Make ``into`` what the folder was before event ``at``, nothing lost."""
        self._build(into, self.events[:at], [True] * at)

    def cut(self, at: int, random: Random, into: Path) -> None:
        """Make ``into`` something that a power cut before event ``at`` may leave."""
        events = self.events[:at]
        flushed = {event: i for i, event in enumerate(events) if isinstance(event, Flush | FlushFolder)}
        chances: dict[object, float] = {}
        kept: list[bool] = []
        torn: list[Event | _Torn] = list(events)
        ordered = random.random() < 0.5  # Names in the order of a journal, as most file systems keep them.
        lost_name = random.randrange(at + 1)
        for i, event in enumerate(events):
            if isinstance(event, Write | Resize):
                chance = chances.setdefault(event.file, random.choice([0.0, 0.5, 0.9, 1.0]))
                durable = flushed.get(Flush(event.file), -1) > i
                kept.append(durable or random.random() < chance)
                if isinstance(event, Write) and not durable and random.random() < 0.3:
                    torn[i] = _Torn(event, random.choice(SECTORS), random.getrandbits(32))
            elif isinstance(event, Name | Unname):
                chance = chances.setdefault(event.path.parent, random.choice([0.0, 0.5, 1.0]))
                survives = i < lost_name if ordered else random.random() < chance
                kept.append(flushed.get(FlushFolder(event.path.parent), -1) > i or survives)
            else:
                kept.append(False)
        self._build(into, torn, kept)

    def _all_names(self) -> Iterable[tuple[Path, int | None]]:
        yield from self.names.items()
        yield from ((event.path, event.file) for event in self.events if isinstance(event, Name))

    def _create(self, path: Path, content: bytes | None) -> None:
        self.names[path] = None if content is None else len(self.files)
        if content is not None:
            self.files[len(self.files)] = content

    def _build(self, into: Path, events: "Iterable[Event | _Torn]", kept: Iterable[bool]) -> None:
        contents = {file: bytearray(content) for file, content in self.files.items()}
        names = dict(self.names)
        for event, is_kept in zip(events, kept, strict=True):
            match event:
                case Name(path, file, old) if is_kept:
                    if old is not None and names.get(old) == file:
                        del names[old]
                    names[path] = file
                case Unname(path) if is_kept:
                    names.pop(path, None)
                case Write(file, offset, data) if is_kept:
                    _put(contents.setdefault(file, bytearray()), offset, data)
                case Resize(file, size) if is_kept:
                    content = contents.setdefault(file, bytearray())
                    content[size:] = bytes(max(0, size - len(content)))
                case _Torn() if is_kept:
                    event.put(contents.setdefault(event.write.file, bytearray()))
                case _:
                    pass
        into.mkdir()
        for path, file in sorted(names.items()):
            target = into / path.relative_to(self.folder)
            if not target.parent.is_dir() or path.name.endswith(_FORGOTTEN):
                continue
            if file is None:
                target.mkdir()
            else:
                target.write_bytes(contents.get(file, b""))


@dataclass(frozen=True)
class _Torn:
    """A write of which any sectors reached the disk."""

    write: Write
    sector: int
    seed: int

    def put(self, content: bytearray) -> None:
        random = Random(self.seed)
        _, offset, data = self.write
        first = offset - offset % self.sector
        for start in range(first, offset + len(data), self.sector):
            if random.random() < 0.5:
                low, high = max(start, offset), min(start + self.sector, offset + len(data))
                _put(content, low, data[low - offset : high - offset])


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class _Recorder:
    """Turns system calls into events, once they have succeeded."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._names = dict(record.names)
        self._next = len(record.files)

    def see(self, child: Traced, call: Call) -> None:
        """One call that is about to happen."""
        thread, number, arguments = call
        if number in _WRITES:
            path = _opened(thread, arguments[0])
            data = _memory(thread, arguments[1], arguments[2])
            if path == _MARK.path:
                self._record.events.append(Returned(data.decode()))
            elif self._is_ours(path):
                written = child.finish(call)
                here = arguments[3] if number == killing.PWRITE else _position(thread, arguments[0]) - written
                self._add(Write(self._file(path), here, data[:written]), written > 0)
        elif number in _FLUSHES:
            if self._is_ours(path := _opened(thread, arguments[0])):
                is_folder = self._names.get(Path(path)) is None
                event = FlushFolder(Path(path)) if is_folder else Flush(self._file(path))
                self._add(event, child.finish(call) == 0)
        elif number == killing.FTRUNCATE:
            if self._is_ours(path := _opened(thread, arguments[0])):
                self._add(Resize(self._file(path), arguments[1]), child.finish(call) == 0)
        elif number in _OPENS:
            self._see_open(child, call)
        elif number in _NAMES:
            self._see_names(child, call)
        else:
            self._require_elsewhere(call)

    def _see_open(self, child: Traced, call: Call) -> None:
        flags = call.arguments[1 if call.number == killing.OPEN else 2]
        path = _named(call)
        descriptor = child.finish(call)
        if descriptor < 0 or not self._is_ours(path):
            return
        path = Path(_opened(call.thread, descriptor))
        if path not in self._names:
            self._name(path, self._next)
            self._next += 1
        elif flags & os.O_TRUNC:
            self._add(Resize(self._file(str(path)), 0))

    def _see_names(self, child: Traced, call: Call) -> None:
        path = Path(_named(call))
        new = Path(_text(call.thread, call.arguments[1])) if call.number == killing.RENAME else path
        if child.finish(call) < 0 or not self._is_ours(str(path)):
            return
        if call.number == killing.RENAME:
            self._name(new, self._names.pop(path), path)
        elif call.number in _MAKES_FOLDER:
            self._name(path, None)
        else:
            del self._names[path]
            self._add(Unname(path))

    def _require_elsewhere(self, call: Call) -> None:
        if call.number == killing.MMAP:
            path = _opened(call.thread, call.arguments[4]) if call.arguments[4] < 1 << 31 else ""
        elif call.number in _OTHERS_BY_DESCRIPTOR:
            path = _opened(call.thread, call.arguments[0])
        elif call.number == killing.COPY_RANGE:
            path = _opened(call.thread, call.arguments[2])
        else:
            path = _text(call.thread, call.arguments[0])
        assert not self._is_ours(path), f"system call {call.number} changes {path}: teach the recorder"

    def _is_ours(self, path: str) -> bool:
        inside = path == str(self._record.folder) or path.startswith(f"{self._record.folder}/")
        return inside and not path.endswith((_FORGOTTEN, " (deleted)"))

    def _file(self, path: str) -> int:
        file = self._names[Path(path)]
        assert file is not None
        return file

    def _name(self, path: Path, file: int | None, old: Path | None = None) -> None:
        self._names[path] = file
        self._add(Name(path, file, old))

    def _add(self, event: Event, happened: bool = True) -> None:
        if happened:
            self._record.events.append(event)


def _named(call: Call) -> str:
    """The path that is the call's first, absolute."""
    at, path = _AT_WORKING_DIRECTORY, call.arguments[0]
    if call.number in _TO_DIRECTORY_FD:
        at, path = call.arguments[0], call.arguments[1]
        at = at if at < 1 << 31 else _AT_WORKING_DIRECTORY
    name = _text(call.thread, path)
    folder = Path(f"/proc/{call.thread}", "cwd" if at == _AT_WORKING_DIRECTORY else f"fd/{at}")
    return os.path.normpath(folder.readlink() / name)


def _opened(thread: int, descriptor: int) -> str:
    return str(Path(f"/proc/{thread}/fd/{descriptor}").readlink())


def _position(thread: int, descriptor: int) -> int:
    return int(Path(f"/proc/{thread}/fdinfo/{descriptor}").read_text().split()[1])


def _text(thread: int, address: int) -> str:
    """The string that ends with a zero at ``address``; read page by page, the next may not be there."""
    found = b""
    while b"\0" not in found:
        end = (address + len(found)) // 4_096 * 4_096 + 4_096
        found += _memory(thread, address + len(found), end - address - len(found))
    return os.fsdecode(found[: found.index(b"\0")])


def _memory(thread: int, address: int, size: int) -> bytes:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        memory.seek(address)
        found = b""
        while len(found) < size and (more := memory.read(size - len(found))):
            found += more
    return found
