"""The tensors of a ``model.safetensors`` as NumPy arrays, and their names with and without a head.

Format: https://github.com/huggingface/safetensors. No torch: a query needs none of it.

A matrix may be stored in int8, a quarter of its float32 size: ``NAME`` holds its rows divided by the scales
in ``NAME.scale`` (float32, one per row), and is multiplied by them as it is read.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from flatcoat.errors import DataError

Value = TypeVar("Value")

ENCODER_PREFIX = "model."
EMBEDDINGS = "model.embeddings.tok_embeddings.weight"
_HEAD = re.compile(r"^(head|decoder|classifier)\.")

_HALF = "BF16"
"""bfloat16, the upper half of a float32, which NumPy lacks: it comes as uint16."""

FLOAT_FILE, INT8_FILE = "model.safetensors", "model.int8.safetensors"
"""Names of a checkpoint's weights, in floats and with matrices in int8."""

_SCALE = ".scale"

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", _HALF: "<u2"}


def read_arrays(file: Path, *, as_float32: bool) -> dict[str, np.ndarray]:
    """The arrays of a file by name, mapped into memory: what is not used is not read.

    ``as_float32`` converts (and so reads) those of other dtypes; matrices in int8 always come as float32.
    Other integers, as no weights are, are left out.
    Writing to an array changes it in memory alone. Raises DataError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass  # It checks the header: every tensor lies within the file and is as long as its shape says.
    except SafetensorError as error:
        raise DataError(f"{file} cannot be read as safetensors, copy it again: {error}") from None
    mapped = np.asarray(np.memmap(file, np.uint8, mode="c"))
    start = 8 + int(mapped[:8].view("<u8")[0])
    header: dict[str, Any] = json.loads(bytes(mapped[8:start]))
    header.pop("__metadata__", None)
    arrays: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        if entry["dtype"] in _DTYPES and not name.endswith(_SCALE):
            raw = _raw(mapped[start:], entry)
            arrays[name] = _float32(raw, entry["dtype"]) if as_float32 else np.require(raw, requirements="A")
        elif entry["dtype"] == "I8" and name + _SCALE in header:
            scales = header[name + _SCALE]
            if scales["dtype"] != "F32" or scales["shape"] != entry["shape"][:1]:
                raise DataError(f"{file}: {name} is in int8 without one float32 scale per row: copy it again")
            arrays[name] = _raw(mapped[start:], entry) * _raw(mapped[start:], scales)[:, None]
    return arrays


def write_int8(arrays: Mapping[str, np.ndarray], file: Path) -> None:
    """Write weights with their matrices in int8 and everything else in float32.

    A row's largest value becomes 127, so that no value is off by more than 1/254 of it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write_int8({"linear.weight": np.array([[1.27, -0.5], [0, 0]], np.float32)}, file)
    >>> print(read_arrays(file, as_float32=True)["linear.weight"])
    [[ 1.27 -0.5 ]
     [ 0.    0.  ]]
    """
    from safetensors.numpy import save_file

    stored: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim != 2:
            stored[name] = np.require(array, np.float32, "C")
            continue
        scales = np.abs(array).max(axis=1) / 127
        rows = array / np.where(scales == 0, 1, scales)[:, None]
        stored[name] = np.rint(rows).astype(np.int8)
        stored[name + _SCALE] = scales.astype(np.float32)
    save_file(stored, file)


def _raw(mapped: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    first, last = entry["data_offsets"]
    dtype = "i1" if entry["dtype"] == "I8" else _DTYPES[entry["dtype"]]
    return mapped[first:last].view(dtype).reshape(entry["shape"])


def _float32(raw: np.ndarray, dtype: str) -> np.ndarray:
    wide = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == _HALF else raw
    return np.require(wide, np.float32, "A")


def under_head(state: Mapping[str, Value]) -> dict[str, Value]:
    """Encoder weights under the names that they have beneath a head."""
    return {
        name if name.startswith(ENCODER_PREFIX) or _HEAD.match(name) else ENCODER_PREFIX + name: tensor
        for name, tensor in state.items()
    }


def without_head(state: Mapping[str, Value]) -> dict[str, Value]:
    """The weights of the encoder, under the names that they have without a head."""
    return {
        name.removeprefix(ENCODER_PREFIX): tensor for name, tensor in state.items() if not _HEAD.match(name)
    }
