"""An index kept in step with folders and files: what did not change is not read, what moved is not encoded.

A file is known by its size and time, then by a digest of its content. What cannot be compared so (stdin, data
sets of the hub) is read again, and only what changed in it is encoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import FlatcoatError
from ..indexing.documents import Document
from ..indexing.readers import read_documents, read_file
from ..indexing.rows import Columns, is_rows
from ..indexing.sources import FileState, Root, Source, is_name, place
from ..indexing.walking import File, list_files
from .adding import Adder, Change, Skip, content_hash, new_or_changed

if TYPE_CHECKING:
    from ..indexing.store import Store
    from ..indexing.writer import Writer

_WHOLE = ""
"""The name of a file whose rows are the documents, in its own states."""


@dataclass(frozen=True)
class Reading:
    """Which files of a folder count, as patterns like those of .gitignore, and which columns of rows."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    columns: Columns | None = None


class Sync:
    """Brings the documents of one source up to date."""

    def __init__(self, store: "Store", writer: "Writer", adder: Adder, reading: Reading) -> None:
        self._store = store
        self._writer = writer
        self._adder = adder
        self._reading = reading

    def bring_up_to_date(self, source: Source, root: Root) -> None:
        """Read what changed below ``root``, encode what is new, remove what is gone."""
        if isinstance(root, str) or is_rows(root):
            self._sync_rows(source, root)
        else:
            self._sync_files(source, root)

    def _sync_rows(self, source: Source, root: Root) -> None:
        state = "" if isinstance(root, str) else _state(_rows_file(root))
        known = self._store.file_states(source.key).get(_WHOLE)
        held = set(self._store.documents_of(source.key))
        if state and known is not None and known.state == state:
            self._adder.added.unchanged += len(held)
            return
        seen: set[str] = set()
        self._adder.carry_out(self._row_changes(source, root, seen), source.key)
        self._adder.added.removed += self._writer.remove(held - seen)
        self._writer.remember(source.key, [(_WHOLE, FileState(state))])

    def _row_changes(self, source: Source, root: Root, seen: set[str]) -> Iterator[Change]:
        def named() -> Iterator[Document]:
            columns = self._reading.columns or Columns()
            for document in read_documents(root, columns=columns, on_skip=self._skip):
                id = source.prefix + document.id
                seen.add(id)
                yield replace(document, id=id)

        return new_or_changed(named(), self._store.document_hashes(), self._adder.added)

    def _sync_files(self, source: Source, root: Path) -> None:
        states = self._store.file_states(source.key)
        files = {
            file.name: file
            for file in list_files(root, self._reading.include, self._reading.exclude, self._skip)
        }
        gone = {name: state for name, state in states.items() if name not in files}
        self._adder.carry_out(self._file_changes(source, states, files, gone), source.key)
        removed = self._writer.remove(_id(source, name) for name in gone)
        self._writer.forget(source.key, gone)
        self._adder.added.removed += removed

    def _file_changes(
        self,
        source: Source,
        states: dict[str, FileState],
        files: dict[str, File],
        gone: dict[str, FileState],
    ) -> Iterator[Change]:
        moved_from = {state.digest: name for name, state in gone.items() if not state.skipped}
        for name, file in files.items():
            known = states.get(name)
            if known is not None and file.state and known.state == file.state:
                self._count(name, known)
                continue
            came = read_file(file)
            id = _id(source, name)
            if isinstance(came, str):
                self._skip(name, came)
                yield Change(id, file=name, state=FileState(file.state, skipped=came))
                continue
            document, digest = _called(came, id), _digest(came)
            state = FileState(file.state, digest)
            if known is not None and known.digest == digest and not known.skipped:
                self._adder.added.unchanged += 1
                yield Change(id, file=name, state=state)
            elif known is None and (old := moved_from.pop(digest, None)) is not None:
                yield Change(id, document, content_hash(document), name, state, _id(source, old))
            else:
                yield Change(id, document, content_hash(document), name, state)

    def _count(self, name: str, known: FileState) -> None:
        if known.skipped:
            self._skip(name, known.skipped)
        else:
            self._adder.added.unchanged += 1

    def _skip(self, path: str, reason: str) -> None:
        self._adder.added.skipped.append(Skip(path, reason))


def found(root: str | Path) -> Root:
    """What a user means by ``root``; FlatcoatError where there is nothing."""
    if isinstance(root, str) and is_name(root):
        return root
    path = Path(root)
    if not path.exists():
        raise FlatcoatError(f"{path} does not exist: give a folder, a file, rows or a BEIR folder")
    return path.resolve()


def all_places(store: "Store") -> list[Root]:
    """Where the sources of an index are; FlatcoatError where it has none."""
    places = [place(store.path, source) for source in store.sources()]
    if not places:
        raise FlatcoatError(f"index {store.path} has no folder or file to bring up to date: name one")
    return [found(root) for root in places]


def _rows_file(root: Path) -> Path:
    return root / "corpus.jsonl" if root.is_dir() else root


def _state(file: Path) -> str:
    (found,) = list_files(file)
    return found.state


def _id(source: Source, name: str) -> str:
    return source.prefix + name


def _called(document: Document, id: str) -> Document:
    """The document under its id in the index, which is its path, and its title unless it has one."""
    title = id if document.title == document.id else document.title
    return replace(document, id=id, title=title, metadata=document.metadata | {"path": id})


def _digest(document: Document) -> str:
    """Of the content alone, which stays the same where a file is renamed."""
    title = "" if document.title == document.id else document.title
    metadata = {key: value for key, value in document.metadata.items() if key != "path"}
    return content_hash(replace(document, title=title, metadata=metadata))
