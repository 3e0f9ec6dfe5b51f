"""GLUE's measures against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.eval.glue.tasks import score


def correlate(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation; of labels 0 and 1 it is Matthews'. 0 where one side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(np.corrcoef(predicted, labels)[0, 1])


def rank(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_of_classes(pairs):
    predicted, labels = np.array(pairs, dtype=float).T
    both = np.sum((predicted == 1) & (labels == 1))
    either = np.sum(predicted == 1) + np.sum(labels == 1)
    expected = {
        "accuracy": (predicted == labels).mean(),
        "f1": 2 * both / either if either else 0.0,
        "matthews": correlate(predicted, labels),
    }
    assert score(predicted, labels, measures=["accuracy", "f1", "matthews"]) == pytest.approx(
        expected, abs=1e-12
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_of_values_with_ties(pairs):
    predicted, labels = np.array(pairs, dtype=float).T
    expected = {
        "pearson": correlate(predicted, labels),
        "spearman": correlate(rank(predicted), rank(labels)),
    }
    assert score(predicted, labels, measures=["pearson", "spearman"]) == pytest.approx(expected, abs=1e-12)


def test_three_classes_have_an_accuracy():
    assert score(np.array([0.0, 2.0, 1.0]), np.array([0.0, 2.0, 2.0]), measures=["accuracy"]) == {
        "accuracy": 2 / 3
    }
