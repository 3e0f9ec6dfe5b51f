"""Which encoder a name stands for."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.errors import FlatcoatError
from flatcoat.hub import hub_is_reachable

from .checkpoint_files import Find, in_cache, in_folder, read_json

if TYPE_CHECKING:
    from .contract import Precision
    from .encoder import Encoder

SHIPPED_MODEL = Path(__file__).parents[1] / "small"
"""The retriever inside the package: no hub and no network needed."""

SHIPPED_NAME = "flatcoat-small"

logger = logging.getLogger(__name__)


def load_encoder(
    name_or_path: str | Path | None = None, precision: "Precision | None" = None, **options: Any
) -> "Encoder":
    """Load a dense or late-interaction encoder by folder or hub name; None is the one inside the package.

    A checkpoint is late-interaction where its files say so: PyLate's and Stanford's formats are known.
    ``precision`` is what a ModernBERT backbone computes in; "int8" puts it on the CPU. The default is float32
    on a CPU, on a GPU the dtype that the weights were saved in. Raises FlatcoatError where there is no such
    model, or no such precision for it.
    """
    name = str(name_or_path or SHIPPED_NAME)
    path = SHIPPED_MODEL if name == SHIPPED_NAME else name
    if not Path(path).is_dir() and not hub_is_reachable():
        options.setdefault("local_files_only", True)
    if precision == "int8":
        options.setdefault("device", "cpu")
    local = options.get("local_files_only", False)
    late = is_late_interaction(path, local)
    kind = _kind(late)
    checkpoint = None
    if options.keys() <= {"device", "local_files_only"}:
        from .checkpoint import read_checkpoint

        checkpoint = read_checkpoint(lambda file: _file(path, file, local), late, options.get("device"))
    encoder = (
        kind.load(path, precision, **options) if checkpoint is None else kind(checkpoint, name, precision)
    )
    # A folder is named in full, so that an index finds its model from anywhere.
    encoder.name = str(Path(name).resolve()) if path == name and Path(name).is_dir() else name
    return encoder


def load_named(name: str, by: str, precision: "Precision | None" = None) -> "Encoder":
    """Load a model that nothing but a file names, ``by`` an index say, which may be somebody else's.

    It is read as data: by flatcoat alone, from a folder or from the hub's local cache. No code of the
    checkpoint or of another library runs, and nothing is fetched. Raises FlatcoatError, which says why,
    where that cannot be done: then the user may name the model himself, for ``load_encoder``.
    """
    from .checkpoint import Unknown, known_checkpoint

    if name == SHIPPED_NAME:
        return load_encoder(None, precision)
    try:
        find = in_folder(name) if Path(name).is_dir() else in_cache(name)
        late = _is_late(find)
        encoder = _kind(late)(known_checkpoint(find, late), name, precision)
    except (Unknown, FlatcoatError, OSError, ValueError) as why:
        logger.debug("the model %r, named by %s, is not read as data", name, by, exc_info=True)
        reason = _printable(str(why))
        shown = _printable(name)
        raise FlatcoatError(
            f"{by} was made with the model {shown}, which cannot be read as data alone ({reason}): "
            f"if you trust that model, name it yourself with --model {shown} (in Python with model=)"
        ) from why
    return encoder


def _printable(text: str) -> str:
    """One line of what somebody else wrote, without what a terminal would take for a command."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= 300 else f"{line[:300]}…"


def _kind(late: bool) -> Any:
    """An encoder's class; the other one's libraries are not imported."""
    if late:
        from .colbert import ColbertEncoder

        return ColbertEncoder
    from .dense import DenseEncoder

    return DenseEncoder


def fast_here(precision: "Precision") -> "Precision | None":
    """The precision where this machine has instructions for it, else None, which is a model's default."""
    import torch

    from flatcoat.backbone.environment import fast_precisions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return precision if precision in fast_precisions(device) else None


def is_late_interaction(name_or_path: str | Path, local_files_only: bool = False) -> bool:
    """True of a PyLate checkpoint (its config names ColBERT or MaxSim) and of a Stanford one."""
    return _is_late(lambda file: _file(name_or_path, file, local_files_only))


def architectures(name_or_path: str | Path, local_files_only: bool = False) -> Sequence[str]:
    """The classes that a checkpoint's config.json names."""
    return _architectures(lambda file: _file(name_or_path, file, local_files_only))


def _is_late(find: Find) -> bool:
    path = find("config_sentence_transformers.json")
    if path is None:
        return "HF_ColBERT" in _architectures(find)
    said = read_json(path, dict)
    return said.get("model_type") == "ColBERT" or said.get("similarity_fn_name") == "MaxSim"


def _architectures(find: Find) -> Sequence[str]:
    path = find("config.json")
    named = None if path is None else read_json(path, dict).get("architectures")
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else ()


def _file(name_or_path: str | Path, file: str, local_files_only: bool) -> Path | None:
    """A file of a checkpoint, fetched from the hub where that has it; None where there is no such file."""
    if Path(name_or_path).is_dir():
        path = Path(name_or_path) / file
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    from .encoder import loading_error

    try:
        return Path(hf_hub_download(str(name_or_path), file, local_files_only=local_files_only))
    except EntryNotFoundError as error:
        if "LocalEntryNotFound" in type(error).__name__:
            raise loading_error(name_or_path, error) from error
        return None
    except (OSError, HFValidationError) as error:
        raise loading_error(name_or_path, error) from error
