"""GLUE's measures of predictions against labels, both [N]: fractions of 1.

Source: arXiv 1804.07461, section 3. Where a correlation is undefined, one side being constant, it is 0.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def accuracy(found_N: Values, labels_N: Values) -> float:
    """The share of labels that were found."""
    return float((found_N == labels_N).mean())


def f1(found_N: Values, labels_N: Values) -> float:
    """F1 of label 1; 0 where it was neither found nor wanted."""
    both = np.sum((found_N == 1) & (labels_N == 1))
    either = np.sum(found_N == 1) + np.sum(labels_N == 1)
    return float(2 * both / either) if either else 0.0


def pearson(found_N: Values, labels_N: Values) -> float:
    """Pearson's correlation; of labels 0 and 1 it is Matthews'."""
    if np.ptp(found_N) == 0 or np.ptp(labels_N) == 0:
        return 0.0
    return float(np.corrcoef(found_N, labels_N)[0, 1])


def spearman(found_N: Values, labels_N: Values) -> float:
    """Pearson's correlation of ranks, equal values sharing their mean rank."""
    return pearson(_ranks(found_N), _ranks(labels_N))


MEASURES: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": pearson,
    "pearson": pearson,
    "spearman": spearman,
}


def score(names: Sequence[str], found_N: Values, labels_N: Values) -> dict[str, float]:
    """The measures of these names."""
    return {name: MEASURES[name](found_N, labels_N) for name in names}


def _ranks(values_N: Values) -> Values:
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place_N]
