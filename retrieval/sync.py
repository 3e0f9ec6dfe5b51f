"""An index kept in step with folders and files: what did not change is not read, what moved is not encoded.

A file is known by its state (size, times, inode), then by a digest of its content. What cannot be compared so
(stdin, data sets of the hub) is read again, and only what changed in it is encoded. ``changes`` waits for the
next change below folders (watchfiles).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.reading.columns import USUAL
from flatcoat.indexing.reading.gitignore import UNREADABLE, File, file_state, list_files
from flatcoat.indexing.reading.readers import read_documents, read_file
from flatcoat.indexing.reading.rows import is_rows, rows_file
from flatcoat.indexing.reading.seen_ids import SeenIds
from flatcoat.indexing.store.source_paths import Root, as_root
from flatcoat.indexing.store.sources import FileState, Reading, Source, place

from .ingest import Adder, Change, Ids, Skip, content_hash, new_or_changed

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.store.writer import Writer


class Sync:
    """Brings the documents of sources up to date. A source that cannot be read is skipped, and stays."""

    def __init__(self, store: "Store", writer: "Writer", adder: Adder) -> None:
        self._store = store
        self._writer = writer
        self._adder = adder

    def all_sources(self, reading: Reading) -> Iterator[Source]:
        """The sources that can be read again, as ``reading`` says from now on.

        Standard input cannot. What another user named, or this one on another machine, is not read unasked:
        an index that came from elsewhere may name any file. FlatcoatError where there is no source.
        """
        held = [source for source in self._store.sources() if source.path != "-"]
        if not held:
            raise FlatcoatError(
                f"index {self._store.path} has no folder or file to bring up to date: name one"
            )
        for source in held:
            root = place(self._store.path, source)
            if not source.is_own:
                self._leave_out(
                    str(root), "named by another user or on another machine: name it to have it read"
                )
            elif reading.for_root(root).over(source.reading) == source.reading:
                yield source
            else:
                yield from self._writer.enter_sources([root], reading)

    def bring_up_to_date(self, source: Source) -> None:
        """Read what changed in a source, encode what is new, remove what is gone."""
        root = place(self._store.path, source)
        if isinstance(root, Path) and not root.exists():
            self._leave_out(str(root), "does not exist any more; its documents stay until flatcoat forget")
        elif isinstance(root, str) or is_rows(root):
            self._sync_rows(source, root)
        else:
            self._sync_files(source, root)

    def _sync_rows(self, source: Source, root: Root) -> None:
        state = _rows_state(root)
        if state and source.state == state:
            held = self._store.count_of(source.key)
            self._adder.added.unchanged += held
            self._adder.added.found += held
            return
        seen, errors = SeenIds(), list[str]()
        documents = self._row_documents(source, root, seen, errors)
        changes = new_or_changed(documents, self._store, self._adder.added, source)
        self._adder.carry_out(changes, source.key)
        if root == "-" and not len(seen):
            return  # Whatever was to be piped here gave nothing.
        if not errors:  # Or what was not reached would count as gone.
            self._adder.added.removed += self._remove_all_but(seen, source)
            self._writer.finish_source(source, state)

    def _row_documents(
        self, source: Source, root: Root, seen: SeenIds, errors: list[str]
    ) -> Iterator[Document]:
        """The rows as far as they can be read; what breaks off reading goes to ``errors``."""
        reading = source.reading
        try:
            for document in read_documents(
                root, columns=reading.columns or USUAL, encoding=reading.encoding, on_skip=self._leave_out
            ):
                self._adder.added.found += 1
                seen.add(document.id)
                yield document
        except FlatcoatError as error:
            errors.append(str(error))
            self._leave_out(str(root), str(error).removeprefix(f"{root}: "))

    def _remove_all_but(self, seen: SeenIds, source: Source) -> int:
        removed, last = 0, ""
        while names := self._store.names_of(source.key, after=last):
            removed += self._writer.remove_named(source.key, [name for name in names if name not in seen])
            last = names[-1]
        return removed

    def _sync_files(self, source: Source, root: Path) -> None:
        states = self._store.file_states(source.key)
        reading, closed = source.reading, list[str]()

        def leave_out(path: str, reason: str) -> None:
            self._leave_out(path, reason)
            if reason.startswith(UNREADABLE):
                closed.append("" if path == "." else path)

        listed = list_files(root, reading.include or (), exclude=reading.exclude or (), on_skip=leave_out)
        files = {file.name: file for file in listed}
        self._adder.added.found += len(files)
        # What cannot be read at the moment is not gone.
        gone = {
            name: state
            for name, state in states.items()
            if name not in files and not name.startswith(tuple(closed))
        }
        self._adder.carry_out(self._file_changes(source, states, files, gone), source.key)
        self._adder.added.removed += self._writer.remove_named(source.key, gone)

    def _file_changes(
        self,
        source: Source,
        states: dict[str, FileState],
        files: dict[str, File],
        gone: dict[str, FileState],
    ) -> Iterator[Change]:
        moved_from: dict[str, list[str]] = defaultdict(list)
        for name, state in gone.items():
            if not state.skipped:
                moved_from[state.digest].append(name)
        ids = Ids(self._store, source)
        encoding = source.reading.encoding
        for name, file in files.items():
            known = states.get(name)
            # What another charset made of a file is not what this one does.
            state = f"{file.state}:{encoding}" if file.state and encoding else file.state
            if known is not None and state and known.state == state:
                self._count(name, known)
                continue
            came = read_file(file, encoding=encoding)
            if isinstance(came, str):
                self._skip(name, came)
                if came.startswith(UNREADABLE) and known is not None and not known.skipped:
                    continue  # At the moment: what was read of it before stays.
                yield Change(ids.of(name), name=name, state=FileState(state, skipped=came))
                continue
            digest, id = _digest(came), ids.of(name)
            document = _called(came, id)
            change = Change(id, document, content_hash(document), name, FileState(state, digest))
            if known is not None and known.digest == digest and not known.skipped:
                self._adder.added.unchanged += 1
                yield change._replace(document=None)
            elif known is None and moved_from[digest]:
                yield change._replace(renamed_from=ids.of(moved_from[digest].pop()))
            else:
                yield change

    def _count(self, name: str, known: FileState) -> None:
        if known.skipped:
            self._skip(name, known.skipped)
        else:
            self._adder.added.unchanged += 1

    def _skip(self, path: str, reason: str) -> None:
        self._adder.added.skipped.append(Skip(path, reason))

    def _leave_out(self, path: str, reason: str) -> None:
        self._adder.added.found += 1
        self._skip(path, reason)


def found(root: object) -> Root:
    """What a user means by ``root``; FlatcoatError where there is nothing."""
    named = as_root(root)
    try:
        if isinstance(named, str) or named.exists():
            return named
    except OSError as error:
        raise FlatcoatError(f"{str(named)[:80]!a} cannot be read: {error.strerror}") from error
    raise FlatcoatError(f"{named} does not exist: give a folder, a file, rows or a BEIR folder")


def watched_places(store: "Store") -> list[Path]:
    """Where the files are that an index is to follow: those of sources of one's own that are there."""
    places = (place(store.path, source) for source in store.sources() if source.is_own)
    return [root for root in places if isinstance(root, Path) and root.exists()]


def _rows_state(root: Root) -> str:
    """That of the file of rows; "" for what has none."""
    if isinstance(root, str):
        return ""
    try:
        return file_state(rows_file(root).stat())
    except OSError:  # Reading it says what is wrong.
        return ""


def _called(document: Document, id: str) -> Document:
    """The document under its id in the index, which is its path, and its title unless it has one."""
    title = id if document.title == document.id else document.title
    return replace(document, id=id, title=title, metadata=document.metadata | {"path": id})


def _digest(document: Document) -> str:
    """Of the content alone, which stays the same where a file is renamed."""
    title = "" if document.title == document.id else document.title
    metadata = {key: value for key, value in document.metadata.items() if key != "path"}
    return content_hash(replace(document, title=title, metadata=metadata))


def changes(roots: Sequence[Path], index: Path, quiet_ms: int = 1_000) -> Iterator[None]:
    """Yield whenever something below ``roots`` has changed and then rested, what is in ``index`` aside.

    Raises FlatcoatError where watchfiles is not installed; ends with KeyboardInterrupt.
    """
    try:
        from watchfiles import watch
    except ImportError as error:
        raise FlatcoatError("--watch needs watchfiles: pip install flatcoat[watch]") from error
    own = index.resolve()

    def counts(change: object, path: str) -> bool:
        return not Path(path).is_relative_to(own)

    for _ in watch(*roots, watch_filter=counts, step=quiet_ms):
        yield
