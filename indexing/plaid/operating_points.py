"""How thoroughly PLAID can search a collection, and what each way costs."""

from collections.abc import Sequence
from typing import NamedTuple

from flatcoat.errors import UsageError

CALIBRATED_K = 10
"""Results whose recall an operating point states."""

THOROUGH = 512
"""Candidates among which the truth is looked for: of a smaller collection, all."""

_LISTED_NS, _MET_NS, _SCORED_NS = 4.0, 1.5, 67.0  # of random passages, 128 components at 4 bits


class Work(NamedTuple):
    """What one query makes a search read.

    ``listed`` are entries of inverted lists, ``met`` tokens taken for their centroids and ``scored`` tokens
    scored by their residuals, each of these two once for every 32 tokens of the query.
    """

    listed: int
    met: int
    scored: int

    @property
    def nanoseconds(self) -> float:
        """The time of one core for it, as each part was measured once on a Xeon with AVX-512 VNNI."""
        return _LISTED_NS * self.listed + _MET_NS * self.met + _SCORED_NS * self.scored


class Step(NamedTuple):
    """What searching so thoroughly found of the ten best passages, and what a query cost.

    ``cost`` is the mean of ``Work.nanoseconds``, in older indexes milliseconds: it compares the steps of one
    index.
    """

    n_probe: int
    n_candidates: int
    recall: float
    cost: float


def cheapest(steps: Sequence[Step], recall: float) -> Step:
    """The cheapest step that found ``recall``; UsageError where none did."""
    if not steps:
        raise UsageError("this index was never calibrated: compact it, or give n_candidates")
    enough = [step for step in steps if step.recall >= recall]
    if not enough:
        raise UsageError(
            f"recall {recall} is out of reach: the most that was found is {steps[-1].recall:.3f}"
        )
    return min(enough, key=lambda step: step.cost)
