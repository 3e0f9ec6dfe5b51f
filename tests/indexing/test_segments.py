"""Segment files: what is written is read again, however it was cut, and what counts as ours."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing import segments
from flatcoat.indexing.array_files import WrittenFile
from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.plaid.kernels import inverted_lists
from flatcoat.indexing.segments import (
    CodedSegment,
    as_stored,
    open_segment,
    sweep,
    take,
    write_blocks,
    write_segment,
)
from flatcoat.indexing.vectors import CodedTokens, TokenVectors

SIZES = [3, 0, 1, 7, 2, 0, 9]


def token_vectors(sizes: list[int] = SIZES, width: int = 16) -> TokenVectors:
    random = np.random.default_rng(5)
    return TokenVectors.from_list([random.standard_normal((n, width)).astype(np.float16) for n in sizes])


def opened(folder: Path, files: list[WrittenFile]) -> segments.Segment:
    return open_segment(folder, {file.name: file.bytes for file in files})


def equal(some: CodedTokens, others: CodedTokens) -> bool:
    parts = "codes_T", "residuals_TB", "scales_T2", "offsets"
    return all(np.array_equal(getattr(some, part), getattr(others, part)) for part in parts)


def test_written_and_opened(tmp_path: Path) -> None:
    vectors = TokenVectors.from_list([np.ones((2, 3)), np.zeros((0, 3)), np.full((1, 3), 0.1)])
    files = write_segment(tmp_path, 12, stored=as_stored(vectors))
    assert [file.name for file in files] == ["000012.values.npy", "000012.offsets.npy"]
    held = opened(tmp_path, files)
    assert isinstance(held, TokenVectors)
    assert held.values_TD.dtype == np.float16
    assert held.offsets.tolist() == [0, 2, 2, 3]
    with pytest.raises(FileExistsError):
        write_segment(tmp_path, 12, stored=vectors)


def test_coded_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = token_vectors()
    codec = Codec.train(vectors.values_TD, len(vectors.values_TD), centroids=5)
    coded = codec.encode(vectors)
    held = opened(tmp_path, write_segment(tmp_path, 1, stored=coded, lists_of=codec.inverted_lists))
    assert isinstance(held, CodedSegment)
    assert equal(held.tokens, coded)
    assert held.lists is None
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", len(vectors.values_TD))
    files = write_segment(tmp_path, 2, stored=coded, lists_of=codec.inverted_lists)
    parts = ["codes", "residuals", "scales", "offsets", "lists", "list_offsets"]
    assert [file.name for file in files] == [f"000002.{part}.npy" for part in parts]
    held = opened(tmp_path, files)
    assert isinstance(held, CodedSegment)
    assert held.lists is not None and held.list_offsets is not None
    lists, list_offsets = inverted_lists(coded.codes_T, coded.offsets, centroids=5)
    assert (held.lists.dtype, held.list_offsets.dtype) == (np.uint16, np.uint32)
    assert held.lists.tolist() == lists.tolist()
    assert held.list_offsets.tolist() == list_offsets.tolist()


@pytest.mark.parametrize("kind", ["dense", "token", "coded"])
def test_blocks_make_the_files_that_the_whole_makes(tmp_path: Path, kind: str) -> None:
    vectors = token_vectors()
    codec = Codec.train(vectors.values_TD, len(vectors.values_TD))
    stored = {"dense": vectors.values_TD, "token": vectors, "coded": codec.encode(vectors)}[kind]
    offsets = None if isinstance(stored, np.ndarray) else stored.offsets
    blocks = [take(stored, np.arange(*cut)) for cut in ((0, 1), (1, 3), (3, 3), (3, len(stored)))]
    count = len(vectors.values_TD)
    (tmp_path / "blocks").mkdir()
    in_blocks = write_blocks(tmp_path / "blocks", 1, blocks=blocks, vectors=count, offsets=offsets)
    assert in_blocks == write_segment(tmp_path, 1, stored=stored)
    with pytest.raises(AssertionError, match="got"):
        write_blocks(tmp_path / "blocks", 2, blocks=blocks[1:], vectors=count, offsets=offsets)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=8).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.sets(st.integers(0, len(sizes) - 1)))
    )
)
def test_take_copies_passages(drawn: tuple[list[int], set[int]]) -> None:
    sizes, chosen = drawn
    vectors = token_vectors(sizes)
    positions = np.array(sorted(chosen), np.int64)
    wanted = TokenVectors.from_list([vectors[i] for i in positions], vectors.width)
    taken = take(vectors, positions)
    assert isinstance(taken, TokenVectors)
    assert taken.offsets.tolist() == wanted.offsets.tolist()
    assert np.array_equal(taken.values_TD, wanted.values_TD)
    codec = Codec.train(token_vectors().values_TD, 22)
    part = take(codec.encode(vectors), positions)
    assert isinstance(part, CodedTokens)
    assert equal(part, codec.encode(wanted))


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=9))
def test_inverted_lists_equal_the_definition(codes: list[list[int]]) -> None:
    lists, list_offsets = inverted_lists(
        np.array([code for passage in codes for code in passage], np.uint16),
        np.cumsum([0, *map(len, codes)]),
        centroids=7,
    )
    found = [lists[first:last].tolist() for first, last in pairwise(list_offsets)]
    assert found == [[n for n, passage in enumerate(codes) if code in passage] for code in range(7)]


def test_inverted_lists_of_the_largest_segment() -> None:
    offsets = np.arange((1 << 16) + 1)
    lists, list_offsets = inverted_lists(np.full(1 << 16, 65_535, np.uint16), offsets, centroids=1 << 16)
    assert np.array_equal(lists, np.arange(1 << 16))
    assert (list_offsets[-2], list_offsets[-1]) == (0, 1 << 16)


def test_segments_without_a_vector_open(tmp_path: Path) -> None:
    nothing = TokenVectors.from_list([np.zeros((0, 16))])
    codec = Codec.train(token_vectors().values_TD, 22)
    for number, stored in enumerate(
        [np.zeros((0, 3), np.float16), as_stored(nothing), codec.encode(nothing)]
    ):
        assert len(opened(tmp_path, write_segment(tmp_path, number, stored=stored))) == len(stored)


def test_sweep_deletes_our_own_files_alone(tmp_path: Path) -> None:
    ours = ["000001.values.npy", "000002.list_offsets.npy", "1000000.codes.npy", "000003.codec.npz"]
    others = ["notes.txt", "1.values.npy", "000004.faiss.bak", "000005.npy"]
    for name in [*ours, "000004.faiss", *others]:
        (tmp_path / name).touch()
    sweep(tmp_path, {"000001.values.npy"})
    assert {path.name for path in tmp_path.iterdir()} == {"000001.values.npy", *others}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e5])
def test_what_float16_cannot_hold_is_refused(bad: float) -> None:
    with pytest.raises(FlatcoatError, match="vector 1 holds"):
        as_stored(np.array([[1.0], [bad]]))
