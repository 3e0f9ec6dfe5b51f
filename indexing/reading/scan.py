"""Compare a source with its last reading: which files or rows are unchanged, new or changed, skipped, gone.

A file is compared by its state (size, times, inode) and then by the digest of its content, so that a renamed
file is recognised. The rows of a file, stdin and data sets of the hub are all read again unless the state of
their file is the same; which rows changed is the index's to compare, since there may be too many to list.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document, content_hash

from .columns import USUAL, Columns
from .gitignore import UNREADABLE, File, OnSkip, file_state, list_files
from .readers import STDIN, read_documents, read_file
from .rows import is_rows, rows_file
from .seen_ids import SeenIds


class FileState(NamedTuple):
    """A file when it was read: its ``file_state``, the digest of its content, why it was skipped."""

    state: str
    digest: str = ""
    skipped: str = ""


class Unchanged(NamedTuple):
    """A file with the known content, or a file of rows with all its ``documents``.

    ``state`` is given where it differs from the known one.
    """

    name: str
    state: FileState | None = None
    documents: int = 1


class Read(NamedTuple):
    """A row, which has no ``state``, or a new or changed file. A renamed file was called ``moved_from``."""

    name: str
    document: Document
    state: FileState | None = None
    moved_from: str | None = None


class Skipped(NamedTuple):
    """A file or row that is left out. ``state`` is given where the file has nothing to index any more."""

    name: str
    reason: str
    state: FileState | None = None


class Gone(NamedTuple):
    """Names of files or rows that exist no longer."""

    names: Sequence[str]


class Finished(NamedTuple):
    """All rows of a source were read; ``state`` is the state of their file, empty where there is no file."""

    state: str


Scanned: TypeAlias = Unchanged | Read | Skipped | Gone | Finished


class Known(Protocol):
    """What an index holds of a source."""

    @property
    def state(self) -> str:
        """The state of the file of rows when all of it was read."""
        ...

    def files(self) -> Mapping[str, FileState]:
        """The files that were read or skipped, by name."""
        ...

    def count(self) -> int:
        """The number of documents."""
        ...

    def names(self, after: str) -> Sequence[str]:
        """The next names of documents in their order; none at the end."""
        ...


def scan(
    root: Path | str,
    known: Known,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: bool = False,
    columns: Columns = USUAL,
    encoding: str | None = None,
) -> Generator[Scanned]:
    """Compare the files or rows of ``root`` with the ``known`` ones; options as for ``read_documents``.

    Each file or row is given once, and all names that are gone at the end. If reading rows breaks off, the
    root is skipped, no row is gone, and there is no ``Finished``.
    """
    if isinstance(root, str) or is_rows(root):
        return _scan_rows(root, known, columns, encoding)

    def listed(on_skip: OnSkip) -> Iterator[File]:
        return list_files(root, include, exclude=exclude, hidden=hidden, on_skip=on_skip)

    return _scan_files(listed, known.files(), encoding)


def _scan_rows(root: Path | str, known: Known, columns: Columns, encoding: str | None) -> Generator[Scanned]:
    state = _rows_state(root)
    if state and known.state == state:
        yield Unchanged(str(root), documents=known.count())
        return
    seen, skipped = SeenIds(), list[Skipped]()

    def skip(place: str, reason: str) -> None:
        skipped.append(Skipped(place, reason))

    try:
        for document in read_documents(root, columns=columns, encoding=encoding, on_skip=skip, seen=seen):
            yield from skipped
            skipped.clear()
            yield Read(document.id, document)
    except FlatcoatError as error:
        yield from skipped
        yield Skipped(str(root), str(error).removeprefix(f"{root}: "))
        return  # What was not reached would count as gone.
    yield from skipped
    if root == STDIN and not len(seen):
        return  # Nothing was piped in, so the document of an earlier run stays.
    last = ""
    while names := known.names(after=last):
        yield Gone([name for name in names if name not in seen])
        last = names[-1]
    yield Finished(state)


def _rows_state(root: Path | str) -> str:
    if isinstance(root, str):
        return ""
    try:
        return file_state(rows_file(root).stat())
    except OSError:  # Reading the file reports the error.
        return ""


def _scan_files(
    listed: Callable[[OnSkip], Iterator[File]], known: Mapping[str, FileState], encoding: str | None
) -> Generator[Scanned]:
    left_out: list[Skipped] = []

    def leave_out(path: str, reason: str) -> None:
        left_out.append(Skipped(path, reason))

    files = {file.name: file for file in listed(leave_out)}
    yield from left_out
    # What cannot be read at the moment is not gone, nor is what a folder holds that cannot be read.
    closed = {"" if name == "." else name for name, reason, _ in left_out if reason.startswith(UNREADABLE)}
    folders = tuple(name for name in closed if not name or name.endswith("/"))
    there = closed.union(files)
    gone = [name for name in known if name not in there and not name.startswith(folders)]
    moved: dict[str, list[str]] = defaultdict(list)
    for name in gone:
        if not known[name].skipped:
            moved[known[name].digest].append(name)
    for name, file in files.items():
        yield _scanned(file, known.get(name), moved, encoding)
    if gone:
        yield Gone(gone)


def _scanned(
    file: File, known: FileState | None, moved: Mapping[str, list[str]], encoding: str | None
) -> Unchanged | Read | Skipped:
    # The same bytes are another text in another charset.
    state = f"{file.state}:{encoding}" if file.state and encoding else file.state
    if known is not None and state and known.state == state:
        return Skipped(file.name, known.skipped) if known.skipped else Unchanged(file.name)
    document = read_file(file, encoding=encoding)
    if isinstance(document, str):
        # What cannot be read at the moment keeps the text that was read before.
        keeps = document.startswith(UNREADABLE) and known is not None and not known.skipped
        return Skipped(file.name, document, None if keeps else FileState(state, skipped=document))
    read = FileState(state, _digest(document))
    if known is not None and known.digest == read.digest and not known.skipped:
        return Unchanged(file.name, read)
    moved_from = moved[read.digest].pop() if known is None and moved[read.digest] else None
    return Read(file.name, document, read, moved_from)


def _digest(document: Document) -> str:
    """The digest of a document's content, which stays the same where its file is renamed."""
    title = "" if document.title == document.id else document.title
    metadata = {key: value for key, value in document.metadata.items() if key != "path"}
    return content_hash(replace(document, title=title, metadata=metadata))
