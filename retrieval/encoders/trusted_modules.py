"""A checkpoint that somebody else named is data: its files may not name classes of its own or anybody's.

sentence-transformers and PyLate import what modules.json names, from a local folder too, and what a module's
config.json names as its activation function; transformers imports what auto_map names.
"""

from pathlib import PurePosixPath
from typing import Any

from flatcoat.errors import FlatcoatError

from .checkpoint_files import Find, read_json

_PACKAGES = ("sentence_transformers", "pylate")
_MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}
_CONFIGS = ("config.json", "tokenizer_config.json", "sentence_bert_config.json")


def require_data_only(find: Find, name: str) -> None:
    """FlatcoatError where loading the checkpoint ``name`` would import more than its library's modules."""
    for file in _CONFIGS:
        _require("auto_map" not in _said(find, file), name, f"{file} has an auto_map")
    listed = find("modules.json")
    for module in [] if listed is None else read_json(listed, list):
        _require(isinstance(module, dict), name, "modules.json holds more than modules")
        kind, path = str(module.get("type")), str(module.get("path"))
        known = kind.partition(".")[0] in _PACKAGES and kind.rpartition(".")[2] in _MODULES
        _require(known, name, f"modules.json names {kind}")
        parts = PurePosixPath(path.replace("\\", "/"))
        _require(not parts.is_absolute() and ".." not in parts.parts, name, f"modules.json names {path}")
        activation = _said(find, str(parts / "config.json")).get("activation_function")
        plain = activation is None or str(activation).startswith("torch.nn.modules.activation.")
        plain = plain or activation == "torch.nn.modules.linear.Identity"
        _require(plain, name, f"{parts / 'config.json'} names {activation}")


def _require(fine: bool, name: str, fault: str) -> None:
    if not fine:
        raise FlatcoatError(
            f"{name} is not loaded, for it could run code: {' '.join(fault.split())[:200]}; where you trust "
            "it, name it yourself (--set base=...)"
        )


def _said(find: Find, file: str) -> dict[str, Any]:
    path = find(file)
    return {} if path is None else read_json(path, dict)
