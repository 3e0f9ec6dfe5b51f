"""Checkpoints of sentence-transformers and PyLate, read without those libraries and without torch.

Importing the libraries takes longer than everything else in a first search. A checkpoint read here has the
attributes of their models that decide token ids, and computes the same vectors: queries' in NumPy
(``queries``), documents' in torch (``torch_checkpoint``). One with any setting that this file does not know
is left to its own library.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.families.known import family_of
from flatcoat.backbone.numpy_model import NumpyModernBert
from flatcoat.backbone.weight_files import FLOAT_FILE, INT8_FILE, read_arrays, without_head
from flatcoat.errors import FlatcoatError

from .checkpoint_files import Find, read_json
from .contract import weights_hash
from .fast_tokenizer import FastTokenizer
from .weights_cache import remembered_hash

_LIBRARIES = ("sentence_transformers.", "pylate.")
_MAX_TOKENS = 8192
"""The longest text for which ModernBERT was trained, whatever a checkpoint claims: it bounds memory."""

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "Identity",
    "torch.nn.modules.activation.Tanh": "Tanh",
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


@dataclass(frozen=True)
class Projection:
    """A linear layer of sentence-transformers or PyLate, without PyLate's residual connections.

    ``weights`` are those of torch's Linear by name, ``activation`` is the name of a torch module.
    """

    weights: dict[str, np.ndarray]
    activation: str

    @property
    def out_features(self) -> int:
        """Width of its vectors."""
        return len(self.weights["linear.weight"])


@dataclass(frozen=True)
class Pooling:
    """One vector per text, the ``modes`` side by side.

    The tokens of a prompt count if ``include_prompt``.
    """

    modes: tuple[str, ...]
    include_prompt: bool
    out_features: int

    def get_pooling_mode_str(self) -> str:
        """The modes as sentence-transformers writes them, such as "cls+mean"."""
        return "+".join(self.modes)


@dataclass(frozen=True)
class Normalize:
    """Vectors of length 1."""


Module: TypeAlias = Projection | Pooling | Normalize


def read_checkpoint(find: Find, late: bool) -> "LateCheckpoint | DenseCheckpoint":
    """A checkpoint from its files, which are read as data: no code of theirs or of a library runs.

    Raises Unsupported, with the reason, for files that cannot be read or have settings unknown here.
    """
    try:
        return (LateCheckpoint if late else DenseCheckpoint)(find)
    except FlatcoatError as error:
        raise Unsupported(str(error)) from error
    # Errors that only a mistake in the code raises (TypeError, AttributeError, KeyError) are let through.
    except (OSError, ValueError) as error:
        raise Unsupported(f"{type(error).__name__}: {error}") from error


class Checkpoint:
    """Tokenizer, config, backbone, and the modules after it."""

    def __init__(self, find: Find) -> None:
        listed = read_json(_present(find, "modules.json"), list)
        kinds = [_class_name(module) for module in listed]
        _require(kinds[:1] == ["Transformer"], "its first module is no transformer")
        # Before the weights: if the tokenizer is unknown, the library will read them again.
        self.tokenizer = FastTokenizer(_present(find, "tokenizer.json"), _json(find, "tokenizer_config.json"))
        self.backbone, self._published = _backbone(find, listed[0]["path"])
        self.config = self.backbone.config
        self.rows = self.config.vocab_size
        self.longest = min(self.config.longest, _MAX_TOKENS)
        _require(self.tokenizer.highest_id < self.rows, f"it has {self.rows} rows for more token ids")
        self.folder = _present(find, "config.json").parent
        self.width = self.config.hidden_size
        self.after: list[Module] = []
        self._files = [_present(find, _weights_name(find))]
        for kind, module in zip(kinds[1:], listed[1:], strict=True):
            self.after.append(_module(kind, find, module["path"], self.width))
            self.width = getattr(self.after[-1], "out_features", self.width)
            if isinstance(self.after[-1], Projection):
                self._files.append(_present(find, f"{module['path']}/model.safetensors"))

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All weights (float32), named as sentence-transformers names them."""
        state = {f"0.auto_model.{name}": array for name, array in self._published.items()}
        for number, module in enumerate(self.after, start=1):
            if isinstance(module, Projection):
                state |= {f"{number}.{name}": array for name, array in module.weights.items()}
        return state

    @cached_property
    def weights_hash(self) -> str:
        """The SHA-256 of a contract, as of the loaded model."""
        return remembered_hash(self._files, lambda: weights_hash(self.state))

    def _length(self, settings: dict[str, Any], name: str) -> int:
        """A maximum length in tokens, with room for special tokens, a prefix and one token of text."""
        length = _setting(settings, name)
        _require(type(length) is int and 4 <= length <= self.longest, f"its {name} is {length!r:.40}")
        return length


def max_positions(model: Any) -> int:
    """The longest text, in tokens, for which a checkpoint or a model of its library has positions."""
    if isinstance(model, Checkpoint):
        return model.config.longest
    config = model[0].auto_model.config
    # Their positions start after that of the padding token.
    offset = getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet")
    return config.max_position_embeddings - (1 + config.pad_token_id if offset else 0)


def weights_of(model: Any) -> str:
    """The SHA-256 of the weights of a checkpoint or of a model of its library."""
    return model.weights_hash if isinstance(model, Checkpoint) else weights_hash(model)


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
            bool(self.after) and all(isinstance(module, Projection) for module in self.after),
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
        poolings = [isinstance(module, Pooling) for module in self.after]
        _require(poolings[:1] == [True], "no pooling follows its transformer")
        _require(sum(poolings) == 1, "several poolings follow its transformer")
        # Without a length, the one that sentence-transformers infers.
        inferred = min(self.config.max_position_embeddings, self.tokenizer.model_max_length)
        said = _json(find, "sentence_bert_config.json")
        length = {"max_seq_length": inferred} if said.get("max_seq_length") is None else said
        self.max_seq_length = self._length(length, "max_seq_length")
        # The first releases of sentence-transformers wrote no prompts, or no such file.
        name = "config_sentence_transformers.json"
        settings = {"prompts": {}, "default_prompt_name": None} | (
            {} if find(name) is None else _json(find, name)
        )
        self.prompts: dict[str, str] = _setting(settings, "prompts", dict)
        _require(all(isinstance(text, str) for text in self.prompts.values()), "its prompts are no texts")
        self.default_prompt_name: str | None = _setting(settings, "default_prompt_name", str | None)
        _require(settings.get("truncate_dim") is None, "it cuts vectors short (truncate_dim)")

    def get_sentence_embedding_dimension(self) -> int:
        """Width of its vectors."""
        return self.width


class _Backbone(NamedTuple):
    """The encoder, and its weights as its own library names them."""

    model: NumpyModernBert
    published: Mapping[str, np.ndarray]


def _backbone(find: Find, path: str) -> _Backbone:
    _require(path == "", "its transformer is not in the folder itself")
    settings = _json(find, "sentence_bert_config.json")
    unknown = settings.keys() - {"max_seq_length", "do_lower_case"}
    _require(not unknown, f"unknown settings of its transformer: {', '.join(sorted(unknown))}")
    _require(not settings.get("do_lower_case"), "it folds case before the tokenizer does")
    values = _json(find, "config.json")
    dtype = values.get("dtype", values.get("torch_dtype"))
    model_type = _setting(values, "model_type")
    family = family_of(values)
    known = model_type == "modernbert" or family is not None
    _require(known, f"its backbone is {model_type!r:.60}")
    # Where the family's library is such code, this computes what it does, and runs none of it.
    is_plain = "auto_map" not in values or (family is not None and family.custom_code)
    _require(is_plain, "its config.json names code of its own (auto_map)")
    _require(dtype in (None, "float32"), f"its weights are {dtype!r:.20}, not float32")
    config = ModernBertConfig.from_hf(values)
    arrays = _arrays(find, _weights_name(find), as_float32=dtype is not None)
    if config.published is None:
        model = NumpyModernBert(config, without_head(arrays))
        return _Backbone(model, model.weights)
    weights = config.published.read(arrays, layers=config.layer_count, join=np.concatenate)
    model = NumpyModernBert(config, weights)
    return _Backbone(model, config.published.encoder(arrays))


def _weights_name(find: Find) -> str:
    return INT8_FILE if find(FLOAT_FILE) is None and find(INT8_FILE) is not None else FLOAT_FILE


def _arrays(find: Find, name: str, *, as_float32: bool) -> dict[str, np.ndarray]:
    weights = _present(find, name)
    _require(_fits(weights), "its weights are larger than this machine's memory")
    return read_arrays(weights, as_float32=as_float32)


def _projection(find: Find, path: str, width: int) -> Projection:
    settings = _json(find, f"{path}/config.json")
    _require(not settings.pop("use_residual", False), "its projection adds its input")
    activation = _setting(settings, "activation_function", str)
    _require(activation in _ACTIVATIONS, f"the activation of its projection is {activation!r:.60}")
    width_in, width_out = (_setting(settings, name) for name in ("in_features", "out_features"))
    bias = _setting(settings, "bias", bool)
    unknown = settings.keys() - {"activation_function", "in_features", "out_features", "bias"}
    _require(not unknown, f"unknown settings of a projection: {', '.join(sorted(unknown))}")
    weights = _arrays(find, f"{path}/model.safetensors", as_float32=True)
    shapes = {name: weight.shape for name, weight in weights.items()}
    expected = {"linear.weight": (width_out, width)} | ({"linear.bias": (width_out,)} if bias else {})
    _require(
        width_in == width and shapes == expected,
        f"its projection, from {width_in!r:.20} to {width_out!r:.20}, does not fit: {width} come, and "
        f"the weights are {shapes}",
    )
    return Projection(weights, _ACTIVATIONS[activation])


def _pooling(find: Find, path: str, width: int) -> Pooling:
    settings = _json(find, f"{path}/config.json")
    include_prompt: bool = settings.pop("include_prompt", True)
    width_in = settings.pop("word_embedding_dimension", None)
    _require(width_in == width, f"its pooling takes width {width_in!r:.20}, and {width} come")
    _require(
        "pooling_mode_mean_tokens" in settings and settings.keys() <= _POOLINGS.keys(),
        "its pooling is unknown",
    )
    modes = tuple(mode for name, mode in _POOLINGS.items() if settings.get(name))
    _require(bool(modes), "its pooling has no mode")
    return Pooling(modes, include_prompt, width * len(modes))


def _class_name(module: Any) -> str:
    """The class of an entry of modules.json; Unsupported unless it is a known library's."""
    _require(isinstance(module, dict), f"its modules.json holds {module!r:.60}")
    name, path = _setting(module, "type", str), _setting(module, "path", str)
    _require(name.startswith(_LIBRARIES), f"its modules.json names code of its own ({name!r:.60})")
    _require(path == Path(path).name, f"its modules.json names the folder {path!r:.60}")
    return name.rpartition(".")[2]


def _module(name: str, find: Find, path: str, width: int) -> Module:
    """The module after the backbone of a class name, reading its folder; ``width`` is that of its input."""
    if name == "Normalize":
        return Normalize()
    readers: dict[str, Callable[[Find, str, int], Module]] = {"Dense": _projection, "Pooling": _pooling}
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
