"""Keep an index in step with folders and files: read changes, encode new content, remove deleted documents.

``scan`` says what changed in a source; ``Sync`` turns that into changes of the index, which ``Adder`` carries
out. ``changes`` waits for the next change below folders (watchfiles).
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.errors import MissingExtraError, NotFoundError
from flatcoat.indexing.reading.columns import USUAL
from flatcoat.indexing.reading.scan import (
    FileState,
    Finished,
    Gone,
    Read,
    Scanned,
    Skipped,
    Unchanged,
    scan,
)
from flatcoat.indexing.store.source_paths import Root, as_root, is_folder
from flatcoat.indexing.store.sources import Reading, Source, place

from .freshness import watched_state
from .ingest import Adder, Change, Comparison, Ids, Skip

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.store.writer import Writer


_CHARACTERS_PER_SECOND = 200_000
"""Text that is read, cut and stored in a second, with some to spare."""


class Sync:
    """Brings the documents of sources up to date. A source that cannot be read is skipped, and stays.

    What is not done by ``until``, a time of ``time.monotonic``, is left to another time: ``is_cut_off`` says
    that there is something.
    """

    def __init__(self, store: "Store", writer: "Writer", *, adder: Adder, until: float = math.inf) -> None:
        self._store = store
        self._writer = writer
        self._adder = adder
        self._until = until
        self._folders_left_out: set[str] = set()
        self.is_cut_off = False

    def all_sources(self, reading: Reading) -> Iterator[Source]:
        """The sources that can be read again; ``reading`` replaces the options that they remember.

        Standard input cannot be read again. A source that another user named, or this user on another
        machine, is not read unasked: an index from elsewhere may name any file. NotFoundError if there is no
        source.
        """
        sources = [source for source in self._store.sources() if source.path != "-"]
        if not sources:
            raise NotFoundError(
                f"index {self._store.path} has no folder or file to bring up to date: name one"
            )
        for source in sources:
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
        root, reading, began_ns = place(self._store.path, source), source.reading, time.time_ns()
        self._folders_left_out.clear()
        if isinstance(root, Path) and not root.exists():
            self._leave_out(str(root), "does not exist any more; its documents stay until flatcoat forget")
            return
        scanned = scan(
            root,
            _Known(self._store, source),
            include=reading.include or (),
            exclude=reading.exclude or (),
            hidden=bool(reading.hidden),
            columns=reading.columns or USUAL,
            encoding=reading.encoding,
        )
        last: list[Gone | Finished] = []
        self._adder.carry_out(self._changes(source, scanned, last), source=source.key)
        for item in chain(last, scanned):
            if isinstance(item, Gone):
                self._adder.added.removed += self._writer.remove_named(source.key, item.names)
            elif isinstance(item, Finished) and not self.is_cut_off:
                self._writer.finish_source(source, item.state)
        if is_folder(root) and not self.is_cut_off:
            watched = watched_state(Path(root), self._folders_left_out, began_ns=began_ns)
            self._writer.finish_source(source, watched)

    def _changes(
        self, source: Source, scanned: Generator[Scanned], last: list[Gone | Finished]
    ) -> Iterator[Change]:
        """The changes that a scan asks for, up to its first item that is none, which goes to ``last``."""
        added, ids = self._adder.added, Ids(self._store, source)
        rows = Comparison(self._store, added, source=source)
        for item in scanned:
            if time.monotonic() > self._until:
                self.is_cut_off = True
                last.clear()
                scanned.close()
                return
            match item:
                case Gone() | Finished():
                    last.append(item)
                    return
                case Unchanged():
                    added.found += item.documents
                    added.unchanged += item.documents
                    if item.state:
                        yield Change(ids.of(item.name), name=item.name, state=item.state)
                case Skipped():
                    self._leave_out(item.name, item.reason)
                    if item.name.endswith("/"):
                        self._folders_left_out.add(item.name)
                    if item.state:
                        yield Change(ids.of(item.name), name=item.name, state=item.state)
                case Read() if self._is_too_long(item):
                    self.is_cut_off = True
                case Read():
                    added.found += 1
                    change = _file_change(item, item.state, ids) if item.state else rows.change(item.document)
                    if change:
                        yield change

    def _is_too_long(self, read: Read) -> bool:
        """Whether a text would take longer than there is time."""
        seconds = len(read.document.text) / _CHARACTERS_PER_SECOND
        return read.moved_from is None and time.monotonic() + seconds > self._until

    def _leave_out(self, path: str, reason: str) -> None:
        self._adder.added.found += 1
        self._adder.added.skipped.append(Skip(path, reason))


class _Known:
    """What an index holds of a source, as ``scan`` compares it."""

    def __init__(self, store: "Store", source: Source) -> None:
        self._store, self._key = store, source.key
        self.state = source.state

    def files(self) -> Mapping[str, FileState]:
        return self._store.file_states(self._key)

    def count(self) -> int:
        return self._store.count_of(self._key)

    def names(self, after: str) -> Sequence[str]:
        return self._store.names_of(self._key, after=after)


def _file_change(file: Read, state: FileState, ids: Ids) -> Change:
    """A file as a document under its id in the index, which is its path, and its title unless it has one."""
    id, document = ids.of(file.name), file.document
    title = id if document.title == document.id else document.title
    document = replace(document, id=id, title=title, metadata=document.metadata | {"path": id})
    renamed_from = None if file.moved_from is None else ids.of(file.moved_from)
    return Change(id, document, state.digest, file.name, state, renamed_from)


def existing_root(root: object) -> Root:
    """The place or name that a user means by ``root``; NotFoundError if there is nothing."""
    named = as_root(root)
    try:
        if isinstance(named, str) or named.exists():
            return named
    except OSError as error:
        raise NotFoundError(f"{str(named)[:80]!a} cannot be read: {error.strerror}") from error
    raise NotFoundError(f"{named} does not exist: give a folder, a file, rows or a BEIR folder")


def watched_places(store: "Store") -> list[Path]:
    """The folders and files to watch for an index: the existing sources that this user named."""
    places = (place(store.path, source) for source in store.sources() if source.is_own)
    return [root for root in places if isinstance(root, Path) and root.exists()]


def changes(roots: Sequence[Path], index: Path, *, quiet_ms: int = 1_000) -> Iterator[None]:
    """Yield after changes below ``roots`` (``index`` aside), once nothing has changed for ``quiet_ms``.

    Raises MissingExtraError if watchfiles is not installed; ends with KeyboardInterrupt.
    """
    try:
        from watchfiles import watch
    except ImportError as error:
        raise MissingExtraError("--watch needs watchfiles: pip install flatcoat[watch]") from error
    own = index.resolve()

    def counts(change: object, path: str) -> bool:
        return not Path(path).is_relative_to(own)

    for _ in watch(*roots, watch_filter=counts, step=quiet_ms):
        yield
