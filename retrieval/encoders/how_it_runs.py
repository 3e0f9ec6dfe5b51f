"""Which code loads a model and which computes it, and why not flatcoat's."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.errors import DataError, FlatcoatError, NotFoundError
from flatcoat.hub import hub_is_reachable
from flatcoat.indexing.store.schema import DATABASE

from .checkpoint import read_checkpoint
from .checkpoint_files import Find, in_folder_or_hub, read_json
from .checkpoint_modules import Unsupported
from .load import SHIPPED_MODEL, SHIPPED_NAME, architectures, is_late_interaction

PACKED = "flatcoat, packed"


@dataclass(frozen=True)
class HowItRuns:
    """``kind`` of a model, its ``backbone`` (transformers' model type), and the code that runs it.

    ``why_not_packed`` and ``why_not_read`` are empty where flatcoat's own code computes and loads it.
    """

    kind: str
    backbone: str
    computed_by: str
    why_not_packed: str
    loaded_by: str
    why_not_read: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def how_it_runs(name: str) -> HowItRuns:
    """How the model of a folder or hub name runs. Raises NotFoundError if there is no such model.

    >>> how_it_runs(SHIPPED_NAME).computed_by
    'flatcoat, packed'
    """
    path = str(SHIPPED_MODEL) if name == SHIPPED_NAME else name
    local = not (Path(path).is_dir() or hub_is_reachable())
    find = in_folder_or_hub(path, local_files_only=local)
    file = find("config.json")
    if file is None:
        is_index = (Path(path) / DATABASE).is_file()
        said = f" (of an index: flatcoat info --index {name})" if is_index else ""
        raise NotFoundError(f"{name} has no config.json: a folder or hub name of a model is wanted{said}")
    values = read_json(file, dict)
    late = is_late_interaction(path, local_files_only=local)
    kind, library = _kind(path, find, late=late, local=local)
    why_not_packed = _why_not_packed(values)
    why_not_read = _why_not_read(find, kind, late=late)
    return HowItRuns(
        kind=kind,
        backbone=str(values.get("model_type")),
        computed_by="transformers" if why_not_packed else PACKED,
        why_not_packed=why_not_packed,
        loaded_by=library if why_not_read else "flatcoat",
        why_not_read=why_not_read,
    )


def _kind(path: str, find: Find, *, late: bool, local: bool) -> tuple[str, str]:
    """What a model gives, and the library that loads such models."""
    if late:
        return "late interaction", "sentence-transformers"
    classes = architectures(path, local_files_only=local)
    if any(name.endswith("ForSequenceClassification") for name in classes):
        return "cross-encoder", "sentence-transformers"
    return "dense", "sentence-transformers"


def _why_not_packed(values: dict[str, Any]) -> str:
    try:
        ModernBertConfig.from_hf(values)
    except DataError as error:
        return str(error)
    return ""


def _why_not_read(find: Find, kind: str, *, late: bool) -> str:
    try:
        if kind == "cross-encoder":
            from .cross_encoder import read_cross_encoder

            read_cross_encoder(find)
        else:
            read_checkpoint(find, late)
    except (Unsupported, FlatcoatError, OSError) as error:
        return str(error)
    return ""
