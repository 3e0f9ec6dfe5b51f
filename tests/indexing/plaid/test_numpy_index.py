"""PLAID in NumPy against PLAID's kernels, over the same snapshots."""

import numpy as np
import pytest

from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.plaid.codec_kernels import decode
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.plaid.numpy_index import MOST_TOKENS, NumpyPlaidIndex
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import CodedTokens, TokenVectors

RANDOM = np.random.default_rng(3)


def snapshot_of(bits: int, width: int, passages: int = 500) -> Snapshot:
    """Two segments with a tombstone in each, and passages without tokens."""
    words = RANDOM.normal(size=(60, width))
    sizes = RANDOM.integers(0, 12, passages)
    tokens = words[RANDOM.integers(60, size=sizes.sum())] + 0.4 * RANDOM.normal(size=(sizes.sum(), width))
    vectors = [part.astype(np.float32) for part in np.split(tokens, np.cumsum(sizes)[:-1])]
    codec = Codec.train(tokens.astype(np.float32), len(tokens), bits=bits, centroids=64)
    half = passages // 2
    segments = tuple(
        CodedSegment(codec.encode(TokenVectors.from_list(some))) for some in (vectors[:half], vectors[half:])
    )
    live = np.delete(np.arange(passages), [7, half + 9])
    return Snapshot(segments, 3 * live, live // half, live % half, codec=codec)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize(("width", "tokens"), [(16, 5), (20, 40)])
def test_it_finds_what_the_kernels_find(bits: int, width: int, tokens: int) -> None:
    snapshot = snapshot_of(bits, width)
    ours, index = NumpyPlaidIndex(snapshot), PlaidIndex.from_snapshot(snapshot)
    queries = TokenVectors.from_list(
        [RANDOM.normal(size=(count, width)).astype(np.float32) for count in (tokens, 1, 0, tokens)]
    )
    for allowed in (None, snapshot.rows[::3], snapshot.rows[:4], np.zeros(0, np.int64)):
        for settings in ({}, {"n_candidates": 30}):
            expected = index.search(queries, 20, allowed=allowed, **settings)
            for hits, wanted in zip(
                ours.search(queries, 20, allowed=allowed, **settings), expected, strict=True
            ):
                assert hits.ids == wanted.ids
                np.testing.assert_allclose(hits.scores, wanted.scores, rtol=1e-5, atol=1e-5)
                assert hits.scores.dtype == np.float32


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [16, 20])
def test_few_tokens_are_decoded_as_many_are(bits: int, width: int) -> None:
    (segment, _), codec = (one := snapshot_of(bits, width)).segments, one.codec
    assert codec is not None and isinstance(segment, CodedSegment)
    coded, wanted = segment.tokens, np.empty((len(segment.tokens.codes_T), width), np.float32)
    arrays = coded.codes_T, coded.residuals_TB, coded.scales_T2
    decode(*arrays, codec.centroids_KP, np.float32(codec.step), codec.levels, codec.scales, wanted)
    np.testing.assert_array_equal(codec.decode(coded).values_TD, wanted)
    none = CodedTokens(*(array[:0] for array in arrays), np.array([0]))
    assert codec.decode(none).values_TD.shape == (0, width)


def test_large_indexes_are_left_to_the_kernels() -> None:
    snapshot = snapshot_of(2, 16)
    assert NumpyPlaidIndex.can_search(snapshot)
    copies = MOST_TOKENS // len(snapshot.segments[0].tokens.codes_T) + 1  # type: ignore[union-attr]
    none = np.zeros(0, np.int64)
    assert not NumpyPlaidIndex.can_search(Snapshot(snapshot.segments[:1] * copies, none, none, none))
