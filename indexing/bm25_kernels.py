"""BM25's inner loop, over the postings of one segment.

Axes: N passages of a segment, P postings, Q terms of a query.
"""

import numpy as np
from numba import float32, njit

from flatcoat.numba_options import OPTIONS


@njit(**OPTIONS)
def add_scores(places_P, counts_P, lengths_N, ranges_Q2, weights_Q, base, slope, scores_N):
    """Add the score of each term to ``scores_N``; False where a posting names no passage.

    The arguments are those of ``bm25.add_scores``, which does the same step by step: scores are equal to the
    last bit.
    """
    for q in range(len(ranges_Q2)):
        for p in range(ranges_Q2[q, 0], ranges_Q2[q, 1]):
            place = np.int64(places_P[p])
            if place >= len(scores_N):
                return False
            count = float32(counts_P[p])
            scores_N[place] += weights_Q[q] * count / (count + (base + slope * float32(lengths_N[place])))
    return True
