import math

import numpy as np
import pytest

from flatcoat.indexing.bm25_baseline import Bm25

TEXTS = {"a": "cats sleep all day", "b": "the dog runs and runs", "c": "a cat watches the dog", "d": ""}


@pytest.fixture
def index() -> Bm25:
    return Bm25(TEXTS.items())


def test_words_match_by_stem_and_stop_words_do_not_match(index):
    (running, cats, nothing) = index.search(["Running!", "the cats", "the and a zebra"], k=10)
    assert running.ids == ["b"]
    assert sorted(cats.ids) == ["a", "c"]
    assert nothing.ids == [] and len(nothing.scores) == 0


def test_scores_follow_lucenes_formula(index):
    lengths = {"a": 4, "b": 3, "c": 3, "d": 0}
    mean = sum(lengths.values()) / len(lengths)
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * lengths["b"] / mean))
    (hits,) = index.search(["run"], k=1)
    assert hits.scores[0] == pytest.approx(expected, rel=1e-5)


def test_k_bounds_the_results_and_scores_fall(index):
    (hits,) = index.search(["dog cat runs"], k=2)
    assert hits.ids[0] == "b" and len(hits.ids) == 2
    assert hits.scores[0] >= hits.scores[1] > 0


def test_nothing_to_find_is_no_error(index):
    assert list(index.search([], k=3)) == []
    empty = Bm25([("x", ""), ("y", "the")])
    assert [hits.ids for hits in empty.search(["anything", ""], k=3)] == [[], []]
    assert empty.nbytes == 0 < index.nbytes


def test_texts_are_read_once_and_not_kept():
    seen = []

    class Text(str):
        def lower(self):
            seen.append(str(self))
            return str(self)

    index = Bm25((id, Text(text)) for id, text in TEXTS.items())
    assert seen == list(TEXTS.values())
    (hits,) = index.search(["watches"], k=2)
    assert hits.ids == ["c"]


def test_equal_scores_fall_to_the_greater_id_even_at_the_last_rank():
    ids = [f"d{number}" for number in np.random.default_rng(1).permutation(50)]
    index = Bm25((id, "sun and rain" if id in ids[:20] else "sun and snow") for id in ids)
    (hits,) = index.search(["rain sun"], k=30)
    assert hits.ids == sorted(ids[:20], reverse=True) + sorted(ids[20:], reverse=True)[:10]
