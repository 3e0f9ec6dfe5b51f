"""GLUE's measures against scikit-learn's and SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from flatcoat.eval.glue.measures import accuracy, f1, pearson, score, spearman

answers = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40)


@given(answers)
def test_of_classes(pairs):
    found, labels = np.array(pairs, dtype=float).T
    assert accuracy(found, labels) == pytest.approx(metrics.accuracy_score(labels, found))
    assert f1(found, labels) == pytest.approx(metrics.f1_score(labels, found, zero_division=0))
    expected = metrics.matthews_corrcoef(labels, found)
    assert score(["matthews"], found, labels)["matthews"] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 5)), min_size=2, max_size=40))
def test_of_values_with_ties(pairs):
    found, labels = np.array(pairs, dtype=float).T
    if np.ptp(found) and np.ptp(labels):
        assert pearson(found, labels) == pytest.approx(stats.pearsonr(found, labels).statistic, abs=1e-9)
        assert spearman(found, labels) == pytest.approx(stats.spearmanr(found, labels).statistic, abs=1e-9)
    else:
        assert pearson(found, labels) == spearman(found, labels) == 0
