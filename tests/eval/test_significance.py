import warnings
from itertools import product

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.eval.significance import (
    bootstrap_interval,
    holm,
    paired_differences,
    randomisation_test,
    t_test,
)

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0]), min_size=2, max_size=9)


def draw(queries: int, effect: float) -> np.ndarray:
    """Differences as of two rankings: mostly none, some large."""
    random = np.random.default_rng(queries)
    return np.where(random.random(queries) < 0.4, 0, random.normal(effect, 0.2, queries))


def count_sign_patterns(differences: list[float]) -> float:
    """The exact randomisation test as its definition has it."""
    observed = abs(sum(differences)) - 1e-12
    sums = [
        sum(sign * difference for sign, difference in zip(signs, differences, strict=True))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    return sum(abs(value) >= observed for value in sums) / len(sums)


def step_down(p_values: list[float]) -> list[float]:
    """Holm's method: the smallest times their number, the next times one less, never falling."""
    corrected, highest, left = list(p_values), 0.0, len(p_values)
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place]):
        highest = max(highest, min(1.0, p_values[place] * left))
        corrected[place], left = highest, left - 1
    return corrected


@pytest.mark.parametrize(("queries", "effect"), [(2, 0.1), (30, 0.0), (323, 0.02), (1406, 0.01)])
def test_t_agrees_with_scipy(queries, effect):
    ours, theirs = np.random.default_rng(1).random((2, queries))
    ours = ours + draw(queries, effect)
    expected = scipy.stats.ttest_rel(ours, theirs).pvalue
    differences = ours - theirs
    assert t_test(differences[:, None]) == pytest.approx([expected], rel=1e-9)
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(queries))
    by_definition = 2 * scipy.special.stdtr(queries - 1, -abs(t))
    assert t_test(differences[:, None]) == pytest.approx([by_definition], abs=1e-12)


def test_differences_that_are_all_equal_have_a_t_test_of_certainty():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert t_test(np.full((5, 1), 0.25)) == 0


@settings(deadline=None)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_exact_test_is_its_definition(scores, random):
    others = random.sample(scores, len(scores))
    differences_QM = np.array([[b - a, a - 0.3] for a, b in zip(scores, others, strict=True)])
    expected = [count_sign_patterns(column.tolist()) for column in differences_QM.T]
    assert randomisation_test(differences_QM) == pytest.approx(expected)


@pytest.mark.parametrize("effect", [0.05, 0.2])
def test_the_exact_test_agrees_with_scipy(effect):
    differences = draw(12, effect)
    theirs = scipy.stats.permutation_test(
        (differences, np.zeros(12)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert randomisation_test(differences[:, None]) == pytest.approx([theirs.pvalue])


def test_drawn_patterns_come_near_the_exact_answer():
    differences_QM = np.stack([draw(16, 0.05), draw(16, 0.15)], axis=1)
    exact = randomisation_test(differences_QM)
    drawn = randomisation_test(differences_QM, samples=2**16 - 1)
    assert (drawn != exact).any()
    assert drawn == pytest.approx(exact, abs=0.006)  # three standard errors at a half
    assert (randomisation_test(differences_QM, samples=2**16 - 1) == drawn).all()


def test_drawn_patterns_agree_with_scipy_and_never_promise_certainty():
    differences = draw(323, 0.02)
    theirs = scipy.stats.permutation_test(
        (differences, np.zeros(323)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    assert 0.01 < theirs.pvalue < 0.9
    assert randomisation_test(differences[:, None]) == pytest.approx([theirs.pvalue], abs=0.01)
    assert randomisation_test(np.full((50, 1), 0.5)) == pytest.approx([1 / 20_001])


def test_under_chance_alone_p_values_are_uniform():
    random = np.random.default_rng(7)
    differences_QM = random.choice([0, 0.1, 0.4], (60, 2000)) * random.choice([-1, 1], (60, 2000))
    for p_M in (t_test(differences_QM), randomisation_test(differences_QM, samples=2000)):
        assert (p_M < 0.05).mean() == pytest.approx(0.05, abs=0.015)
        assert (p_M < 0.5).mean() == pytest.approx(0.5, abs=0.04)


def test_what_tells_nothing_has_a_p_value_of_one():
    alike = np.zeros((40, 1))
    assert t_test(alike) == randomisation_test(alike) == 1
    assert t_test(alike[:1] + 1) == randomisation_test(alike[:1] + 1) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_step_down(p_values):
    assert holm(p_values) == pytest.approx(step_down(p_values))


def test_holm_on_a_known_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_differences_are_of_the_same_queries():
    differences = paired_differences({"b": 0.5, "a": 1.0}, {"a": 0.25, "b": 0.5})
    assert differences.tolist() == [0.75, 0.0]
    with pytest.raises(FlatcoatError, match="query 'c' has a score of the baseline only"):
        paired_differences({"a": 1.0}, {"a": 1.0, "c": 0.0})
    with pytest.raises(FlatcoatError, match="query 'd' has a score of the other system only"):
        paired_differences({"a": 1.0, "d": 0.0}, {"a": 1.0})
    with pytest.raises(FlatcoatError, match="no query"):
        paired_differences({}, {})


def test_a_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(3)
    samples_SM = random.exponential(size=(60, 400))
    low_M, high_M = bootstrap_interval(samples_SM)
    assert ((low_M <= 1) & (high_M >= 1)).mean() == pytest.approx(0.94, abs=0.03)
    narrow = bootstrap_interval(samples_SM, level=0.5)
    assert (narrow[0] > low_M).all() and (narrow[1] < high_M).all()


def test_a_bootstrap_interval_of_what_never_differs_is_a_point():
    assert bootstrap_interval(np.full((9, 1), 0.25)) == pytest.approx(np.full((2, 1), 0.25))
    assert (bootstrap_interval(np.eye(5)) == bootstrap_interval(np.eye(5))).all(), "the seed decides"
