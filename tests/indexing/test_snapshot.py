"""The vectors of single passages of a snapshot, over segments of every kind."""

import numpy as np
import pytest

from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import TokenVectors

RANDOM = np.random.default_rng(5)
MATRICES = [RANDOM.normal(size=(size, 16)).astype(np.float32) for size in (3, 1, 4, 2, 6)]
ONE, TWO = TokenVectors.from_list(MATRICES[:3]), TokenVectors.from_list(MATRICES[3:])
TABLE = np.array([[40, 10, 30, 20], [0, 0, 1, 1], [2, 0, 1, 0]], np.int64)
"""Rows, segments and positions; the passage at position 1 of the first segment is a tombstone."""

AT = {40: 2, 10: 0, 30: 4, 20: 3}
"""The matrix of each row."""


def test_token_vectors_come_by_row_from_any_segment() -> None:
    found = Snapshot((ONE, TWO), *TABLE).token_vectors([20, 40, 10, 30])
    for row, vectors in zip([20, 40, 10, 30], found, strict=True):
        assert vectors is not None and vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, MATRICES[AT[row]])


@pytest.mark.parametrize("rows", [[40, 10, 30, 20], [10, 20, 30, 40], []])
def test_rows_are_found_in_any_order(rows: list[int]) -> None:
    none = np.zeros(len(rows), np.int64)
    snapshot = Snapshot((), np.array(rows, np.int64), none, none)
    for wanted in ([20], [40, 10], [10, 10, 41, 9, 15], [41], [0, 30], []):
        found = [at for at, row in enumerate(rows) if row in wanted]
        assert snapshot._places_of(wanted).tolist() == found


def test_coded_token_vectors_are_decoded() -> None:
    everything = np.concatenate(MATRICES)
    codec = Codec.train(everything, len(everything), bits=4, centroids=4)
    segments = tuple(CodedSegment(codec.encode(vectors)) for vectors in (ONE, TWO))
    for row, vectors in zip(AT, Snapshot(segments, *TABLE, codec=codec).token_vectors(list(AT)), strict=True):
        expected = codec.decode(codec.encode(TokenVectors.from_list([MATRICES[AT[row]]]))).values_TD
        np.testing.assert_array_equal(vectors, expected)
        assert np.abs(expected - MATRICES[AT[row]]).mean() < 0.3


def test_there_are_none_of_removed_passages_and_of_dense_ones() -> None:
    assert [vectors is None for vectors in Snapshot((ONE, TWO), *TABLE).token_vectors([5, 10])] == [
        True,
        False,
    ]
    dense = np.eye(3, dtype=np.float16)
    assert Snapshot((dense, dense), *TABLE).token_vectors([10]) == [None]
    assert Snapshot((ONE, TWO), *TABLE).token_vectors([]) == []
