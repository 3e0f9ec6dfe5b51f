"""Checkpoints of sentence-transformers and PyLate, read without those libraries and without torch.

Importing the libraries takes longer than everything else in a first search. A checkpoint read here has the
attributes of their models that decide token ids, and computes the same vectors: queries' in NumPy
(``queries``), documents' in torch (``torch_checkpoint``). One with any setting that this file does not know
is left to its own library.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.families.known import family_of
from flatcoat.backbone.numpy_model import NumpyModernBert
from flatcoat.backbone.weight_files import FLOAT_FILE, INT8_FILE, without_head
from flatcoat.errors import FlatcoatError

from .checkpoint_files import Find, read_json
from .checkpoint_modules import (
    SENTENCES,
    TOKENS,
    Module,
    ModuleReader,
    Normalize,
    Pooling,
    Projection,
    ScoredTokens,
    Unsupported,
    arrays_in,
    class_name,
    present,
    require,
    setting,
    settings_in,
    strings,
)
from .contract import weights_hash
from .fast_tokenizer import FastTokenizer
from .late_settings import is_stanford, late_settings
from .weights_cache import remembered_hash

MAX_TOKENS = 8192
"""The longest text for which ModernBERT was trained, whatever a checkpoint claims: it bounds memory."""
_INLINE = "linear.weight"
"""The projection of a Stanford checkpoint, among the weights of the backbone."""

LENGTHS = ("max_seq_length", "query_length", "document_length", "query_expansion")
"""Settings of a transformer that say how texts become tokens; the last three are of a MultiVectorEncoder."""

_PLAIN: dict[str, tuple[Any, ...]] = {
    "do_lower_case": (False, None),
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": (TOKENS,),
}
"""The other settings of a transformer, and the values that leave it a plain encoder of texts."""


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

    vectors = SENTENCES
    """What its modules work on."""

    def __init__(self, find: Find) -> None:
        listed = _modules(find)
        kinds = [class_name(module) for module in listed]
        require(kinds[:1] == ["Transformer"], "its first module is no transformer")
        # Before the weights: if the tokenizer is unknown, the library will read them again.
        self.tokenizer = FastTokenizer(
            present(find, "tokenizer.json"), settings_in(find, "tokenizer_config.json")
        )
        self.backbone, self._published, self._inline = _backbone(find, listed[0]["path"])
        self.config = self.backbone.config
        self.rows = self.config.vocab_size
        self.longest = min(self.config.longest, MAX_TOKENS)
        require(self.tokenizer.highest_id < self.rows, f"it has {self.rows} rows for more token ids")
        self.folder = present(find, "config.json").parent
        self.width = self.config.hidden_size
        self.after: list[Module] = []
        self._files = [present(find, _weights_name(find))]
        reader = ModuleReader(find, self.vectors)
        for kind, module in zip(kinds[1:], listed[1:], strict=True):
            self._append(reader.read(kind, module["path"], self.width))
            if isinstance(self.after[-1], Projection):
                self._files.append(present(find, f"{module['path']}/model.safetensors"))

    def _append(self, module: Module) -> None:
        self.after.append(module)
        self.width = getattr(module, "out_features", self.width)

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
        length = setting(settings, name)
        require(type(length) is int and 4 <= length <= self.longest, f"its {name} is {length!r:.40}")
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
    """A late-interaction model with the attributes of ``ColbertModel`` after loading.

    >>> from flatcoat.retrieval.encoders.checkpoint_files import in_folder
    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL
    >>> LateCheckpoint(in_folder(SHIPPED_MODEL)).document_prefix
    ''
    """

    vectors = TOKENS

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        if is_stanford(find):
            self._append(Projection({_INLINE: self._inline[_INLINE]}, "Identity"))
        settings = late_settings(find)
        self.layout: str = settings["layout"]
        self.prefixes_are_text = self.layout == "multi-vector"
        self._require_modules()
        self.similarity: str = setting(settings, "similarity", str)
        self.query_prefix: str = setting(settings, "query_prefix", str)
        self.document_prefix: str = setting(settings, "document_prefix", str)
        self.query_length = self._length(settings, "query_length")
        self.document_length = self._length(settings, "document_length")
        self.skiplist_words = strings(setting(settings, "skiplist_words"), "its skiplist holds no words")
        self.do_query_expansion: bool = setting(settings, "do_query_expansion", bool)
        attended = setting(settings, "attend_to_expansion_tokens", bool)
        self.attend_to_expansion_tokens: bool = attended and self.do_query_expansion
        self.query_prefix_id = self._prefix_id(self.query_prefix)
        self.document_prefix_id = self._prefix_id(self.document_prefix)
        # PyLate adds rows for tokens that it adds.
        fits = self.tokenizer.size == self.rows or self.prefixes_are_text
        require(fits, f"{self.tokenizer.size} tokens, {self.rows} rows")
        self.tokenizer.pad_token_id = self.tokenizer.named("mask_token")
        self.skiplist = self._ids(self.skiplist_words)

    def _require_modules(self) -> None:
        """That projections follow the transformer, and what else the library adds in its place."""
        kinds = [type(module) for module in self.after]
        added = [ScoredTokens, Normalize] if self.prefixes_are_text else []
        projections = kinds[: len(kinds) - len(added)]
        require(
            bool(projections) and set(projections) == {Projection} and kinds[len(projections) :] == added,
            "other modules than projections follow its transformer",
        )

    def _length(self, settings: dict[str, Any], name: str) -> int:
        if self.prefixes_are_text and settings.get(name) is None:
            own = min(self.longest, self.tokenizer.model_max_length)
            settings = settings | {name: own}
        return super()._length(settings, name)

    def _prefix_id(self, prefix: str) -> int | None:
        return self.tokenizer.id(prefix) if prefix and not self.prefixes_are_text else None

    def _ids(self, words: list[str]) -> list[int]:
        """Ids of a skiplist; words that are no token are the unknown token in PyLate, which skips that."""
        ids = [self.tokenizer.id_or_unknown(word) for word in words]
        if not self.prefixes_are_text:
            return ids
        unknown = self.tokenizer.named("unk_token")
        return [id for id, word in zip(ids, words, strict=True) if id != unknown or id == self._id(word)]

    def _id(self, word: str) -> int | None:
        return self.tokenizer.backend_tokenizer.token_to_id(word)


class DenseCheckpoint(Checkpoint):
    """A dense model with the attributes of ``SentenceTransformer`` after loading."""

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        poolings = [isinstance(module, Pooling) for module in self.after]
        require(poolings[:1] == [True], "no pooling follows its transformer")
        require(sum(poolings) == 1, "several poolings follow its transformer")
        # Without a length, the one that sentence-transformers infers.
        inferred = min(self.config.max_position_embeddings, self.tokenizer.model_max_length)
        said = settings_in(find, "sentence_bert_config.json")
        length = {"max_seq_length": inferred} if said.get("max_seq_length") is None else said
        self.max_seq_length = self._length(length, "max_seq_length")
        # The first releases of sentence-transformers wrote no prompts, or no such file.
        name = "config_sentence_transformers.json"
        settings = {"prompts": {}, "default_prompt_name": None} | (
            {} if find(name) is None else settings_in(find, name)
        )
        self.prompts: dict[str, str] = setting(settings, "prompts", dict)
        require(all(isinstance(text, str) for text in self.prompts.values()), "its prompts are no texts")
        self.default_prompt_name: str | None = setting(settings, "default_prompt_name", str | None)
        require(settings.get("truncate_dim") is None, "it cuts vectors short (truncate_dim)")

    def get_sentence_embedding_dimension(self) -> int:
        """Width of its vectors."""
        return self.width


class _Backbone(NamedTuple):
    """The encoder, its weights as its own library names them, and what else its file holds."""

    model: NumpyModernBert
    published: Mapping[str, np.ndarray]
    inline: Mapping[str, np.ndarray]


def _modules(find: Find) -> list[Any]:
    """The entries of modules.json, which a Stanford checkpoint lacks: its projection is among the weights."""
    if find("modules.json") is None and is_stanford(find):
        return [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    return read_json(present(find, "modules.json"), list)


def _require_plain(settings: dict[str, Any]) -> None:
    """That a transformer makes token vectors of texts in the usual way."""
    values = {name: value for name, value in settings.items() if name not in LENGTHS}
    unknown = [name for name, value in values.items() if name not in _PLAIN or value not in _PLAIN[name]]
    require(not unknown, f"unknown settings of its transformer: {', '.join(sorted(unknown))}")


def _backbone(find: Find, path: str) -> _Backbone:
    require(path == "", "its transformer is not in the folder itself")
    name = "sentence_bert_config.json"
    settings = {} if is_stanford(find) and find(name) is None else settings_in(find, name)
    require(not settings.get("do_lower_case"), "it folds case before the tokenizer does")
    _require_plain(settings)
    values = settings_in(find, "config.json")
    config = read_config(values)
    arrays = arrays_in(find, _weights_name(find), as_float32=saved_dtype(values) is not None)
    inline = {name: arrays.pop(name) for name in (_INLINE,) if name in arrays}
    if config.published is None:
        model = NumpyModernBert(config, without_head(arrays))
        return _Backbone(model, model.weights, inline)
    weights = config.published.read(arrays, layers=config.layer_count, join=np.concatenate)
    model = NumpyModernBert(config, weights)
    return _Backbone(model, config.published.encoder(arrays), inline)


def saved_dtype(values: dict[str, Any]) -> Any:
    """The dtype that a config.json names for the weights, by its key of today or the earlier one."""
    return values.get("dtype", values.get("torch_dtype"))


def read_config(values: dict[str, Any]) -> ModernBertConfig:
    """The shape of an encoder from its config.json; Unsupported for one that flatcoat does not compute."""
    dtype = saved_dtype(values)
    model_type = setting(values, "model_type")
    family = family_of(values)
    known = model_type == "modernbert" or family is not None
    require(known, f"its backbone is {model_type!r:.60}")
    # Where the family's library is such code, this computes what it does, and runs none of it.
    is_plain = "auto_map" not in values or (family is not None and family.custom_code)
    require(is_plain, "its config.json names code of its own (auto_map)")
    require(dtype in (None, "float32"), f"its weights are {dtype!r:.20}, not float32")
    return ModernBertConfig.from_hf(values)


def _weights_name(find: Find) -> str:
    return INT8_FILE if find(FLOAT_FILE) is None and find(INT8_FILE) is not None else FLOAT_FILE
