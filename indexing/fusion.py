"""Fusion: several rankings of one query become one. Larger scores are better."""

from collections.abc import Mapping, Sequence

from .vectors import Id

RRF_CONSTANT = 60


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Id]], constant: int = RRF_CONSTANT) -> dict[Id, float]:
    """RRF: score each id by the sum of 1 / (constant + rank) over the rankings (best first) that have it.

    Source: Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114

    >>> reciprocal_rank_fusion([["a", "b"], ["b"]], constant=1)
    {'a': 0.5, 'b': 0.8333333333333333}
    """
    fused: dict[Id, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            fused[id] = fused.get(id, 0.0) + 1 / (constant + rank)
    return fused


def weighted_fusion(results: Sequence[Mapping[Id, float]], weights: Sequence[float]) -> dict[Id, float]:
    """Score each id by the weighted sum of its min-max normalised scores (0 to 1 within each result).

    An id that a result lacks counts as 0 there. Where all scores of a result are equal they count as 1.

    >>> weighted_fusion([{"a": 30.0, "b": 10.0}, {"b": 0.9}], [0.25, 0.75])
    {'a': 0.25, 'b': 0.75}
    """
    fused: dict[Id, float] = {}
    for scores, weight in zip(results, weights, strict=True):
        lowest = min(scores.values(), default=0.0)
        span = max(scores.values(), default=0.0) - lowest
        for id, score in scores.items():
            fused[id] = fused.get(id, 0.0) + weight * ((score - lowest) / span if span else 1.0)
    return fused
