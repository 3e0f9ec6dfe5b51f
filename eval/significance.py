"""Whether one system beats another by more than chance, judged query by query.

Two tests of the same paired scores: Student's t, and Fisher's randomisation, which flips the signs of the
differences and assumes no distribution. Smucker, Allan and Carterette, CIKM 2007, compare them for retrieval.
All p values are two-sided.

Axes: Q queries, M comparisons with one baseline, S sign patterns.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flatcoat.errors import FlatcoatError

SAMPLES = 20_000
"""Sign patterns drawn; all of them are tried where there are no more."""

_BLOCK = 1 << 22  # signs held at once
_ROUNDING = 1e-12  # sums that differ by less, relative to the sum of magnitudes, are equal


def paired_differences(scores: Mapping[str, float], baseline: Mapping[str, float]) -> np.ndarray:
    """``scores`` less ``baseline`` [Q], in the order of ``baseline``.

    Raises FlatcoatError naming a query that only one of them has, or where there is none.
    """
    for query in baseline.keys() ^ scores.keys():
        side = "baseline" if query in baseline else "other system"
        raise FlatcoatError(f"query {query!r} has a score of the {side} only: both need the same queries")
    if not baseline:
        raise FlatcoatError("no query has a score: there is nothing to test")
    return np.array([scores[query] - value for query, value in baseline.items()], dtype=np.float64)


def t_test(differences_QM: np.ndarray) -> np.ndarray:
    """p values [M] of paired t tests; 1 where nothing differs, and of a single query, which tells nothing."""
    from scipy.special import stdtr

    queries = len(differences_QM)
    if queries < 2:
        return np.ones(differences_QM.shape[1])
    mean_M = differences_QM.mean(axis=0)
    error_M = differences_QM.std(axis=0, ddof=1) / np.sqrt(queries)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_M = 2 * stdtr(queries - 1, -np.abs(mean_M / error_M))
    return np.where(differences_QM.any(axis=0), p_M, 1.0)


def randomisation_test(differences_QM: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """p values [M] of paired randomisation tests: how often random signs give as large a sum.

    Exact where all 2**Q sign patterns are no more than ``samples``. Otherwise that many are drawn with
    ``seed``, the same for every comparison, and the observed one counts among them.
    """
    observed_M = np.abs(differences_QM.sum(axis=0))
    least_M = observed_M - _ROUNDING * np.abs(differences_QM).sum(axis=0)
    queries = len(differences_QM)
    exact = queries < samples.bit_length()
    blocks = _all_flips(queries) if exact else _random_flips(queries, samples, seed)
    total_M = differences_QM.sum(axis=0)
    as_large_M = np.zeros(differences_QM.shape[1])
    for flipped_SQ in blocks:
        sums_SM = total_M - 2 * (flipped_SQ @ differences_QM)
        as_large_M += (np.abs(sums_SM) >= least_M).sum(axis=0)
    return as_large_M / 2**queries if exact else (1 + as_large_M) / (1 + samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being so many, so that the chance of any false find stays below its level.

    Holm's step-down method, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def _all_flips(queries: int) -> Iterator[np.ndarray]:
    patterns_S = np.arange(2**queries)
    yield (patterns_S[:, None] >> np.arange(queries) & 1).astype(np.float64)


def _random_flips(queries: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    at_once = max(1, _BLOCK // queries)
    for first in range(0, samples, at_once):
        size = min(at_once, samples - first) * queries
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-size // 8)), dtype=np.uint8), count=size)
        yield bits.reshape(-1, queries).astype(np.float64)
