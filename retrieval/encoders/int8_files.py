"""Checkpoints a quarter of the size: their matrices in int8, in a file that flatcoat alone reads.

``shrink`` writes such a folder from one of sentence-transformers or PyLate, ``restore`` the other way round.
The file has a name of its own, so that other libraries say that they find no weights instead of misreading
these.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flatcoat.atomic_files import atomic_write, readable_weights
from flatcoat.backbone.weight_files import FLOAT_FILE, INT8_FILE, read_arrays, write_int8
from flatcoat.errors import ConflictError, NotFoundError

_LEFT_OUT = (FLOAT_FILE, INT8_FILE, "checkpoints", "data", "start", "run.json")
"""Files of weights, and what only a run that resumes needs."""


def shrink(folder: Path, output: Path) -> None:
    """Write the checkpoint in ``folder`` to ``output``, a new folder, with the backbone's matrices in int8.

    Raises NotFoundError where ``folder`` has no model.safetensors, ConflictError for an output that is there,
    and DataError for damaged weights.
    """
    _require(folder / FLOAT_FILE, output)
    with _copied(folder, output) as unfinished:
        write_int8(read_arrays(folder / FLOAT_FILE, as_float32=True), unfinished / INT8_FILE)


def restore(folder: Path, output: Path) -> None:
    """Write a checkpoint with int8 weights to ``output`` as its library loads it; raises as ``shrink``."""
    from safetensors.numpy import save_file

    _require(folder / INT8_FILE, output)
    with _copied(folder, output) as unfinished:
        arrays = read_arrays(folder / INT8_FILE, as_float32=True)
        save_file(arrays, unfinished / FLOAT_FILE, metadata={"format": "pt"})


@contextmanager
def in_full(name_or_path: str | Path) -> Iterator[str | Path]:
    """The checkpoint as its own library loads it, in a temporary folder if its weights are in int8."""
    if not (Path(name_or_path) / INT8_FILE).is_file():
        yield name_or_path
        return
    with TemporaryDirectory() as folder:
        restore(Path(name_or_path), Path(folder) / "full")
        yield Path(folder) / "full"


def _require(weights: Path, output: Path) -> None:
    if not weights.is_file():
        raise NotFoundError(f"{weights.parent} has no {weights.name}: a folder with these weights is wanted")
    if output.exists():
        raise ConflictError(f"{output} exists: name another --output, or remove it")


@contextmanager
def _copied(folder: Path, output: Path) -> Iterator[Path]:
    """A copy without weights, to be completed; ``output`` appears when it is."""
    with atomic_write(output) as unfinished:
        unfinished.mkdir(parents=True)
        for item in folder.iterdir():
            if item.is_dir() and item.name not in _LEFT_OUT:
                shutil.copytree(item, unfinished / item.name)
            elif item.name not in _LEFT_OUT:
                shutil.copy(item, unfinished)
        yield unfinished
        readable_weights(unfinished)
