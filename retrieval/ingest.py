"""Store the passages of documents: each batch is stored while the next is cut."""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, field, fields, replace
from itertools import chain, count
from queue import Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from flatcoat.indexing.documents import Document, Passage, checked, content_hash, normalized
from flatcoat.indexing.store.source_paths import label
from flatcoat.indexing.store.sources import Source, place

if TYPE_CHECKING:
    from flatcoat.indexing.reading.scan import FileState
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.store.writer import Writer

    from .chunking import Chunker

BATCH = 1_000
"""Passages committed together, first their text, later their vectors: a cut-off run loses at most as many."""

_IN_FLIGHT = 10
"""More batches than are ever waiting between comparison and commit."""


class Skip(NamedTuple):
    """A file or row that was not indexed, and why."""

    path: str
    reason: str


@dataclass
class Added:
    """Counts of one call: everything ``found`` is indexed (``documents``), unchanged, renamed or skipped.

    Documents with the content that is stored already are ``unchanged``. ``bytes`` is the size of the texts
    of ``passages``. ``encoded`` passages were given vectors, those that had been waiting included, and so
    many are ``waiting`` for them.
    """

    found: int = 0
    documents: int = 0
    passages: int = 0
    unchanged: int = 0
    renamed: int = 0
    removed: int = 0
    bytes: int = 0
    encoded: int = 0
    waiting: int = 0
    skipped: list[Skip] = field(default_factory=list)


def combined(one: Added, other: Added) -> Added:
    """The counts of two calls together.

    >>> combined(Added(found=1), Added(found=2, passages=3)).found
    3
    """
    return Added(*(getattr(one, name.name) + getattr(other, name.name) for name in fields(Added)))


Progress = Callable[[Added], None]
"""Called after each batch with the counts so far."""


class Change(NamedTuple):
    """A pending change to one document, with the file state committed alongside.

    A ``document`` is cut and stored, or takes over the vectors of the document ``renamed_from`` (an id).
    Without a ``document``, the one with this id stays as it is, or is removed if ``state`` says that its file
    is skipped. ``name`` is its name within its source.
    """

    id: str
    document: Document | None = None
    hash: str = ""
    name: str = ""
    state: "FileState | None" = None
    renamed_from: str | None = None


class Adder:
    """Carries out changes through one writer, with counts in ``added``; new passages have no vectors yet."""

    def __init__(
        self, writer: "Writer", *, chunker: "Chunker", on_progress: Progress = lambda added: None
    ) -> None:
        self.added = Added()
        self._writer = writer
        self._chunker = chunker
        self._on_progress = on_progress

    def carry_out(self, changes: Iterable[Change], *, source: int | None = None) -> None:
        """Carry out a stream of changes, all of one ``source`` (a key) or of none, one commit per batch."""
        with closing(ahead(_batches(self._chunked(changes)))) as batches:
            for batch in batches:
                self._write(batch, source)
                self._on_progress(self.added)

    def _chunked(self, changes: Iterable[Change]) -> "Iterator[_Chunked]":
        pairs = ((one, one.document if one.renamed_from is None else None) for one in changes)
        for change, passages in self._chunker.each(pairs):
            if change.document is None or change.renamed_from is not None or passages:
                yield _Chunked(change, passages)
                continue
            self.added.skipped.append(Skip(change.id, "empty"))
            state = change.state and change.state._replace(skipped="empty")
            yield _Chunked(change._replace(state=state), passages)

    def _write(self, batch: "list[_Chunked]", source: int | None) -> None:
        self._remove_textless(batch)
        for change, _ in batch:
            if change.renamed_from is not None and change.document is not None:
                self._writer.rename(change.renamed_from, change.document, hash=change.hash, name=change.name)
                self.added.renamed += 1
        if passages := [passage for chunked in batch for passage in chunked.passages]:
            hashes = {change.id: change.hash for change, _ in batch}
            names = {change.id: change.name for change, _ in batch}
            self._writer.add(passages, None, hashes=hashes, source=source, names=names)
            self.added.passages += len(passages)
            self.added.documents += sum(bool(chunked.passages) for chunked in batch)
            self.added.bytes += sum(len(passage.text.encode()) for passage in passages)
        if source is not None:
            states = ((change.name, change.state) for change, _ in batch if change.state is not None)
            self._writer.remember(source, states)
        self._writer.commit()

    def _remove_textless(self, batch: "list[_Chunked]") -> None:
        """Remove documents without text, or whose file is skipped now."""
        self._writer.remove(
            change.id
            for change, passages in batch
            if not passages
            and change.renamed_from is None
            and (change.document is not None or (change.state is not None and change.state.skipped))
        )


class _Chunked(NamedTuple):
    change: Change
    passages: list[Passage]


def _batches(chunked: Iterable[_Chunked]) -> Iterator[list[_Chunked]]:
    """Batches of about BATCH passages; a repeated id starts a new batch, which replaces the old document."""
    batch: list[_Chunked] = []
    ids: set[str] = set()
    size = 0
    for one in chunked:
        if batch and (size + len(one.passages) > BATCH or len(batch) == BATCH or one.change.id in ids):
            yield batch
            batch, ids, size = [], set(), 0
        batch.append(one)
        ids.add(one.change.id)
        size += len(one.passages)
    if batch:
        yield batch


class Ids:
    """The ids in an index of the documents of a source, which have names within the source.

    An id is the prefix of the source and the name. If another document has that id, the label of the source
    takes the place of the prefix, so that both documents are kept.
    """

    def __init__(self, store: "Store", source: Source) -> None:
        self._store, self._source = store, source
        self._given: set[str] = set()

    def of(self, name: str) -> str:
        """The id of a document; a new document gets a free one."""
        stored = self._store.document(self._source.key, name)
        return stored.id if stored else self.new(name)

    def new(self, name: str) -> str:
        """An id that neither a stored document has nor one that got its id here."""
        plain = normalized(name)
        usual = self._source.prefix + plain
        mine = label(place(self._store.path, self._source))
        others = (f"{mine}{f'-{number}' if number > 1 else ''}/{plain}" for number in count(1))
        id = next(id for id in chain([usual], others) if id not in self._given and not self._store.holds(id))
        self._given.add(id)
        return id


class Comparison:
    """Tells which documents an index lacks, or holds with other content.

    Documents of a ``source`` of rows go by their ids there.
    """

    def __init__(self, store: "Store", added: Added, *, source: Source | None = None) -> None:
        self._store, self._added = store, added
        self._key = source.key if source else None
        self._ids = Ids(store, source) if source else None
        # Hashes of the last documents, which may not have been committed yet.
        self._pending: OrderedDict[str, str] = OrderedDict()

    def change(self, document: Document) -> Change | None:
        """The change that stores a document, or None if it is unchanged. Raises as ``checked`` does."""
        document = checked(document)
        name = document.id
        id, stored = self._store.document(self._key, name) or ("", "")
        if self._ids:
            document = replace(document, id=id or self._ids.new(name))
        digest = content_hash(document)
        if self._pending.get(name, stored) == digest:
            self._added.unchanged += 1
            return None
        self._pending[name] = digest
        if len(self._pending) > _IN_FLIGHT * BATCH:
            self._pending.popitem(last=False)
        return Change(document.id, document, digest, name)


def new_or_changed(documents: Iterable[Document], store: "Store", *, added: Added) -> Iterator[Change]:
    """Changes for the documents that the index lacks or holds with other content; all count as found."""
    comparison = Comparison(store, added)
    for document in documents:
        added.found += 1
        if change := comparison.change(document):
            yield change


T = TypeVar("T")
_CHECK_SECONDS = 0.1


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def ahead(items: Iterable[T], count: int = 2) -> Generator[T]:
    """The same items, up to ``count`` of them prepared ahead of the caller by another thread.

    An error of ``items`` is raised here, after the items before it. If the caller stops early, the thread
    stops at its next item.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    queue: Queue[object] = Queue(count)
    stopped = Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=_CHECK_SECONDS)
            except Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(_Raised(error))

    # In the context of the caller: a thread that adds documents while it makes them must not wait for itself.
    thread = Thread(target=copy_context().run, args=[run], name="flatcoat-ahead", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
