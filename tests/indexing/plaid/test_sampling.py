"""Samples of token vectors: the same in any order of adding, a fair share of everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.plaid.sampling import Sample, content_keys
from flatcoat.indexing.segments import take
from flatcoat.indexing.vectors import TokenVectors


def texts(sizes: list[int], width: int = 5, seed: int = 0) -> TokenVectors:
    values = np.random.default_rng(seed).standard_normal((sum(sizes), width)).astype(np.float16)
    return TokenVectors(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def sampled(vectors: TokenVectors, order: list[int], cuts: list[int], count: int) -> np.ndarray:
    """The sample of texts that come in this order, in blocks."""
    sample = Sample(count, vectors.width)
    for places in np.split(np.array(order, int), sorted(cuts)):
        block = take(vectors, places)
        assert isinstance(block, TokenVectors)
        keys = content_keys([block.values_TD], block.offsets)
        sample.add(keys, lambda some, block=block: block.values_TD[some])
    return sample.vectors()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.data(),
    st.integers(1, 60),
    st.sampled_from([1, 4, 5, 8, 33]),
)
def test_a_sample_is_the_same_in_any_order_and_any_blocks(
    sizes: list[int], data: st.DataObject, count: int, width: int
) -> None:
    vectors = texts(sizes, width)
    order = data.draw(st.permutations(range(len(sizes))))
    cuts = data.draw(st.lists(st.integers(0, len(sizes)), max_size=4))
    whole = sampled(vectors, list(range(len(sizes))), [], count)
    assert len(whole) == min(count, sum(sizes))
    assert np.array_equal(whole, sampled(vectors, order, cuts, count))
    assert {row.tobytes() for row in whole} <= {row.tobytes() for row in vectors.values_TD}


def test_a_sample_is_a_fair_share_of_each_part() -> None:
    """Also of a token that every third text has: not all of it, and not none."""
    vectors = texts([10] * 3_000)
    vectors.values_TD[np.arange(0, 30_000, 30)] = 2
    sample = sampled(vectors, list(range(3_000)), [700, 1_900], 6_000)
    common = int((sample == 2).all(axis=1).sum())
    assert 160 < common < 240
    firsts = {row.tobytes() for row in vectors.values_TD[:15_000]}
    assert 2_700 < sum(row.tobytes() in firsts for row in sample) < 3_300


def test_equal_texts_alone_give_a_whole_sample() -> None:
    vectors = TokenVectors(np.ones((500, 4), np.float16), np.arange(501))
    assert len(sampled(vectors, list(range(500)), [100], 90)) == 90


@pytest.mark.parametrize("parts", [1, 3])
def test_keys_are_of_all_bytes_and_places(parts: int) -> None:
    random = np.random.default_rng(0)
    columns = [random.integers(0, 256, (40, 3 + part), dtype=np.uint8) for part in range(parts)]
    offsets = np.array([0, 0, 15, 40])
    keys = content_keys(columns, offsets)
    assert len(set(keys.tolist())) == 40
    for part in range(parts):
        changed = [column.copy() for column in columns]
        changed[part][20, -1] ^= 1
        other = content_keys(changed, offsets)
        assert np.array_equal(other[:15], keys[:15])
        assert not (other[15:] == keys[15:]).any()
    assert not (content_keys([column[::-1] for column in columns], np.array([0, 40])) == keys).any()


def test_plaid_finds_the_same_whatever_the_order_of_adding() -> None:
    random = np.random.default_rng(0)
    vectors = texts([int(size) for size in random.integers(1, 12, 900)], 32)
    order = random.permutation(900)
    shuffled = take(vectors, order)
    assert isinstance(shuffled, TokenVectors)
    queries = texts([6] * 20, 32, 5)
    found = PlaidIndex.from_vectors([str(i) for i in range(900)], vectors).search(queries, 15)
    again = PlaidIndex.from_vectors([str(i) for i in order], shuffled).search(queries, 15)
    for a, b in zip(found, again, strict=True):
        assert (a.ids, a.scores.tolist()) == (b.ids, b.scores.tolist())
