"""Whether one system beats another by more than chance: paired tests over queries.

Two tests of the same paired scores: Student's t, and Fisher's randomisation, which flips the signs of the
differences and assumes no distribution. Smucker, Allan and Carterette, CIKM 2007, compare them for retrieval.
All p values are two-sided. Intervals are by the bootstrap over queries.

Axes: S queries, M comparisons with one baseline, P sign patterns, R resamples.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flatcoat.errors import DataError

SAMPLES = 20_000
"""Random sign patterns; where no more than these exist, every pattern is tried."""

RESAMPLES = 10_000
"""Samples of the bootstrap."""

_BLOCK = 1 << 22  # signs in memory at a time
_ROUNDING = 1e-12  # sums that differ by less, relative to the sum of magnitudes, are equal


def paired_differences(scores: Mapping[str, float], baseline: Mapping[str, float]) -> np.ndarray:
    """``scores`` minus ``baseline`` [S], in the order of ``baseline``.

    Raises DataError naming a query that only one of the two has, and where there are no queries.

    >>> paired_differences({"b": 0.5, "a": 1.0}, {"a": 0.25, "b": 0.5})
    array([0.75, 0.  ])
    """
    for query in baseline.keys() ^ scores.keys():
        side = "baseline" if query in baseline else "other system"
        raise DataError(f"query {query!r} has a score of the {side} only: both need the same queries")
    if not baseline:
        raise DataError("no query has a score: there is nothing to test")
    return np.array([scores[query] - value for query, value in baseline.items()], dtype=np.float64)


def t_test(differences_SM: np.ndarray) -> np.ndarray:
    """p values [M] of paired t tests (scipy); 1 where nothing differs and for a single query."""
    from scipy.stats import ttest_1samp

    if len(differences_SM) < 2:
        return np.ones(differences_SM.shape[1])
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of differences that are all equal
        test: Any = ttest_1samp(differences_SM, 0.0, axis=0)
    return np.where(differences_SM.any(axis=0), test.pvalue, 1.0)


def randomisation_test(differences_SM: np.ndarray, *, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """p values [M] of paired randomisation tests: how often random signs give as large a sum.

    Exact where the 2**S sign patterns are at most ``samples``. Otherwise ``samples`` patterns are drawn with
    ``seed``, the same for every comparison, and the observed pattern counts among them.

    >>> randomisation_test(np.full((4, 1), 0.2))
    array([0.125])
    """
    observed_M = np.abs(differences_SM.sum(axis=0))
    least_M = observed_M - _ROUNDING * np.abs(differences_SM).sum(axis=0)
    queries = len(differences_SM)
    exact = queries < samples.bit_length()
    blocks = _all_flips(queries) if exact else _random_flips(queries, samples, seed)
    total_M = differences_SM.sum(axis=0)
    as_large_M = np.zeros(differences_SM.shape[1])
    for flipped_PS in blocks:
        sums_PM = total_M - 2 * (flipped_PS @ differences_SM)
        as_large_M += (np.abs(sums_PM) >= least_M).sum(axis=0)
    return as_large_M / 2**queries if exact else (1 + as_large_M) / (1 + samples)


def bootstrap_interval(values_SM: np.ndarray, *, level: float = 0.95, seed: int = 0) -> np.ndarray:
    """Lower and upper ends [2, M] of percentile bootstrap intervals of the means over queries.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    >>> bootstrap_interval(np.array([[0.0], [1.0]] * 50)).round(1).tolist()
    [[0.4], [0.6]]
    """
    queries = len(values_SM)
    random = np.random.default_rng(seed)
    at_once = max(1, _BLOCK // queries)
    blocks = (min(at_once, RESAMPLES - first) for first in range(0, RESAMPLES, at_once))
    shares = np.full(queries, 1 / queries)
    means_RM = np.concatenate(
        [random.multinomial(queries, shares, size=block) @ values_SM / queries for block in blocks]
    )
    return np.quantile(means_RM, [(1 - level) / 2, (1 + level) / 2], axis=0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-Bonferroni adjusted p values, which control the family-wise error rate.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def _all_flips(queries: int) -> Iterator[np.ndarray]:
    patterns_P = np.arange(2**queries)
    yield (patterns_P[:, None] >> np.arange(queries) & 1).astype(np.float64)


def _random_flips(queries: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    at_once = max(1, _BLOCK // queries)
    for first in range(0, samples, at_once):
        size = min(at_once, samples - first) * queries
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-size // 8)), dtype=np.uint8), count=size)
        yield bits.reshape(-1, queries).astype(np.float64)
