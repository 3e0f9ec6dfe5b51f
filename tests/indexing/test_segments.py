"""Segment files: what counts as ours, and that a failed write leaves no number taken."""

from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.segments import as_stored, open_segment, sweep, write_segment
from flatcoat.indexing.types import TokenVectors


def test_written_and_opened(tmp_path: Path) -> None:
    vectors = TokenVectors.from_list([np.ones((2, 3)), np.zeros((0, 3)), np.full((1, 3), 0.1)])
    files = write_segment(tmp_path, 12, as_stored(vectors))
    assert [file.name for file in files] == ["000012.values.npy", "000012.offsets.npy"]
    held = open_segment(tmp_path, {file.name: file.bytes for file in files})
    assert isinstance(held, TokenVectors)
    assert held.values_TD.dtype == np.float16
    assert held.offsets.tolist() == [0, 2, 2, 3]
    with pytest.raises(FileExistsError):
        write_segment(tmp_path, 12, vectors)


def test_segments_without_a_vector_open(tmp_path: Path) -> None:
    for number, vectors in enumerate(
        [np.zeros((0, 3), np.float16), TokenVectors.from_list([np.zeros((0, 3))])]
    ):
        files = write_segment(tmp_path, number, as_stored(vectors))
        assert len(open_segment(tmp_path, {file.name: file.bytes for file in files})) == len(vectors)


def test_sweep_deletes_our_own_files_alone(tmp_path: Path) -> None:
    for name in ["000001.values.npy", "000002.values.npy", "1000000.codes.npy", "notes.txt", "1.values.npy"]:
        (tmp_path / name).touch()
    sweep(tmp_path, {"000001.values.npy"})
    assert {path.name for path in tmp_path.iterdir()} == {"000001.values.npy", "notes.txt", "1.values.npy"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e5])
def test_what_float16_cannot_hold_is_refused(bad: float) -> None:
    with pytest.raises(FlatcoatError, match="vector 1 holds"):
        as_stored(np.array([[1.0], [bad]]))
