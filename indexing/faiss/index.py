"""Dense search through FAISS (Douze et al. 2024, https://arxiv.org/abs/2401.08281).

A FAISS file covers the vectors of one commit. Later passages (the tail) are searched exactly, removed
passages are never found, and candidates are rescored by their vectors. Passages are in the order of their
rows here, so that equal scores by rising position are in the order of adding.

Axes: Q query vectors (one per query), F candidates of FAISS, N passages of the snapshot, M vectors of the
file, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple

import numpy as np

from flatcoat.errors import StorageError, UsageError
from flatcoat.indexing.exact import inner_products, unit_length
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.top_k import NOTHING, best, merge, top_k
from flatcoat.indexing.vectors import (
    Hits,
    Id,
    Shape,
    Vectors,
    require_count,
    require_finite,
    require_ids,
    require_queries,
)
from flatcoat.threads import pieces

from .build import build_faiss, read_faiss
from .rows import DenseRows
from .search import FaissSearch, Selection
from .settings import FaissSettings

_FEW = 2_000  # vectors whose exact search takes no longer than a search by FAISS
_KEPT = 1 << 27  # numbers of the tail kept in float32: 512 MiB
_TIED = 2_000  # candidates among which equal scores are put in order
_BATCH = 1 << 24  # numbers of candidates scored at once: 64 MiB


@dataclass(frozen=True)
class _Findable:
    """Positions in the snapshot that pass a filter: of passages in the FAISS file, and of the tail."""

    covered: np.ndarray
    selection: Selection
    tail: np.ndarray


class _Request(NamedTuple):
    """Requested search effort; None means the default of ``FaissSearch.effort``."""

    n_probe: int | None
    ef_search: int | None
    rescore: int


class _Candidates(NamedTuple):
    """FAISS's candidates for one query, best first: positions in the snapshot, scores, FAISS's own scores."""

    positions: np.ndarray
    scores: np.ndarray
    approximate: np.ndarray

    def best(self, k: int) -> Hits[int]:
        return best(self.positions, self.scores, k=k)

    def may_lack_equals(self, k: int, count: int) -> bool:
        """Whether FAISS may have left out a tie of the k-th: its score equals the last of ``count``."""
        if len(self.positions) < count:
            return False
        last = top_k(self.scores, self.positions, k=k)[-1]
        return bool(np.isclose(self.approximate[last], self.approximate[-1], rtol=1e-5))


class FaissIndex(Generic[Id]):
    """Finds nearly what exact search finds, by an approximate index of FAISS.

    >>> ids, vectors_ND = ["red", "green", "blue"], np.eye(3, dtype=np.float32)
    >>> index = FaissIndex.from_vectors(ids, vectors_ND, settings=FaissSettings("HNSW32"))
    >>> (hits,) = index.search(np.array([[0.1, 0.9, 0.5]], np.float32), k=2)
    >>> hits.ids
    ['green', 'blue']
    """

    def __init__(
        self, snapshot: Snapshot, ids: Sequence[Id] | None, *, index: Any, settings: FaissSettings
    ) -> None:
        """``index`` is of ``build_faiss``; ``ids`` are the names of the rows (None: hits name the rows)."""
        snapshot = _by_row(snapshot)
        self._snapshot, self._ids, self._settings = snapshot, ids, settings
        self._vectors = DenseRows(snapshot, settings.is_cosine)
        self._faiss = FaissSearch(index)
        if self.width not in (0, self._faiss.width):
            raise StorageError(
                f"FAISS file has width {self._faiss.width}, the vectors {self.width}: build it again"
            )
        self._position_M = self._positions(self._faiss.rows_M)
        self._place_N = np.full(len(snapshot), -1)
        self._place_N[self._position_M[self._position_M >= 0]] = np.flatnonzero(self._position_M >= 0)
        self._all = self._findable(None)
        small = len(self._all.tail) * self.width <= _KEPT
        self._tail = self._vectors.exact(self._all.tail) if small else None

    @staticmethod
    def from_snapshot(snapshot: Snapshot, path: Path, *, settings: FaissSettings) -> "FaissIndex[int]":
        """An index of a store and a file that ``write_faiss`` made of it, now or at an earlier commit.

        Its hits name passage rows. Raises StorageError where the file is missing, truncated or does not fit.
        """
        return FaissIndex[int](snapshot, None, index=read_faiss(path, settings), settings=settings)

    @staticmethod
    def from_vectors(
        ids: Sequence[str], vectors: np.ndarray, *, settings: FaissSettings
    ) -> "FaissIndex[str]":
        """An index in memory: ``ids[i]`` names vector ``i`` of ``vectors`` [N, D], which is row ``i``."""
        require_ids(ids, vectors)
        settings.validate(Shape.of(vectors).width)
        if not np.isfinite(vectors).all():
            raise UsageError("a vector holds NaN or infinity")
        rows = np.arange(len(ids))
        snapshot = Snapshot((vectors,), rows, np.zeros_like(rows), rows)
        index = build_faiss(DenseRows(snapshot, settings.is_cosine), rows, settings=settings)
        return FaissIndex[str](snapshot, ids, index=index, settings=settings)

    @property
    def width(self) -> int:
        """Components of one vector; 0 while the index is empty."""
        return self._vectors.width

    def __len__(self) -> int:
        return len(self._snapshot)

    @property
    def tail_fraction(self) -> float:
        """Share of the snapshot outside the FAISS file, which is searched exactly."""
        return len(self._all.tail) / max(len(self), 1)

    @property
    def removed_fraction(self) -> float:
        """Share of the FAISS file whose passages were removed."""
        return 1 - len(self._all.covered) / max(len(self._position_M), 1)

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        recall: float | None = None,
        n_probe: int | None = None,
        ef_search: int | None = None,
        rescore: int | None = None,
    ) -> list[Hits[Id]]:
        """The ``k`` best passages per query (all, if there are fewer); equal scores by order of adding.

        ``allowed`` (int64 rows; None: all) is a filter within the search; where it leaves few passages, they
        are scored exactly. ``n_probe`` inverted lists are read, ``ef_search`` candidates kept while walking a
        graph: a filter raises both. ``k * rescore`` candidates are rescored by their vectors, and up to 2,000
        while the last of them ties with the k-th: among more ties FAISS chooses. ``rescore`` 0 leaves scores
        and order to FAISS, which approximates them where it does not keep whole vectors. Raises as
        ``require_queries`` does, and UsageError for a ``recall``, for which FAISS is not calibrated.
        """
        if recall is not None:
            raise UsageError(
                "a FAISS index is not calibrated for a recall: search without one, or make the index with "
                "engine 'exact', which finds all of the best"
            )
        require_queries(queries, k, shape=Shape("dense", self.width) if self.width else None)
        request = self._request(n_probe, ef_search, rescore)
        if not self.width:
            return [self._named(NOTHING) for _ in range(len(queries))]
        queries_QD = self._prepared(np.asarray(queries))
        findable = self._all if allowed is None else self._findable(allowed)
        step = max(1, _BATCH // (k * max(1, request.rescore) * self.width))
        return [
            self._named(hits)
            for here in pieces(len(queries_QD), step)
            for hits in self._search(queries_QD[here], k, findable, request)
        ]

    def _prepared(self, queries_QD: np.ndarray) -> np.ndarray:
        queries_QD = np.ascontiguousarray(queries_QD, np.float32)
        return unit_length(queries_QD) if self._settings.is_cosine else queries_QD

    def _request(self, n_probe: int | None, ef_search: int | None, rescore: int | None) -> _Request:
        least = {"n_probe": 1, "ef_search": 1, "rescore": int(self._settings.is_binary)}
        for (name, lowest), value in zip(least.items(), (n_probe, ef_search, rescore), strict=True):
            if value is not None:
                require_count(name, value, least=lowest)
        return _Request(n_probe, ef_search, self._faiss.rescore if rescore is None else rescore)

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        """The positions of these rows in the snapshot, -1 for rows that are not in it."""
        rows_N = self._snapshot.rows
        if not len(rows_N):
            return np.full(len(rows), -1)
        positions = np.minimum(np.searchsorted(rows_N, rows), len(rows_N) - 1)
        return np.where(rows_N[positions] == rows, positions, -1)

    def _findable(self, allowed: np.ndarray | None) -> _Findable:
        allowed_N = np.full(len(self), allowed is None)
        if allowed is not None:
            positions = self._positions(allowed)
            allowed_N[positions[positions >= 0]] = True
        covered = np.flatnonzero(allowed_N & (self._place_N >= 0))
        mask_M = np.zeros(len(self._position_M), bool)
        mask_M[self._place_N[covered]] = True
        return _Findable(covered, self._faiss.select(mask_M), np.flatnonzero(allowed_N & (self._place_N < 0)))

    def _search(
        self, queries_QD: np.ndarray, k: int, findable: _Findable, request: _Request
    ) -> list[Hits[int]]:
        found = [NOTHING] * len(queries_QD)
        if len(findable.covered):
            found = self._search_covered(queries_QD, k, findable, request)
        if not len(findable.tail):
            return found
        if self._tail is None:
            return merge(found, self._vectors.nearest(queries_QD, k, positions=findable.tail), k=k)
        allowed = None if findable is self._all else findable.tail
        return merge(found, self._tail.search(queries_QD, k, allowed=allowed), k=k)

    def _search_covered(
        self, queries_QD: np.ndarray, k: int, findable: _Findable, request: _Request
    ) -> list[Hits[int]]:
        covered, selection = findable.covered, findable.selection
        # One candidate more than needed shows whether ties of the last one were left out.
        count = min(k * max(1, request.rescore) + 1, len(covered))
        effort = self._faiss.effort(
            count, selection.share, n_probe=request.n_probe, ef_search=request.ef_search
        )
        if selection.share < 1 and len(covered) <= max(_FEW, self._faiss.exact_up_to(effort)):
            return self._vectors.nearest(queries_QD, k, positions=covered)
        found, pending = [NOTHING] * len(queries_QD), np.arange(len(queries_QD))
        while len(pending):
            near = self._near(queries_QD[pending], count, selection, request)
            for query, candidates in zip(pending.tolist(), near, strict=True):
                found[query] = candidates.best(k)
            pending = pending[[candidates.may_lack_equals(k, count) for candidates in near]]
            if count >= min(_TIED, len(covered)):
                break
            count = min(4 * count, max(_TIED, count), len(covered))
        # Lists may hold too few passages, and parts of a graph may be unreachable.
        short = [query for query, hits in enumerate(found) if len(hits.ids) < min(k, len(covered))]
        if short:
            exact = self._vectors.nearest(queries_QD[short], k, positions=covered)
            for query, hits in zip(short, exact, strict=True):
                found[query] = hits
        return found

    def _near(
        self, queries_QD: np.ndarray, count: int, selection: Selection, request: _Request
    ) -> list["_Candidates"]:
        """Up to ``count`` candidates of FAISS per query."""
        effort = self._faiss.effort(
            count, selection.share, n_probe=request.n_probe, ef_search=request.ef_search
        )
        near = []
        for here in pieces(len(queries_QD), max(1, _BATCH // (count * self.width))):
            places_QF, approximate_QF = self._faiss.search(
                queries_QD[here], count, selection=selection, effort=effort
            )
            for query_D, places, approximate in zip(queries_QD[here], places_QF, approximate_QF, strict=True):
                approximate = approximate[places >= 0]
                positions = self._position_M[places[places >= 0]]
                scores = approximate
                if request.rescore:
                    scores = inner_products(self._vectors[positions], query_D)
                    require_finite(scores)
                near.append(_Candidates(positions, scores, approximate))
        return near

    def _named(self, hits: Hits[int]) -> Hits[Id]:
        rows = self._snapshot.rows[hits.ids].tolist()
        return Hits(rows if self._ids is None else [self._ids[row] for row in rows], hits.scores)


def _by_row(snapshot: Snapshot) -> Snapshot:
    order = np.argsort(snapshot.rows, kind="stable")
    places = snapshot.rows[order], snapshot.segment_of[order], snapshot.positions[order]
    return replace(snapshot, rows=places[0], segment_of=places[1], positions=places[2])
