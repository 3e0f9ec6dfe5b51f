"""Operating points of PLAID on one collection: search effort, recall and cost."""

from collections.abc import Sequence
from typing import NamedTuple

from flatcoat.errors import UsageError

CALIBRATED_K = 10
"""The cutoff of the recall of operating points: recall@10."""

THOROUGH = 512
"""Candidates of the search that is the ground truth; a smaller collection scores all its passages."""

_ENTRY_NS, _CENTROID_NS, _RESIDUAL_NS = 4.0, 1.5, 67.0  # for random passages, 128 components at 4 bits


class Work(NamedTuple):
    """What a search reads for one query.

    Entries of inverted lists, tokens scored by their centroids and tokens scored by their residuals; a token
    counts once per 32 query tokens.
    """

    list_entries: int
    centroid_tokens: int
    residual_tokens: int

    @property
    def nanoseconds(self) -> float:
        """Its time on one core, by measurements of each part on a Xeon with AVX-512 VNNI."""
        scoring = _CENTROID_NS * self.centroid_tokens + _RESIDUAL_NS * self.residual_tokens
        return _ENTRY_NS * self.list_entries + scoring


class OperatingPoint(NamedTuple):
    """A search effort with its recall@10 and its mean cost per query.

    ``cost`` is the mean of ``Work.nanoseconds``, in older indexes milliseconds: it compares the operating
    points of one index.
    """

    n_probe: int
    n_candidates: int
    recall: float
    cost: float


def cheapest(points: Sequence[OperatingPoint], recall: float) -> OperatingPoint:
    """The cheapest operating point that reaches ``recall``; UsageError where none does.

    >>> points = OperatingPoint(4, 16, recall=0.7, cost=1.0), OperatingPoint(4, 64, recall=0.9, cost=2.0)
    >>> cheapest(points, 0.8).n_candidates
    64
    """
    if not points:
        raise UsageError("this index was never calibrated: compact it, or give n_candidates")
    enough = [point for point in points if point.recall >= recall]
    if not enough:
        raise UsageError(
            f"recall {recall} is out of reach: the most that was found is {points[-1].recall:.3f}"
        )
    return min(enough, key=lambda point: point.cost)
