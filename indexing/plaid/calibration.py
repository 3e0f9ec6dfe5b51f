"""Calibration of PLAID: the recall and the cost of search efforts, measured on the collection itself.

Synthetic queries are random tokens of four passages each. Of the kinds tried on 6,000 encoded SQuAD passages
these come nearest to real questions (recall@10 with 32, 64, 128 and 256 candidates: .86, .94, .95, .97, real
questions .89, .94, .96, .97); tokens of a single passage find their source too easily.

Costs are counted, not timed: the same collection gets the same operating points, however busy the machine.
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from flatcoat.indexing.vectors import TokenVectors

from .index import PlaidIndex
from .operating_points import CALIBRATED_K, THOROUGH, OperatingPoint

_QUERIES = 48
_PASSAGES_PER_QUERY = 4
_TOKENS_PER_PASSAGE = 4
_PROBES = (4, 16, 64)
_CANDIDATES = (16, 32, 64, 128, 256, 512)

ExactTopK = Callable[[TokenVectors, int, np.ndarray], list[int]]
"""A query, k and rows to the k best of the rows by their original vectors."""


def calibrate(index: PlaidIndex[int], exact: ExactTopK | None = None) -> tuple[OperatingPoint, ...]:
    """The Pareto-optimal operating points of an index of a snapshot, by rising recall.

    Without ``exact`` decoded vectors are the ground truth, and the loss of coding is not measured.
    """
    queries = _synthetic_queries(index)
    best = index.search(queries, THOROUGH, n_probe=max(_PROBES), n_candidates=THOROUGH)
    truth = [set(hits.ids[:CALIBRATED_K]) for hits in best]
    if exact is not None:
        truth = [
            set(exact(_one(query), CALIBRATED_K, np.array(hits.ids)))
            for query, hits in zip(queries, best, strict=True)
        ]
    points = []
    for n_probe, n_candidates in product(_PROBES if index.reads_lists else _PROBES[:1], _CANDIDATES):
        hits = index.search(queries, CALIBRATED_K, n_probe=n_probe, n_candidates=n_candidates)
        costs = [
            index.work(query, n_probe=n_probe, n_candidates=n_candidates).nanoseconds for query in queries
        ]
        shares = [
            len(expected & set(found.ids)) / max(len(expected), 1)
            for expected, found in zip(truth, hits, strict=True)
        ]
        points.append(OperatingPoint(n_probe, n_candidates, float(np.mean(shares)), float(np.mean(costs))))
    points.sort(key=lambda point: point.recall)
    return tuple(point for point in points if not _is_dominated(point, points))


def _is_dominated(point: OperatingPoint, others: Sequence[OperatingPoint]) -> bool:
    return any(
        (other.recall, -other.cost) > (point.recall, -point.cost) and other.cost <= point.cost
        for other in others
    )


def _synthetic_queries(index: PlaidIndex[int]) -> TokenVectors:
    random = np.random.default_rng(0)
    sources = random.integers(0, len(index), (_QUERIES, _PASSAGES_PER_QUERY))
    return TokenVectors.from_list(
        [
            np.concatenate([index.sample_tokens(at, _TOKENS_PER_PASSAGE, random=random) for at in row])
            for row in sources
        ]
    )


def _one(query: np.ndarray) -> TokenVectors:
    return TokenVectors.from_list([query])
