"""PLAID: late-interaction search over coded token vectors (Santhanam et al. 2022), in bytes throughout.

1. Score every centroid with every query token.
2. Select candidates by centroid interaction: MaxSim with every passage token replaced by its centroid. In
   large collections this is limited to the passages that inverted lists rank first, by WARP's imputed scores
   (Scheerer et al. 2025).
3. Score the candidates by their residuals, straight from the codes.

Axes: N passages, T passage tokens, Q query tokens, G panels of C = 32 of them, K centroids, B bytes of
codes per token, P width padded to whole bytes of codes.
"""

from collections.abc import Sequence
from functools import cached_property, partial, reduce
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from flatcoat.errors import ConflictError
from flatcoat.indexing.segments import LISTS_FROM_TOKENS, MOST_PASSAGES, CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.top_k import top_k
from flatcoat.indexing.vectors import (
    CodedTokens,
    Hits,
    Id,
    Shape,
    TokenVectors,
    Vectors,
    require_count,
    require_finite,
    require_ids,
    require_queries,
)
from flatcoat.threads import cores, pieces
from flatcoat.threads import spread as on_all_cores

from .codec import Codec, sample_size
from .operating_points import CALIBRATED_K, THOROUGH, Work, cheapest
from .parts import Part, Spread, best_passages, in_turn, parts_of, score_each
from .sampling import content_keys

if TYPE_CHECKING:
    from .query import ScoredQuery

N_PROBE = 16
"""Centroids per query token whose inverted lists are read."""

_CANDIDATES, _CANDIDATES_PER_RESULT = 160, 5
"""Passages scored by their residuals: the first number, and the second per result."""

_SCANNED_TOKENS = 1 << 21
"""Tokens up to which centroid interaction takes no longer than reading inverted lists."""

_LISTED = 32
"""Passages taken from the inverted lists per candidate."""

_TOKENS_PER_TASK = 8
"""Query tokens whose lists one task sums up: fixed, as the last bits of the sums depend on it."""

_MIN_RESIDUAL_CHUNK, _MIN_CENTROID_CHUNK = 16, 2_048
"""Passages per task at least: scoring fewer takes less time than handing them to another core."""


class Settings(NamedTuple):
    """Search effort: inverted lists read per query token, and passages scored by their residuals."""

    n_probe: int
    n_candidates: int


class PlaidIndex(Generic[Id]):
    """Finds nearly what exact search finds, in a fraction of its time and memory.

    >>> vectors = TokenVectors.from_list([np.eye(8, dtype=np.float32)[i : i + 2] for i in range(4)])
    >>> index = PlaidIndex.from_vectors(["a", "b", "c", "d"], vectors)
    >>> (hits,) = index.search(TokenVectors.from_list([vectors[2]]), k=1)
    >>> hits.ids
    ['c']
    """

    def __init__(self, snapshot: Snapshot, ids: Sequence[Id] | None) -> None:
        """``ids`` are the names of the rows (None: hits name the rows themselves)."""
        if snapshot.codec is None:
            raise ConflictError("this snapshot has no codec: compact the index with engine plaid first")
        self._codec = snapshot.codec
        self._snapshot = snapshot
        self._ids = ids
        self._parts = list(parts_of(snapshot, snapshot.codec))
        self._sizes_N = np.concatenate(
            [np.diff(part.coded.offsets)[part.passages] for part in self._parts] or [np.zeros(0, np.int64)]
        )
        self._all_tokens = int(self._sizes_N.sum())
        self._all_have_tokens = bool((self._sizes_N > 0).all())

    @staticmethod
    def from_snapshot(snapshot: Snapshot) -> "PlaidIndex[int]":
        """An index of a store with coded segments; its hits name passage rows."""
        return PlaidIndex[int](snapshot, None)

    @staticmethod
    def from_vectors(
        ids: Sequence[str], vectors: TokenVectors, *, bits: int = 4, centroids: int | None = None
    ) -> "PlaidIndex[str]":
        """An index in memory: ``ids[i]`` names token matrix ``i``. UsageError where there are no tokens."""
        require_ids(ids, vectors)
        tokens = len(vectors.values_TD)
        size = sample_size(tokens, centroids)
        sample = np.argsort(content_keys([vectors.values_TD], vectors.offsets), kind="stable")[:size]
        codec = Codec.train(vectors.values_TD[sample], tokens, bits=bits, centroids=centroids)
        segments = tuple(_coded_segment(codec, vectors, here) for here in pieces(len(ids), MOST_PASSAGES))
        rows = np.arange(len(ids), dtype=np.int64)
        snapshot = Snapshot(segments, rows, rows // MOST_PASSAGES, rows % MOST_PASSAGES, codec=codec)
        return PlaidIndex[str](snapshot, ids)

    @cached_property
    def _scorer(self) -> Any:
        """What scores a query with every centroid, for ``_interact`` and ``_score``."""
        from .query import QueryScorer

        return QueryScorer(self._codec)

    @cached_property
    def _levels(self) -> np.ndarray:
        """The levels + 128 of each possible byte of codes, side by side in one number."""
        levels = (self._codec.levels_of_bytes.astype(np.int16) + 128).astype(np.uint8)
        return levels.view(f"uint{8 * levels.shape[1]}")[:, 0]

    @property
    def width(self) -> int:
        """Components of one vector."""
        return self._codec.width

    @property
    def bytes(self) -> int:
        """Bytes that searches read: segments, inverted lists and codec."""
        arrays = [array for part in self._parts for array in (*part.coded, *(part.lists or ()))]
        return sum(array.nbytes for array in arrays) + self._codec.centroids_KP.nbytes

    @property
    def reads_lists(self) -> bool:
        """Whether inverted lists preselect passages, as in large collections."""
        return self._all_tokens > _SCANNED_TOKENS and any(part.lists for part in self._parts)

    def __len__(self) -> int:
        return len(self._snapshot)

    def sample_tokens(self, position: int, count: int, *, random: np.random.Generator) -> np.ndarray:
        """``count`` random decoded tokens [count, D] of the passage at ``position``; none of an empty one."""
        part = next(part for part in self._parts if position <= part.positions[-1])
        codes_T, residuals_TB, scales_T2, offsets = part.coded
        first, last = offsets[part.passages[position - part.positions[0]] :][:2]
        drawn = random.integers(first, last, count) if last > first else np.zeros(0, np.int64)
        parts = codes_T[drawn], residuals_TB[drawn], scales_T2[drawn]
        return self._codec.decode(CodedTokens(*parts, np.array([0, len(drawn)]))).values_TD

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        recall: float | None = None,
        n_probe: int | None = None,
        n_candidates: int | None = None,
    ) -> list[Hits[Id]]:
        """The ``k`` best passages per query, best first; equal scores by order of adding.

        ``allowed`` (int64 rows; None: all) is a filter before scoring. ``n_candidates`` passages are scored
        by their residuals; in large collections ``n_probe`` inverted lists are read per query token.
        ``recall`` sets both to the cheapest operating point that reached this recall@10 in the calibration.
        Passages without tokens are never found, queries without tokens find nothing. Raises as
        ``require_queries`` does, and UsageError where ``recall`` is out of reach.
        """
        require_queries(queries, k, shape=Shape("token", self.width))
        assert isinstance(queries, TokenVectors)
        settings = self._settings(k, recall, n_probe, n_candidates)
        parts = self._eligible(allowed)
        # Many queries: one core per query. Few: all cores per query.
        is_many = len(queries) >= 2 * cores()
        find = partial(
            self._find, k=k, parts=parts, settings=settings, spread=in_turn if is_many else on_all_cores
        )
        return (on_all_cores if is_many else in_turn)(find, queries)

    def _settings(
        self, k: int, recall: float | None, n_probe: int | None, n_candidates: int | None
    ) -> Settings:
        for name, value in (("n_probe", n_probe), ("n_candidates", n_candidates)):
            if value is not None:
                require_count(name, value)
        probes, candidates = N_PROBE, _CANDIDATES + _CANDIDATES_PER_RESULT * k
        if recall is not None:
            candidates = len(self)
            if len(self) > THOROUGH:
                point = cheapest(self._snapshot.calibration, recall)
                probes, candidates = point.n_probe, point.n_candidates * max(1, k // CALIBRATED_K)
        return Settings(n_probe or probes, max(n_candidates or candidates, k))

    def _eligible(self, allowed: np.ndarray | None) -> list[Part]:
        """The parts, restricted to allowed passages that have a token."""
        if allowed is None and self._all_have_tokens:
            return self._parts
        keep_N = self._sizes_N > 0
        if allowed is not None:
            keep_N &= np.isin(self._snapshot.rows, allowed)
        found = [part.only(np.flatnonzero(keep_N[part.positions])) for part in self._parts]
        return [part for part in found if len(part.positions)]

    def work(self, query_QD: np.ndarray, *, n_probe: int, n_candidates: int) -> Work:
        """The work of a search of this effort for one query: counted, so equal on any machine."""
        parts, settings = self._eligible(None), Settings(n_probe, n_candidates)
        if not parts or not len(query_QD):
            return Work(0, 0, 0)
        with self._scorer.scored(query_QD, on_all_cores) as query:
            entries, preselected = 0, self._preselected(query, parts, settings, on_all_cores)
            if self.reads_lists:
                probed = query.nearest(n_probe, len(self._codec.centroids_KP)).centroids
                ends = [part.lists.offsets.astype(np.int64) for part in parts if part.lists]
                entries = sum(int((of_part[probed + 1] - of_part[probed]).sum()) for of_part in ends)
            candidates = self._candidates(query, preselected, settings, on_all_cores)
            panels = len(query.scores_GKC)
        interacted = 0 if candidates is preselected else self._tokens(preselected)
        return Work(entries, interacted * panels, self._tokens(candidates) * panels)

    def _find(
        self, query_QD: np.ndarray, k: int, parts: list[Part], settings: Settings, spread: Spread
    ) -> Hits[Id]:
        if not parts or not len(query_QD):
            return Hits([], np.zeros(0, np.float32))
        with self._scorer.scored(query_QD, spread) as query:
            parts = self._preselected(query, parts, settings, spread)
            parts = self._candidates(query, parts, settings, spread)
            score = partial(self._score, query=query)
            scores_N = np.concatenate(
                score_each(parts, np.float32, kernel=score, spread=spread, min_chunk=_MIN_RESIDUAL_CHUNK)
            )
        require_finite(scores_N)
        rows_N = np.concatenate([part.rows for part in parts])
        order = top_k(scores_N, rows_N, k=k)
        rows = rows_N[order].tolist()
        return Hits(rows if self._ids is None else [self._ids[row] for row in rows], scores_N[order])

    def _preselected(
        self, query: "ScoredQuery", parts: list[Part], settings: Settings, spread: Spread
    ) -> list[Part]:
        """The passages to score by their centroids: of large collections, the best by inverted lists."""
        if self._tokens(parts) <= _SCANNED_TOKENS:
            return parts
        listed = [part for part in parts if part.lists]
        others = [part for part in parts if not part.lists]
        return others + (self._from_lists(listed, query, settings, spread) if listed else [])

    def _candidates(
        self, query: "ScoredQuery", parts: list[Part], settings: Settings, spread: Spread
    ) -> list[Part]:
        """The passages to score by their residuals: the best by their centroids."""
        if sum(len(part.positions) for part in parts) <= settings.n_candidates:
            return parts
        totals = score_each(
            parts,
            np.int32,
            kernel=partial(self._interact, query=query),
            spread=spread,
            min_chunk=_MIN_CENTROID_CHUNK,
        )
        return best_passages(parts, totals, count=settings.n_candidates)

    def _tokens(self, parts: list[Part]) -> int:
        if parts is self._parts:
            return self._all_tokens
        return sum(int(self._sizes_N[part.positions].sum()) for part in parts)

    def _from_lists(
        self, parts: list[Part], query: "ScoredQuery", settings: Settings, spread: Spread
    ) -> list[Part]:
        """The passages that the inverted lists of the nearest centroids rank first."""
        from .kernels import list_scores

        nearest = query.nearest(settings.n_probe, len(self._codec.centroids_KP))
        shares = list(pieces(query.tokens, _TOKENS_PER_TASK))

        def totals(work: tuple[Part, slice]) -> np.ndarray:
            part, share = work
            totals_N = np.zeros(len(part.coded.offsets) - 1, np.float32)
            assert part.lists is not None
            list_scores(part.lists, nearest.centroids[share], nearest.scores[share], totals_N)
            return totals_N

        partial_sums = spread(totals, [(part, share) for part in parts for share in shares])
        summed = [
            reduce(np.add, partial_sums[here])[part.passages]
            for part, here in zip(parts, pieces(len(partial_sums), len(shares)), strict=True)
        ]
        return best_passages(parts, summed, count=_LISTED * settings.n_candidates)

    def _interact(self, part: Part, scores: np.ndarray, query: Any) -> None:
        """Fill ``scores`` (int32) with the passages' centroid interaction."""
        from .kernels import interact

        interact(part.coded.codes_T, part.coded.offsets, part.passages, query.table_GKC, scores)

    def _score(self, part: Part, scores: np.ndarray, query: Any) -> None:
        """Fill ``scores`` (float32) with the passages' scores by their residuals."""
        from .kernels import residual_scores

        levels, scales = self._levels, self._codec.scales
        residual_scores(part.coded, part.passages, query.scores_GKC, query.columns, levels, scales, scores)


def _coded_segment(codec: Codec, vectors: TokenVectors, here: slice) -> CodedSegment:
    bounds = vectors.offsets[here.start : here.stop + 1]
    coded = codec.encode(TokenVectors(vectors.values_TD[bounds[0] : bounds[-1]], bounds - bounds[0]))
    if len(coded.codes_T) < LISTS_FROM_TOKENS:
        return CodedSegment(coded)
    return CodedSegment(coded, *codec.inverted_lists(coded.codes_T, coded.offsets))
