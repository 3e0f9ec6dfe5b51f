"""Loading an encoder by its name: which of the two kinds it is, which code reads it, whether to trust it."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError, UsageError
from flatcoat.hub import hub_is_reachable

from .checkpoint_files import Find, in_cache, in_folder, in_folder_or_hub, read_json
from .encoder import checked_texts
from .late_settings import is_late

if TYPE_CHECKING:
    from .contract import Precision
    from .encoder import Encoder, QueryEncoder
    from .fast_tokenizer import FastTokenizer

SHIPPED_MODEL = Path(__file__).parents[1] / "minilm"
"""The retriever inside the package: no hub and no network needed."""

SHIPPED_NAME = "flatcoat-minilm"

SHIPPED_PRECISION: "Precision" = "int8"
"""Of new indexes by that model: computed so where the processor has instructions for it."""

_EARLIER = "flatcoat-small"
"""The model that was inside before, whose weights the package no longer has."""

logger = logging.getLogger(__name__)


def load_encoder(
    name_or_path: str | Path | None = None, precision: "Precision | None" = None, **options: Any
) -> "Encoder":
    """Load a dense or late-interaction encoder by folder or hub name; None is the one inside the package.

    A checkpoint is late-interaction if its files say so: the formats of PyLate, Stanford's ColBERT and
    MultiVectorEncoder are known. ``precision`` is the arithmetic of a backbone of flatcoat's; "int8" runs on
    the CPU. The default is float32 on a CPU, on a GPU the dtype of the saved weights. ``options`` go to
    ``ColbertEncoder.load`` or ``DenseEncoder.load``. Raises NotFoundError for an unknown model, DataError for
    a damaged folder, and UsageError for a precision that the model does not have.

    >>> load_encoder("org/model", "bf16").contract.width  # doctest: +SKIP
    768
    """
    name = str(name_or_path or SHIPPED_NAME)
    path = model_path(name)
    if not Path(path).is_dir() and not hub_is_reachable():
        options.setdefault("local_files_only", True)
    if precision == "int8":
        options.setdefault("device", "cpu")
    find = in_folder_or_hub(path, local_files_only=options.get("local_files_only", False))
    late = is_late(find)
    encoder_class = _encoder_class(late)
    checkpoint = None
    if options.keys() <= {"device", "local_files_only"}:
        from .torch_checkpoint import try_load_checkpoint

        checkpoint = try_load_checkpoint(find, late, device=options.get("device"))
    if checkpoint is None:
        encoder = encoder_class.load(path, precision, **options)
    else:
        encoder = encoder_class(checkpoint, name, precision=precision)
    encoder.name = own_name(name)
    return encoder


def as_encoder(model: Any) -> "str | Path | Encoder":
    """The encoder over a model of sentence-transformers or PyLate; a name or an encoder is returned as it is.

    A ``SentenceTransformer`` is not copied, a late-interaction model is. Its name is that by which it was
    loaded. Raises UsageError for anything else.
    """
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    if isinstance(model, str | Path) or hasattr(model, "contract"):
        return model
    if not kinds & {"sentence_transformers.SentenceTransformer", "sentence_transformers.MultiVectorEncoder"}:
        raise UsageError(
            f"the model is {type(model).__name__}: the name of a checkpoint, an encoder, a "
            "SentenceTransformer or a MultiVectorEncoder is wanted"
        )
    name = own_name(model[0].auto_model.name_or_path)
    if kinds & {"sentence_transformers.MultiVectorEncoder", "pylate.ColBERT"}:
        from .colbert import ColbertEncoder

        with TemporaryDirectory() as folder:
            model.save_pretrained(folder, create_model_card=False)
            encoder = ColbertEncoder.load(folder, device=str(model.device))
        encoder.name = name
        return encoder
    return _encoder_class("flatcoat.ColbertModel" in kinds)(model, name)


def own_name(name_or_path: str | Path) -> str:
    """The name of a model in a contract: for a folder its absolute path, which is found from anywhere."""
    name = str(name_or_path)
    return str(Path(name).resolve()) if name != SHIPPED_NAME and Path(name).is_dir() else name


def model_path(name: str) -> str | Path:
    """The folder of the model inside the package by its name; any other name as it is.

    Raises NotFoundError, which says how to make it, for the model that was inside before.

    >>> model_path("org/model")
    'org/model'
    """
    if name == _EARLIER and not Path(name).exists():
        raise NotFoundError(
            f"{_EARLIER} is no longer inside flatcoat: leave --model out for {SHIPPED_NAME}, or make it with "
            f"flatcoat train {_EARLIER} and name its folder"
        )
    return SHIPPED_MODEL if name == SHIPPED_NAME else name


def load_query_encoder(name: str, *, is_trusted: bool) -> "QueryEncoder | None":
    """What encodes queries by a model without torch; None, with the reason logged, where only torch can.

    A model that the user did not name is not ``is_trusted``: it is read as by ``load_untrusted``.

    >>> load_query_encoder(SHIPPED_NAME, is_trusted=True).encode_queries(["cats purr"]).values_TD.shape
    (5, 128)
    """
    from .checkpoint import LateCheckpoint, read_checkpoint
    from .checkpoint_modules import Unsupported
    from .queries import ColbertQueries, DenseQueries

    try:
        if is_trusted or name == SHIPPED_NAME:
            path = model_path(name)
            find = in_folder_or_hub(path, local_files_only=not (Path(path).is_dir() or hub_is_reachable()))
        else:
            find = _as_data(name)
        checkpoint = read_checkpoint(find, is_late(find))
    except (Unsupported, FlatcoatError, OSError, ValueError) as error:
        logger.info("the model %s encodes queries by torch: %s", _printable(name), _printable(str(error)))
        return None
    if isinstance(checkpoint, LateCheckpoint):
        return ColbertQueries(checkpoint, name)
    return DenseQueries(checkpoint, name)


def shipped_token_counts(texts: Sequence[str]) -> list[int]:
    """Tokens per text as a document of the model inside the package, of which the tokenizer alone is loaded.

    >>> shipped_token_counts(["cats purr"])
    [6]
    """
    return [count + 1 for count in _shipped_tokenizer().counts(checked_texts(texts))]  # With its prefix.


@cache
def _shipped_tokenizer() -> "FastTokenizer":
    from .fast_tokenizer import FastTokenizer

    settings = read_json(SHIPPED_MODEL / "tokenizer_config.json", dict)
    return FastTokenizer(SHIPPED_MODEL / "tokenizer.json", settings)


def load_untrusted(name: str, *, named_by: str, precision: "Precision | None" = None) -> "Encoder":
    """Load a model that the user did not name: a file did, such as an index that somebody else made.

    Reads the model as data: with flatcoat's own code, from a folder or from the local cache of the hub. No
    code of the checkpoint or of another library runs, nothing is downloaded. Raises UsageError with the
    reason if that is impossible: the user may then name the model, for ``load_encoder``.
    """
    from .checkpoint_modules import Unsupported
    from .torch_checkpoint import load_checkpoint

    if name == SHIPPED_NAME:
        return load_encoder(None, precision)
    if name == _EARLIER:
        raise ConflictError(
            f"{named_by} was made with {_EARLIER}, which flatcoat had inside before {SHIPPED_NAME}: make "
            "a new index of the same files (flatcoat index FOLDER --index NEW)"
        )
    try:
        find = _as_data(name)
        late = is_late(find)
        return _encoder_class(late)(load_checkpoint(find, late), name, precision=precision)
    except (Unsupported, FlatcoatError, OSError, ValueError) as error:
        logger.debug("the model %r, named by %s, is not read as data", name, named_by, exc_info=True)
        shown = _printable(name)
        made = f"{named_by} was made with the model {shown}"
        if Path(name).is_absolute() and not Path(name).exists():
            raise UsageError(
                f"{made}, a folder that is no longer there: name the one it is in now with --model (in "
                "Python with model=), or index the same files anew (flatcoat index FOLDER --index NEW)"
            ) from error
        raise UsageError(
            f"{made}, which cannot be read as data alone ({_printable(str(error))}): "
            f"if you trust that model, name it yourself with --model {shown} (in Python with model=)"
        ) from error


def _as_data(name: str) -> Find:
    return in_folder(name) if Path(name).is_dir() else in_cache(name)


def _printable(text: str) -> str:
    """Untrusted text in one line of bounded length, without characters that a terminal would interpret."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= 300 else f"{line[:300]}…"


def _encoder_class(late: bool) -> Any:
    """ColbertEncoder or DenseEncoder; the other and its libraries are not imported."""
    if late:
        from .colbert import ColbertEncoder

        return ColbertEncoder
    from .dense import DenseEncoder

    return DenseEncoder


def fast_here(precision: "Precision") -> "Precision | None":
    """``precision`` if this machine has instructions for it, else None, which is a model's default."""
    import torch

    from flatcoat.backbone.environment import fast_precisions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return precision if precision in fast_precisions(device) else None


def index_precision(name: str | Path | None) -> "Precision | None":
    """The precision of a new index by a model if none is named; None: the model's own.

    >>> index_precision(SHIPPED_NAME), index_precision("org/model")
    ('int8', None)
    """
    return SHIPPED_PRECISION if name in (None, SHIPPED_NAME) else None


def is_late_interaction(name_or_path: str | Path, *, local_files_only: bool = False) -> bool:
    """True for a checkpoint of PyLate, of sentence-transformers' MultiVectorEncoder, and for a Stanford one.

    >>> is_late_interaction(SHIPPED_MODEL)
    True
    """
    return is_late(in_folder_or_hub(name_or_path, local_files_only=local_files_only))


def architectures(name_or_path: str | Path, *, local_files_only: bool = False) -> Sequence[str]:
    """The classes that a checkpoint's config.json names."""
    path = model_path(str(name_or_path))
    return _architectures(in_folder_or_hub(path, local_files_only=local_files_only))


def _architectures(find: Find) -> Sequence[str]:
    path = find("config.json")
    names = None if path is None else read_json(path, dict).get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else ()
