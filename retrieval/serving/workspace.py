"""A folder and its index: one thread makes it and keeps it in step with the files, one gives it vectors.

An answer never waits for a model: BM25 ranks until the model that encodes queries is loaded and most passages
have vectors. It waits for the comparison with the files, within limits; the encoding does not hold that up.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError, UsageError
from flatcoat.indexing.filters.condition import Condition as Filter
from flatcoat.retrieval.discovery import (
    FOLDER,
    find_index,
    is_in_place,
    make_folder,
    repository_of,
    take_over,
)
from flatcoat.retrieval.ingest import BATCH
from flatcoat.retrieval.results import Mode, Result

if TYPE_CHECKING:
    from flatcoat.indexing.documents import Passage
    from flatcoat.retrieval.retriever import Retriever

_log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""An answer waits at most as long for the comparison of an index with its files."""

_UNCOMPRESSED = 8_000
"""Passages whose vectors as they come are compared with a query in some tenths of a second."""

_FIRST_SECONDS = 40.0  # from the start, for the texts of an index to be made: clients give up after 60


class State(NamedTuple):
    """What an answer is worth.

    ``is_fresh`` says that the index was just compared with the files, ``is_complete`` that it was so once
    since the start; ``problem`` is that of the last comparison.
    """

    is_fresh: bool
    is_complete: bool
    problem: str


class Workspace:
    """The index of ``folder``: ``index``, or the ``.flatcoat`` that is found from there, or made at the root.

    An answer waits ``patience`` seconds at most for the comparison of the index with the files, but longer
    for the first one, in the first seconds of the workspace. Threads may share it. Its own threads end with
    the process, or by ``close``; what they have written is whole whenever they end.
    """

    def __init__(self, folder: Path, index: Path | None = None, *, patience: float = FRESH_SECONDS) -> None:
        self.folder = folder.resolve()
        if not self.folder.is_dir():
            raise NotFoundError(f"{folder} is no folder: give the folder to search in")
        self._patience, self._is_found = patience, index is None
        self._first_until = monotonic() + _FIRST_SECONDS
        self.root = repository_of(self.folder) or self.folder
        self.index = index or find_index(self.folder) or self.root / FOLDER
        self.retriever: Retriever | None = None
        self._changed = Condition()
        self._asked = self._compared = 0
        self._is_behind = self._is_complete = self._is_warm = self._is_closed = False
        self._has_new_texts = False
        self._unnamed: list[Path] = []  # Roots that are not sources of the index yet.
        self._problem = ""
        self._threads = [
            Thread(target=work, name=f"flatcoat{work.__name__}", daemon=True)
            for work in (self._keep_in_step, self._keep_encoded)
        ]
        for thread in self._threads:
            thread.start()

    def close(self, *, within: float | None = None) -> bool:
        """End the threads after the batch that is being encoded; False where it takes longer than ``within``.

        What they have written is whole even where they are cut off.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(within)
        if any(thread.is_alive() for thread in self._threads):
            return False
        if self.retriever:
            self.retriever.close()
        return True

    def bring_up_to_date(self) -> State:
        """Compare the index with the files; returns early where that takes long."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            first = 0 if self._is_complete else self._first_until - monotonic()
            self._changed.wait_for(lambda: self._compared >= mine, max(self._patience, first))
            is_fresh = self._compared >= mine and not self._is_behind
            return State(is_fresh, self._is_complete, self._problem)

    @property
    def mode(self) -> Mode:
        """How an answer is ranked now: by BM25 until there is a model for queries, and while much is encoded.

        Vectors are compressed when all are there: until then every one is compared with the query.
        """
        return "hybrid" if self._is_warm and not self._is_encoding_much() else "bm25"

    def _is_encoding_much(self) -> bool:
        passages, of = self.opened().store.encoded()
        return passages > _UNCOMPRESSED and of - passages > of / 20

    def opened(self) -> "Retriever":
        """The index; NotFoundError where there is none yet, with the problem if there is one."""
        if self.retriever is None:
            raise NotFoundError(self._problem or f"the index of {self.root} is being made: ask again soon")
        return self.retriever

    def search(self, query: str, k: int, *, below: str = "") -> list[Result]:
        """The best passages, of the files ``below`` a folder or of one file where it is given."""
        where = [Filter("path", "^=", below)] if (below := self._id_prefix(below)) else []
        return self.opened().search(query, k, where=where, mode=self.mode, best_lines=True)

    def related(self, passage: "Passage", k: int) -> list[Result]:
        """The passages most like one, without itself.

        The signals for code would take each of its words for the name of what is looked for.
        """
        found = self.opened().search(passage.searchable, k + 1, mode=self.mode, best_lines=True, signals=())
        own = (passage.document_id, passage.lines)
        return [result for result in found if (result.document_id, result.lines) != own][:k]

    def passage(self, path: str, line: int) -> "Passage":
        """The passage around a line of a file; NotFoundError where there is none."""
        store = self.opened().store
        id = store.document_in(self.file(path)) or path
        passages = store.passages(store.rows_where(Filter("path", "=", id)))
        if not passages:
            raise NotFoundError(f"{path} is not in the index: name a file as a result of search does")
        return min(passages, key=lambda passage: _distance(passage.lines, line))

    def file(self, path: str) -> Path:
        """A path as the caller means it: from the folder, else from the root of the repository."""
        here = self.folder / path
        return here if here.exists() else self.root / path

    def skipped(self) -> Counter[str]:
        """How many files of the folder were not indexed, by the reason."""
        store = self.opened().store
        states = (state for source in store.sources() for state in store.file_states(source.key).values())
        return Counter(state.skipped for state in states if state.skipped)

    def shown(self, ids: list[str]) -> dict[str, str]:
        """The paths of documents as the caller opens them, by id: from the folder where they are below it."""
        files = self.opened().store.files_of(ids)
        return {id: self._shown(files[id].path) if id in files else id for id in ids}

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def _id_prefix(self, below: str) -> str:
        """The beginning of the ids of the documents below a folder, or the id of that of a file."""
        if below in ("", ".", "./"):
            return ""
        path, store = self.file(below), self.opened().store
        if path.is_file():
            return store.document_in(path) or below
        from flatcoat.indexing.store.sources import name_of

        for source in store.sources():
            name = name_of(store.path, source, path.resolve() / "x")
            if name is not None:
                return f"{source.prefix}{name}".removesuffix("x")
        raise UsageError(f"{below} is not in {self.root}: name a folder or file of it")

    def _keep_in_step(self) -> None:
        """The work of the first thread: compare the index with the files, at once and whenever asked to."""
        while not self._is_closed:
            with self._changed:
                asked = self._asked
            is_behind = not self._attempt(self._compare)
            with self._changed:
                self._is_behind, self._compared, self._has_new_texts = is_behind, asked, True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._asked > self._compared or self._is_closed)

    def _keep_encoded(self) -> None:
        """The work of the second thread: load the model, and encode what has no vectors."""
        while not self._is_closed:
            with self._changed:
                self._changed.wait_for(lambda: self._has_new_texts or self._is_closed)
                self._has_new_texts = False
            self._attempt(self._warm_up_and_encode)

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Take a step; False where it failed, which the next answer tells."""
        try:
            step()
            return True
        except ConflictError as error:
            if self.retriever is None:
                self._problem = str(error)
            _log.info("another process writes the index: %s", error)
        except FlatcoatError as error:
            self._problem = str(error)
            _log.warning("%s", error)
        except Exception as error:  # The thread must go on: its searches say what is wrong.
            self._problem = f"{type(error).__name__}: {error}"
            _log.exception("index %s cannot be brought up to date", self.index)
        return False

    def _compare(self) -> None:
        """Open or make the index, and bring its texts up to date."""
        if self.retriever is None:
            self.retriever, self._unnamed = self._open_or_create()
        added = self.retriever.add_files(*self._unnamed, vectors=False)
        self._unnamed, self._problem, self._is_complete = [], "", True
        _log.info("%d documents added, %d removed", added.documents, added.removed)

    def _open_or_create(self) -> "tuple[Retriever, list[Path]]":
        """The index, and the roots to name, none where it has its sources."""
        from flatcoat.retrieval.retriever import Retriever

        if not (self.index / "index.sqlite").is_file():
            if self._is_found:
                self._require_project()
                make_folder(self.index)
            return Retriever.create(self.index), [self.root if self._is_found else self.folder]
        retriever = Retriever.open(self.index)
        moved = self._is_found and not is_in_place(retriever.store)
        if moved:
            take_over(retriever.store)  # Which refuses that of another user.
        return retriever, [self.index.parent] if moved or not retriever.store.sources() else []

    def _require_project(self) -> None:
        """UsageError for a home folder, or one that holds it: an agent was started there, to no purpose."""
        home = Path.home().resolve()
        if self.root == home or self.root in home.parents:
            raise UsageError(
                f"{self.root} is no project, and is not indexed unasked: start in the folder of one, or run "
                "flatcoat mcp PATH"
            )

    def _warm_up_and_encode(self) -> None:
        retriever = self.retriever
        if retriever is None or not retriever.has_model or self._is_closed:
            return
        if not self._is_warm:
            retriever.query_encoder.encode_queries(["warm up"])
            self._is_warm = True
        store = retriever.store
        while not (self._is_closed or store.encoded().is_complete):
            # The lock of the writer is free while a batch is encoded, for a comparison with the files.
            with store.writer() as writer:
                segment, *others = writer.without_vectors(BATCH)
            vectors = retriever.encoder.encode_documents(
                [one.searchable for one in store.passages_of(segment)]
            )
            with suppress(ConflictError), store.writer() as writer:  # Passages may have changed meanwhile.
                writer.add_vectors(segment, vectors)
                if not others:
                    writer.compact(full=False)


def _distance(lines: tuple[int, int], line: int) -> int:
    first, last = lines
    return 0 if first <= line <= last else min(abs(first - line), abs(last - line))
