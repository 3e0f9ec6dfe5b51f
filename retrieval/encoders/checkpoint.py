"""ModernBERT checkpoints of sentence-transformers and PyLate, read without those libraries, for encoding.

Importing the libraries takes longer than everything else in a first search. A model read here has the
attributes of theirs that encoders use, and computes the same vectors. A checkpoint with any setting that this
file does not know is left to its own library.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.weights import init_empty_weights
from flatcoat.errors import FlatcoatError

from .checkpoint_files import Find, read_json
from .fast_tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

_LIBRARIES = ("sentence_transformers.", "pylate.")
_MAX_TOKENS = 8192
"""The longest text for which ModernBERT was trained, whatever a checkpoint claims: it bounds memory."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
}
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which sentence-transformers concatenates them."""


class Unsupported(Exception):
    """A checkpoint that this file does not read; the message says which of its settings is the reason."""


def try_load_checkpoint(find: Find, late: bool, *, device: str | None = None) -> "Checkpoint | None":
    """A checkpoint with the same vectors as by its own library, or None: then that library must load it.

    The reason for None is logged (debug).
    """
    if device is None and torch.backends.mps.is_available():
        logger.debug("a checkpoint is left to its own library: it chooses Apple's GPU")
        return None
    try:
        return load_checkpoint(find, late, device=device)
    except Unsupported as reason:
        logger.debug("a checkpoint is left to its own library: %s", reason)
        return None


def load_checkpoint(find: Find, late: bool, *, device: str | None = None) -> "Checkpoint":
    """The same from untrusted files: they are read as data, no code of theirs or of a library runs.

    Raises Unsupported, with the reason, for files that cannot be read or have settings unknown here.
    """
    from safetensors import SafetensorError

    try:
        model = (LateCheckpoint if late else DenseCheckpoint)(find)
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    except FlatcoatError as error:
        raise Unsupported(str(error)) from error
    # RuntimeError is torch's, for tensors that do not fit and for devices. Errors that only a mistake in the
    # code raises (TypeError, AttributeError, KeyError) are let through.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise Unsupported(f"{type(error).__name__}: {error}") from error


class Checkpoint(nn.Sequential):
    """The backbone and the modules after it, their weights named as sentence-transformers names them."""

    def __init__(self, find: Find) -> None:
        modules = read_json(_present(find, "modules.json"), list)
        kinds = [_class_name(module) for module in modules]
        _require(kinds[:1] == ["Transformer"], "its first module is no transformer")
        # Before the weights: if the tokenizer is unknown, the library will read them again.
        tokenizer = FastTokenizer(_present(find, "tokenizer.json"), _json(find, "tokenizer_config.json"))
        first = _Backbone(find, modules[0]["path"])
        super().__init__(first)
        self.tokenizer = tokenizer
        config = first.auto_model.config
        self.rows = config.vocab_size
        self.longest = min(config.max_position_embeddings, _MAX_TOKENS)
        _require(tokenizer.highest_id < self.rows, f"it has {self.rows} rows for more token ids")
        self.folder = _present(find, "config.json").parent
        self.width = config.hidden_size
        for kind, module in zip(kinds[1:], modules[1:], strict=True):
            self.append(_module(kind, find, module["path"], self.width))
            self.width = getattr(self[-1], "out_features", self.width)
        _require(
            {parameter.dtype for parameter in self.parameters()} == {torch.float32},
            "its weights are not float32",
        )

    def _length(self, settings: dict[str, Any], name: str) -> int:
        """A maximum length in tokens, with room for special tokens, a prefix and one token of text."""
        length = _setting(settings, name)
        _require(type(length) is int and 4 <= length <= self.longest, f"its {name} is {length!r:.40}")
        return length

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class LateCheckpoint(Checkpoint):
    """A late-interaction model with the attributes of ``pylate.models.ColBERT`` after loading.

    >>> from flatcoat.retrieval.encoders.checkpoint_files import in_folder
    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL
    >>> LateCheckpoint(in_folder(SHIPPED_MODEL)).document_prefix
    '[D] '
    """

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        _require(
            len(self) > 1 and all(isinstance(module, _Dense) for module in list(self)[1:]),
            "other modules than projections follow its transformer",
        )
        settings = _json(find, "config_sentence_transformers.json")
        self.query_prefix: str = _setting(settings, "query_prefix", str)
        self.document_prefix: str = _setting(settings, "document_prefix", str)
        self.query_length = self._length(settings, "query_length")
        self.document_length = self._length(settings, "document_length")
        self.skiplist_words: list[str] = _setting(settings, "skiplist_words", list)
        _require(all(isinstance(word, str) for word in self.skiplist_words), "its skiplist holds no words")
        self.do_query_expansion: bool = _setting(settings, "do_query_expansion", bool)
        attended = _setting(settings, "attend_to_expansion_tokens", bool)
        self.attend_to_expansion_tokens: bool = attended and self.do_query_expansion
        self.query_prefix_id = self._prefix_id(self.query_prefix)
        self.document_prefix_id = self._prefix_id(self.document_prefix)
        # PyLate adds rows for tokens that it adds.
        _require(self.tokenizer.size == self.rows, f"{self.tokenizer.size} tokens, {self.rows} rows")
        self.tokenizer.pad_token_id = self.tokenizer.named("mask_token")
        self.skiplist = [self.tokenizer.id_or_unknown(word) for word in self.skiplist_words]

    def _prefix_id(self, prefix: str) -> int | None:
        return self.tokenizer.id(prefix) if prefix else None


class DenseCheckpoint(Checkpoint):
    """A dense model with the attributes of ``SentenceTransformer`` after loading."""

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        _require(len(self) > 1 and isinstance(self[1], _Pooling), "no pooling follows its transformer")
        self.max_seq_length = self._length(_json(find, "sentence_bert_config.json"), "max_seq_length")
        settings = _json(find, "config_sentence_transformers.json")
        self.prompts: dict[str, str] = _setting(settings, "prompts", dict)
        _require(all(isinstance(text, str) for text in self.prompts.values()), "its prompts are no texts")
        self.default_prompt_name: str | None = _setting(settings, "default_prompt_name", str | None)
        _require(settings.get("truncate_dim") is None, "it cuts vectors short (truncate_dim)")

    def get_sentence_embedding_dimension(self) -> int:
        return self.width


class _Backbone(nn.Module):
    def __init__(self, find: Find, path: str) -> None:
        super().__init__()
        _require(path == "", "its transformer is not in the folder itself")
        settings = _json(find, "sentence_bert_config.json")
        unknown = settings.keys() - {"max_seq_length", "do_lower_case"}
        _require(not unknown, f"unknown settings of its transformer: {', '.join(sorted(unknown))}")
        _require(not settings.get("do_lower_case"), "it folds case before the tokenizer does")
        config = _json(find, "config.json")
        dtype = config.get("dtype", config.get("torch_dtype"))
        model_type = _setting(config, "model_type")
        _require(model_type == "modernbert", f"its backbone is {model_type!r:.60}")
        _require("auto_map" not in config, "its config.json names code of its own (auto_map)")
        _require(dtype in (None, "float32"), f"its weights are {dtype!r:.20}, not float32")
        weights = _present(find, "model.safetensors")
        _require(_fits(weights), "its weights are larger than this machine's memory")
        self.auto_model: ModernBert = ModernBert.from_pretrained(
            weights.parent, torch.float32 if dtype else None
        )


class _Dense(nn.Module):
    """A projection of sentence-transformers or PyLate, without PyLate's residual connections."""

    def __init__(self, find: Find, path: str, width: int) -> None:
        super().__init__()
        from safetensors.torch import load_file

        settings = _json(find, f"{path}/config.json")
        _require(not settings.pop("use_residual", False), "its projection adds its input")
        activation = _setting(settings, "activation_function", str)
        _require(activation in _ACTIVATIONS, f"the activation of its projection is {activation!r:.60}")
        width_in, width_out = (_setting(settings, name) for name in ("in_features", "out_features"))
        bias = _setting(settings, "bias", bool)
        unknown = settings.keys() - {"activation_function", "in_features", "out_features", "bias"}
        _require(not unknown, f"unknown settings of a projection: {', '.join(sorted(unknown))}")
        weights = _present(find, f"{path}/model.safetensors")
        _require(_fits(weights), "its weights are larger than this machine's memory")
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        _require("linear.weight" in state, "its projection has no linear.weight")
        shape = tuple(state["linear.weight"].shape)
        _require(
            width_in == width and shape == (width_out, width_in),
            f"its projection, from {width_in!r:.20} to {width_out!r:.20}, does not fit: {width} come, and "
            f"the weights are {shape}",
        )
        with init_empty_weights():
            self.linear = nn.Linear(width, shape[0], bias=bias)
        self.activation_function = _ACTIVATIONS[activation]()
        self.out_features = shape[0]
        self.load_state_dict(state, assign=True)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        (name,) = features
        return {name: self.activation_function(self.linear(features[name]))}


class _Pooling(nn.Module):
    def __init__(self, find: Find, path: str, width: int) -> None:
        super().__init__()
        settings = _json(find, f"{path}/config.json")
        self.include_prompt: bool = settings.pop("include_prompt", True)
        width_in = settings.pop("word_embedding_dimension", None)
        _require(width_in == width, f"its pooling takes width {width_in!r:.20}, and {width} come")
        _require(
            "pooling_mode_mean_tokens" in settings and settings.keys() <= _POOLINGS.keys(),
            "its pooling is unknown",
        )
        self._modes = [mode for name, mode in _POOLINGS.items() if settings.get(name)]
        _require(bool(self._modes), "its pooling has no mode")
        self.out_features = width * len(self._modes)

    def get_pooling_mode_str(self) -> str:
        return "+".join(self._modes)


class _Normalize(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: nn.functional.normalize(vectors_ND, dim=1) for name, vectors_ND in features.items()}


def _class_name(module: Any) -> str:
    """The class of an entry of modules.json; Unsupported unless it is a known library's."""
    _require(isinstance(module, dict), f"its modules.json holds {module!r:.60}")
    name, path = _setting(module, "type", str), _setting(module, "path", str)
    _require(name.startswith(_LIBRARIES), f"its modules.json names code of its own ({name!r:.60})")
    _require(path == Path(path).name, f"its modules.json names the folder {path!r:.60}")
    return name.rpartition(".")[2]


def _module(name: str, find: Find, path: str, width: int) -> nn.Module:
    """The module after the backbone of a class name, reading its folder; ``width`` is that of its input."""
    if name == "Normalize":
        return _Normalize()
    readers: dict[str, Callable[[Find, str, int], nn.Module]] = {"Dense": _Dense, "Pooling": _Pooling}
    _require(name in readers, f"it has a module {name!r:.60}")
    return readers[name](find, path, width)


def _json(find: Find, name: str) -> dict[str, Any]:
    return read_json(_present(find, name), dict)


def _setting(settings: dict[str, Any], name: str, kind: Any = object) -> Any:
    """The value of a setting; Unsupported if it is missing or of another type."""
    _require(name in settings, f"it lacks the setting {name!r}")
    _require(isinstance(settings[name], kind), f"its {name} is {settings[name]!r:.60}")
    return settings[name]


def _present(find: Find, name: str) -> Path:
    file = find(name)
    if file is None:
        raise Unsupported(f"it has no {name}")
    return file


def _fits(file: Path) -> bool:
    """Whether a file is smaller than this machine's memory; a sparse file may claim any size."""
    if not hasattr(os, "sysconf"):
        return True
    return file.stat().st_size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Unsupported(otherwise)
