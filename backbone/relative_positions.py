"""How far a key stands from a query: ALiBi's slopes (arXiv 2108.12409), and MPNet's buckets of distances.

ALiBi is symmetric, as in MosaicBERT (arXiv 2312.17482). No torch: a query needs none of it.

Axes: H heads, R distances.
"""

import math

import numpy as np

_FARTHEST = 128
"""The distance from which all share a bucket."""


def alibi_slopes(heads: int) -> np.ndarray:
    """By how much each head lowers a score per token of distance: [H] (float32).

    A geometric sequence from 2^(-8/H) down to 2^-8. Where ``heads`` is no power of two, the slopes of the
    power below come first, then every other slope of the power above, as in the paper's own code.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    power = 1 << (heads.bit_length() - 1)
    whole = np.arange(1, power + 1, dtype=np.float32) / np.float32(power)
    between = (np.arange(heads - power, dtype=np.float32) + np.float32(0.5)) / np.float32(power)
    return np.exp2(-8 * np.concatenate((whole, between)))


def distance_buckets(length: int, buckets: int) -> np.ndarray:
    """The bucket of each distance from -(length - 1) to length - 1 of a key from a query: [R] (int64).

    Half the buckets are for keys after the query. Of each half, half are for single distances, the others
    grow geometrically up to 128 (arXiv 1910.10683; MPNet, arXiv 2004.09297).

    >>> distance_buckets(3, 32).tolist()
    [2, 1, 0, 17, 18]
    """
    signed_R = np.arange(1 - length, length)
    half = buckets // 2
    exact = half // 2
    distance_R = np.abs(signed_R)
    # In float32 as transformers computes it: elsewhere a distance may fall into the next bucket.
    logarithm_R = np.log(np.maximum(distance_R, 1).astype(np.float32) / np.float32(exact))
    steps_R = logarithm_R / np.float32(math.log(_FARTHEST / exact)) * np.float32(half - exact)
    far_R = np.minimum(exact + steps_R.astype(np.int64), half - 1)
    return np.where(signed_R > 0, half, 0) + np.where(distance_R < exact, distance_R, far_R)
