"""How thoroughly PLAID has to search for a wanted recall, measured on the collection itself.

Stand-ins for queries are made of tokens of passages, some from each of four. Of the kinds tried on 6,000
encoded SQuAD passages these come nearest to real questions (recall@10 with 32, 64, 128 and 256 candidates:
.86, .94, .95, .97, real ones .89, .94, .96, .97); tokens of one passage find their source too easily.

What a search costs is counted, not timed: the same collection gets the same settings, whatever else the
machine does meanwhile.
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from flatcoat.indexing.vectors import TokenVectors

from .index import PlaidIndex
from .operating_points import CALIBRATED_K, THOROUGH, Step

_QUERIES = 48
_PASSAGES_EACH = 4
_TOKENS_EACH = 4  # of each passage
_PROBES = (4, 16, 64)
_CANDIDATES = (16, 32, 64, 128, 256, 512)


Exactly = Callable[[TokenVectors, int, np.ndarray], list[int]]
"""A query, k and rows to the best k of them by their original vectors."""


def calibrate(index: PlaidIndex[int], exact: Exactly | None = None) -> tuple[Step, ...]:
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
        costs = [
            index.work(query, n_probe=n_probe, n_candidates=n_candidates).nanoseconds for query in queries
        ]
        shares = [
            len(wanted & set(one.ids)) / max(len(wanted), 1) for wanted, one in zip(truth, hits, strict=True)
        ]
        tried.append(Step(n_probe, n_candidates, float(np.mean(shares)), float(np.mean(costs))))
    return tuple(step for step in sorted(tried, key=lambda step: step.recall) if not _is_beaten(step, tried))


def _is_beaten(step: Step, tried: Sequence[Step]) -> bool:
    return any(
        (other.recall, -other.cost) > (step.recall, -step.cost) and other.cost <= step.cost for other in tried
    )


def _stand_ins(index: PlaidIndex[int]) -> TokenVectors:
    random = np.random.default_rng(0)
    sources = random.integers(0, len(index), (_QUERIES, _PASSAGES_EACH))
    return TokenVectors.from_list(
        [
            np.concatenate([index.some_tokens(at, _TOKENS_EACH, random=random) for at in row])
            for row in sources
        ]
    )


def _one(query: np.ndarray) -> TokenVectors:
    return TokenVectors.from_list([query])
