"""The files of a checkpoint, in a folder, in the hub's cache or on the hub; their JSON; code that they name.

A checkpoint that somebody else named is data. Yet sentence-transformers and PyLate import the classes that
modules.json and a module's activation_function name, even from a local folder, and transformers imports what
auto_map names: ``require_data_only`` refuses such a checkpoint.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from flatcoat.errors import DataError, FlatcoatError, NotFoundError, UsageError, first_line
from flatcoat.hub import model_error

Find = Callable[[str], Path | None]
"""A file of the checkpoint by its name, None if it has no such file."""

Values = TypeVar("Values", dict[str, Any], list[Any])

_MAX_JSON_BYTES = 16 << 20

_PACKAGES = ("sentence_transformers", "pylate")
_MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "MultiVectorMask"}
_CONFIGS = ("config.json", "tokenizer_config.json", "sentence_bert_config.json")


def in_folder(folder: str | Path) -> Find:
    """Finds the regular files of an untrusted folder, none outside of it.

    Raises UsageError if the folder is a symbolic link, and DataError if a file in it is a link out of it. In
    the hub's cache, links may lead to the blobs beside a snapshot.
    """
    whole, real = Path(folder).absolute(), Path(folder).resolve()
    if any(part.is_symlink() for part in (whole, *whole.parents)):
        raise UsageError(f"a link leads there, to {real}")
    roots = (real, real.parent.parent / "blobs") if real.parent.name == "snapshots" else (real,)

    def find(name: str) -> Path | None:
        path = real / name
        if not path.is_file():  # A pipe or a device would block the reader.
            return None
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise DataError(f"its {name} lies outside of its folder")
        return path

    return find


def in_cache(name: str) -> Find:
    """Finds the files of a model in the local cache of the Hugging Face hub; NotFoundError without them."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    def find(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file)
        return Path(found) if isinstance(found, str) and Path(found).is_file() else None

    try:
        if find("config.json") is None:
            raise NotFoundError("it is neither a folder nor in the local cache of the Hugging Face hub")
    except HFValidationError:
        raise NotFoundError("it is neither a folder nor a name on the Hugging Face hub") from None
    return find


def in_folder_or_hub(name_or_path: str | Path, *, local_files_only: bool = False) -> Find:
    """Finds the files of a model in its folder, else on the hub, downloading each when it is looked up.

    A look-up raises DataError or NotFoundError (``loading_error``) if the hub has no such model or does not
    answer.
    """

    def find(file: str) -> Path | None:
        if Path(name_or_path).is_dir():
            path = Path(name_or_path) / file
            return path if path.is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(str(name_or_path), file, local_files_only=local_files_only))
        except LocalEntryNotFoundError as error:
            raise loading_error(name_or_path, error) from error
        except EntryNotFoundError:
            return None
        except (OSError, HFValidationError) as error:
            raise loading_error(name_or_path, error) from error

    return find


def read_json(path: Path, kind: type[Values]) -> Values:
    """A JSON object or list from a file; DataError for anything else, or a file too large for settings."""
    with path.open("rb") as file:
        content = file.read(_MAX_JSON_BYTES + 1)
    if len(content) > _MAX_JSON_BYTES:
        raise DataError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MiB: no model's settings are")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, kind):
        expected = "an object" if kind is dict else "a list"
        raise DataError(f"{path} holds {type(values).__name__} in JSON where {expected} is wanted")
    return values


def require_data_only(find: Find, name: str) -> None:
    """Raise UsageError if loading the checkpoint ``name`` would import code beyond its library's modules."""
    for file in _CONFIGS:
        _require("auto_map" not in _settings(find, file), name, f"{file} has an auto_map")
    listed = find("modules.json")
    for module in [] if listed is None else read_json(listed, list):
        _require(isinstance(module, dict), name, "modules.json holds more than modules")
        kind, path = str(module.get("type")), str(module.get("path"))
        known = kind.partition(".")[0] in _PACKAGES and kind.rpartition(".")[2] in _MODULES
        _require(known, name, f"modules.json names {kind}")
        parts = PurePosixPath(path.replace("\\", "/"))
        _require(not parts.is_absolute() and ".." not in parts.parts, name, f"modules.json names {path}")
        activation = _settings(find, str(parts / "config.json")).get("activation_function")
        plain = activation is None or str(activation).startswith("torch.nn.modules.activation.")
        plain = plain or activation == "torch.nn.modules.linear.Identity"
        _require(plain, name, f"{parts / 'config.json'} names {activation}")


def _require(condition: bool, name: str, fault: str) -> None:
    if not condition:
        raise UsageError(
            f"{name} is not loaded, for it could run code: {' '.join(fault.split())[:200]}; where you trust "
            "it, name it yourself (--set base=...)"
        )


def _settings(find: Find, file: str) -> dict[str, Any]:
    path = find(file)
    return {} if path is None else read_json(path, dict)


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn the exceptions of libraries that load the model ``name`` into a one-line ``loading_error``."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise loading_error(name, error) from error


def loading_error(name: str | Path, error: Exception) -> FlatcoatError:
    """A library's exception in one line: DataError for a folder, NotFoundError for a name on the hub."""
    if Path(name).exists():
        return DataError(f"the model in {name} cannot be loaded: {first_line(error)}")
    return model_error(name, error)
