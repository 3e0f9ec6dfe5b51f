"""Weights in int8: how far off they are, what is left as it was, and damaged files."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flatcoat.backbone.weight_files import read_arrays, write_int8
from flatcoat.errors import DataError


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "a.weight": generator.normal(size=(50, 31)).astype(np.float32) * generator.uniform(0, 9, (50, 1)),
        "b.weight": np.zeros((3, 4), np.float32),
        "b.bias": generator.normal(size=4).astype(np.float32),
    }


@pytest.mark.parametrize("as_float32", [True, False])
def test_matrices_come_back_within_half_a_step(tmp_path: Path, as_float32: bool) -> None:
    file, before = tmp_path / "model.safetensors", weights()
    write_int8(before, file)
    after = read_arrays(file, as_float32=as_float32)
    assert after.keys() == before.keys()
    assert {array.dtype for array in after.values()} == {np.dtype(np.float32)}
    step_N1 = np.abs(before["a.weight"]).max(axis=1, keepdims=True) / 127
    assert (np.abs(after["a.weight"] - before["a.weight"]) <= 0.5001 * step_N1).all()
    assert (after["b.weight"] == 0).all()
    assert (after["b.bias"] == before["b.bias"]).all()
    assert file.stat().st_size < 50 * 31 + 4 * 50 + 1_000


def test_int8_without_scales_is_no_weight(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"positions": np.arange(3, dtype=np.int8), "w": np.ones(2, np.float32)}, file)
    assert read_arrays(file, as_float32=True).keys() == {"w"}


@pytest.mark.parametrize(
    "scales", [np.ones(3, np.float32), np.ones((2, 1), np.float32), np.ones(2, np.float16)], ids=str
)
def test_scales_that_do_not_fit_are_an_error(tmp_path: Path, scales: np.ndarray) -> None:
    file = tmp_path / "model.safetensors"
    write_int8({"w": np.ones((2, 2), np.float32)}, file)
    save_file(load_file(file) | {"w.scale": scales}, file)
    with pytest.raises(DataError, match="without one float32 scale per row"):
        read_arrays(file, as_float32=True)
