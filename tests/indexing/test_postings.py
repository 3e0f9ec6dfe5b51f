"""Postings: what is built, merged, written and found again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.array_files import write_array
from flatcoat.indexing.postings import MOST_COUNTED, Part, Postings, open_postings, write_postings

TERMS = ["cat", "cats", "category", "categories", "categorical", "9", "ß", "東京", "ka", "😀", "a" * 40]
passages = st.lists(st.lists(st.sampled_from(TERMS), max_size=12), max_size=8)


def counted(postings: Postings) -> list[Counter[str]]:
    """The terms of each passage, as the postings have them."""
    found: list[Counter[str]] = [Counter() for _ in range(len(postings))]
    terms = [term.decode() for term in postings.terms()]
    for term, (first, last) in zip(terms, postings.find(terms), strict=True):
        assert first < last
        places, counts = postings.places_P[first:last], postings.counts_P[first:last]
        assert (np.diff(places.astype(int)) > 0).all()
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            found[place][term] = count
    return found


@given(passages)
def test_postings_have_what_the_passages_have(terms_N: list[list[str]]) -> None:
    postings = Postings.build(terms_N)
    assert counted(postings) == [Counter(terms) for terms in terms_N]
    assert postings.lengths_N.tolist() == [len(terms) for terms in terms_N]
    assert [term.decode() for term in postings.terms()] == sorted(
        {term for terms in terms_N for term in terms}
    )
    absent = [term for term in ["", "ca", "catz", "categor", "zzzzzzzzzzzz", "東"] if term not in TERMS]
    assert all(first == last for first, last in postings.find(absent))


@given(passages, passages, st.data())
def test_a_merge_is_what_would_be_built(ones: list, others: list, data: st.DataObject) -> None:
    parts, wanted = [], []
    for terms_N in (ones, others):
        kept = [number for number in range(len(terms_N)) if data.draw(st.booleans())]
        into = np.arange(len(wanted), len(wanted) + len(kept))
        parts.append(Part(Postings.build(terms_N), np.array(kept, np.int64), into))
        wanted += [terms_N[number] for number in kept]
    assert Postings.merge(parts, len(wanted)).equals(Postings.build(wanted))


@given(passages, st.integers(0, 7), st.lists(st.sampled_from(TERMS), max_size=5))
def test_one_passage_is_replaced_by_a_merge(terms_N: list, number: int, new: list[str]) -> None:
    terms_N = [*terms_N, ["cat"]]
    number %= len(terms_N)
    others = np.delete(np.arange(len(terms_N)), number)
    here = np.array([number])
    parts = [
        Part(Postings.build(terms_N), others, others),
        Part(Postings.build([new]), np.array([0]), here),
    ]
    terms_N[number] = new
    assert Postings.merge(parts, len(terms_N)).equals(Postings.build(terms_N))


def test_the_largest_segment_and_the_most_counted() -> None:
    terms_N = [["every", f"t{number}"] for number in range(1 << 16)]
    terms_N[-1] = ["every"] * 1000
    postings = Postings.build(terms_N)
    (first, last), (one, two) = postings.find(["every", "t65534"])
    assert last - first == 1 << 16
    assert postings.places_P[last - 1] == 65535
    assert postings.counts_P[last - 1] == MOST_COUNTED
    assert postings.lengths_N[-1] == 1000
    assert postings.places_P[one:two].tolist() == [65534]


@pytest.mark.parametrize("terms_N", [[], [[]], [["cat", "sat"], [], ["cat"]]])
def test_a_file_is_read_as_it_was_written(tmp_path: Path, terms_N: list[list[str]]) -> None:
    postings = Postings.build(terms_N)
    file = write_postings(tmp_path, 7, postings)
    assert file.name == "000007.postings.npy"
    assert open_postings(tmp_path / file.name, file.bytes).equals(postings)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("value", [-1, 0, 1 << 40])
def test_a_damaged_beginning_is_refused(tmp_path: Path, number: int, value: int) -> None:
    file = write_postings(tmp_path, 1, Postings.build([["cat", "sat"], ["cat"]]))
    whole = np.load(tmp_path / file.name)
    whole[:40].view(np.int64)[number] = value
    written = write_array(tmp_path / "000002.postings.npy", whole)
    with pytest.raises(FlatcoatError, match=r"000002\.postings\.npy is damaged"):
        open_postings(tmp_path / written.name, written.bytes)


@pytest.mark.parametrize("array", [np.zeros(8, np.int64), np.zeros((8, 8), np.uint8), np.zeros(3, np.uint8)])
def test_another_array_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    written = write_array(tmp_path / "000002.postings.npy", array)
    with pytest.raises(FlatcoatError, match="is damaged"):
        open_postings(tmp_path / written.name, written.bytes)


@pytest.mark.parametrize(
    ("part", "values"),
    [("starts_V", [0, 3, 2]), ("starts_V", [0, 1, 9]), ("ends_V", [0, -1, 6]), ("places_P", [0, 1, 2])],
)
def test_damaged_postings_are_not_merged(part: str, values: list[int]) -> None:
    whole = Postings.build([["cat", "sat"], ["cat"]])
    changed = replace(whole, **{part: np.array(values, getattr(whole, part).dtype)})
    both = np.arange(2)
    with pytest.raises(FlatcoatError, match="is damaged"):
        Postings.merge([Part(changed, both, both)], 2)
