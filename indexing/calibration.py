"""How thoroughly PLAID has to search for a wanted recall, measured on the collection itself.

Stand-ins for queries are made of tokens of passages, some from each of four. Of the kinds tried on 6,000
encoded SQuAD passages these come nearest to real questions (recall@10 with 32, 64, 128 and 256 candidates:
.86, .94, .95, .97, real ones .89, .94, .96, .97); tokens of one passage find their source too easily.

What a search costs is counted, not timed: the same collection gets the same settings, whatever else the
machine does meanwhile.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import FlatcoatError
from .types import TokenVectors

if TYPE_CHECKING:
    from .plaid import PlaidIndex

_QUERIES = 48
_PASSAGES_EACH = 4
_TOKENS_EACH = 4  # of each passage
CALIBRATED_K = 10
THOROUGH = 512
"""Candidates among which the truth is looked for: of a smaller collection, all."""

_LISTED_NS, _MET_NS, _SCORED_NS = 4.0, 1.5, 67.0  # of random passages, 128 components at 4 bits

_PROBES = (4, 16, 64)
_CANDIDATES = (16, 32, 64, 128, 256, 512)


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


Exactly = Callable[[TokenVectors, int, np.ndarray], list[int]]
"""A query, k and rows to the best k of them by their original vectors."""


def calibrate(index: "PlaidIndex[int]", exact: Exactly | None = None) -> tuple[Step, ...]:
    """Try settings on the index of a snapshot; rising in recall, each cheaper than all that find as much.

    Without ``exact`` the decoded vectors count as the truth, and what the codec lost is not seen.
    """
    queries = _stand_ins(index)
    best = index.search(queries, THOROUGH, n_probe=max(_PROBES), n_candidates=THOROUGH)
    truth = [set(hits.ids[:CALIBRATED_K]) for hits in best]
    if exact is not None:
        truth = [
            set(exact(_one(query), CALIBRATED_K, np.array(hits.ids)))
            for query, hits in zip(queries, best, strict=True)
        ]
    tried = []
    for n_probe, n_candidates in product(_PROBES if index.reads_lists else _PROBES[:1], _CANDIDATES):
        hits = index.search(queries, CALIBRATED_K, n_probe=n_probe, n_candidates=n_candidates)
        costs = [index.work(query, n_probe, n_candidates).nanoseconds for query in queries]
        shares = [
            len(wanted & set(one.ids)) / max(len(wanted), 1) for wanted, one in zip(truth, hits, strict=True)
        ]
        tried.append(Step(n_probe, n_candidates, float(np.mean(shares)), float(np.mean(costs))))
    return tuple(step for step in sorted(tried, key=lambda step: step.recall) if not _is_beaten(step, tried))


def cheapest(steps: Sequence[Step], recall: float) -> Step:
    """The cheapest step that found ``recall``; FlatcoatError where none did."""
    if not steps:
        raise FlatcoatError("this index was never calibrated: compact it, or give n_candidates")
    enough = [step for step in steps if step.recall >= recall]
    if not enough:
        raise FlatcoatError(
            f"recall {recall} is out of reach: the most that was found is {steps[-1].recall:.3f}"
        )
    return min(enough, key=lambda step: step.cost)


def _is_beaten(step: Step, tried: Sequence[Step]) -> bool:
    return any(
        (other.recall, -other.cost) > (step.recall, -step.cost) and other.cost <= step.cost for other in tried
    )


def _stand_ins(index: "PlaidIndex[int]") -> TokenVectors:
    random = np.random.default_rng(0)
    sources = random.integers(0, len(index), (_QUERIES, _PASSAGES_EACH))
    return TokenVectors.from_list(
        [np.concatenate([index.some_tokens(at, _TOKENS_EACH, random) for at in row]) for row in sources]
    )


def _one(query: np.ndarray) -> TokenVectors:
    return TokenVectors.from_list([query])
