"""The files of a checkpoint: where they are, and what their JSON says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flatcoat.errors import FlatcoatError

Find = Callable[[str], Path | None]
"""A file of the checkpoint by its name, None where it has no such file."""

Values = TypeVar("Values", dict[str, Any], list[Any])

_MOST_BYTES = 16 << 20
"""Of a JSON file that says how a model is built."""


def in_folder(folder: str | Path) -> Find:
    """Finds the files of a folder that may be somebody else's: regular ones, and none outside of it.

    Raises FlatcoatError where the folder, or a file in it, is a link that leads elsewhere. As in the hub's
    cache, links may lead to the blobs beside a snapshot.
    """
    whole, real = Path(folder).absolute(), Path(folder).resolve()
    if any(part.is_symlink() for part in (whole, *whole.parents)):
        raise FlatcoatError(f"a link leads there, to {real}")
    roots = (real, real.parent.parent / "blobs") if real.parent.name == "snapshots" else (real,)

    def find(name: str) -> Path | None:
        path = real / name
        if not path.is_file():  # None of a pipe or a device, which would be waited for.
            return None
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise FlatcoatError(f"its {name} lies outside of its folder")
        return path

    return find


def in_cache(name: str) -> Find:
    """Finds the files of a model in the local cache of the Hugging Face hub.

    Raises FlatcoatError where it is not there.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    def find(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file)
        return Path(found) if isinstance(found, str) and Path(found).is_file() else None

    try:
        if find("config.json") is None:
            raise FlatcoatError("it is neither a folder nor in the local cache of the Hugging Face hub")
    except HFValidationError:
        raise FlatcoatError("it is neither a folder nor a name on the Hugging Face hub") from None
    return find


def read_json(path: Path, kind: type[Values]) -> Values:
    """An object or a list from a file; FlatcoatError where the file holds something else, or far too much."""
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise FlatcoatError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: no model's settings are")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FlatcoatError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, kind):
        wanted = "an object" if kind is dict else "a list"
        raise FlatcoatError(f"{path} holds {type(values).__name__} in JSON where {wanted} is wanted")
    return values
