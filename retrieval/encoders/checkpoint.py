"""ModernBERT checkpoints of sentence-transformers and PyLate, read for encoding alone.

Importing those libraries takes longer than all else that a first search does. What is read here has the
attributes of their models that encoders use, and gives the same vectors; a checkpoint that says anything this
file does not know is left to them.
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
from .tokenization import FastTokenizer

logger = logging.getLogger(__name__)

_LIBRARIES = ("sentence_transformers.", "pylate.")
_MOST_TOKENS = 8192
"""Of a text: what ModernBERT was made for. Expanded queries are as long as their checkpoint says."""

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
"""In sentence-transformers' order."""


class Unknown(Exception):
    """Says what the checkpoint has that is read by the library that wrote it."""


def read_checkpoint(find: Find, late: bool, device: str | None = None) -> "Checkpoint | None":
    """A checkpoint whose vectors are known to be equal to its own library's, or None."""
    if device is None and torch.backends.mps.is_available():
        return None
    try:
        return known_checkpoint(find, late, device)
    except Unknown as why:
        logger.debug("a checkpoint is left to its own library: %s", why)
        return None


def known_checkpoint(find: Find, late: bool, device: str | None = None) -> "Checkpoint":
    """The same from files that may be anyone's: they are data, no code of theirs or of a library is run.

    Raises Unknown, which says why, whatever the files make those who read them raise.
    """
    try:
        model = (LateCheckpoint if late else DenseCheckpoint)(find)
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    except (Unknown, FlatcoatError) as error:
        raise Unknown(str(error)) from error
    except KeyError as error:
        raise Unknown(f"it lacks the setting {error}") from error
    except Exception as error:
        raise Unknown(f"{type(error).__name__}: {error}") from error


class Checkpoint(nn.Sequential):
    """Backbone, and what follows it, under the names that sentence-transformers gives their weights."""

    def __init__(self, find: Find) -> None:
        modules = read_json(_present(find, "modules.json"), list)
        kinds = [_kind(module) for module in modules]
        _require(kinds[:1] == ["Transformer"], "its first module is no transformer")
        # Before the weights: where it is another library's, they would be read twice.
        tokenizer = FastTokenizer(_present(find, "tokenizer.json"), _json(find, "tokenizer_config.json"))
        first = _Backbone(find, modules[0]["path"])
        super().__init__(first)
        self.tokenizer = tokenizer
        config = first.auto_model.config
        self.rows = config.vocab_size
        self.longest = min(config.max_position_embeddings, _MOST_TOKENS)
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

    def _length(self, said: dict[str, Any], name: str) -> int:
        """A number of tokens that has room for special tokens, a prefix and one of a text."""
        length = said[name]
        _require(type(length) is int and 4 <= length <= self.longest, f"its {name} is {length!r:.40}")
        return length

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class LateCheckpoint(Checkpoint):
    """As ``pylate.models.ColBERT`` reads what it saved."""

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        _require(
            len(self) > 1 and all(isinstance(module, _Dense) for module in list(self)[1:]),
            "other modules than projections follow its transformer",
        )
        said = _json(find, "config_sentence_transformers.json")
        self.query_prefix: str = _typed(said, "query_prefix", str)
        self.document_prefix: str = _typed(said, "document_prefix", str)
        self.query_length = self._length(said, "query_length")
        self.document_length = self._length(said, "document_length")
        self.skiplist_words: list[str] = _typed(said, "skiplist_words", list)
        _require(all(isinstance(word, str) for word in self.skiplist_words), "its skiplist holds no words")
        self.do_query_expansion: bool = _typed(said, "do_query_expansion", bool)
        attended = _typed(said, "attend_to_expansion_tokens", bool)
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
    """As ``sentence_transformers.SentenceTransformer`` reads what it saved."""

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        _require(len(self) > 1 and isinstance(self[1], _Pooling), "no pooling follows its transformer")
        self.max_seq_length = self._length(_json(find, "sentence_bert_config.json"), "max_seq_length")
        said = _json(find, "config_sentence_transformers.json")
        self.prompts: dict[str, str] = _typed(said, "prompts", dict)
        _require(all(isinstance(text, str) for text in self.prompts.values()), "its prompts are no texts")
        self.default_prompt_name: str | None = said["default_prompt_name"]
        _require(isinstance(self.default_prompt_name, str | None), "its default prompt has no name")
        _require(said.get("truncate_dim") is None, "it cuts vectors short (truncate_dim)")

    def get_sentence_embedding_dimension(self) -> int:
        return self.width


class _Backbone(nn.Module):
    def __init__(self, find: Find, path: str) -> None:
        super().__init__()
        _require(path == "", "its transformer is not in the folder itself")
        said = _json(find, "sentence_bert_config.json")
        unknown = said.keys() - {"max_seq_length", "do_lower_case"}
        _require(not unknown, f"unknown settings of its transformer: {', '.join(sorted(unknown))}")
        _require(not said.get("do_lower_case"), "it folds case before the tokenizer does")
        config = _json(find, "config.json")
        dtype = config.get("dtype", config.get("torch_dtype"))
        _require(config["model_type"] == "modernbert", f"its backbone is {config['model_type']!r:.60}")
        _require("auto_map" not in config, "its config.json names code of its own (auto_map)")
        _require(dtype in (None, "float32"), f"its weights are {dtype!r:.20}, not float32")
        weights = _present(find, "model.safetensors")
        _require(_fits(weights), "its weights are larger than this machine's memory")
        self.auto_model: ModernBert = ModernBert.from_pretrained(
            weights.parent, torch.float32 if dtype else None
        )


class _Dense(nn.Module):
    """A projection of either library; PyLate's may add its input."""

    def __init__(self, find: Find, path: str, width: int) -> None:
        super().__init__()
        from safetensors.torch import load_file

        said = _json(find, f"{path}/config.json")
        _require(not said.pop("use_residual", False), "its projection adds its input")
        name = said.pop("activation_function")
        _require(name in _ACTIVATIONS, f"the activation of its projection is {name!r:.60}")
        taken, wanted, bias = (said.pop(name) for name in ("in_features", "out_features", "bias"))
        _require(not said, f"unknown settings of a projection: {', '.join(sorted(said))}")
        weights = _present(find, f"{path}/model.safetensors")
        _require(_fits(weights), "its weights are larger than this machine's memory")
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        held = tuple(state["linear.weight"].shape)
        _require(
            taken == width and held == (wanted, taken),
            f"its projection, from {taken!r:.20} to {wanted!r:.20}, does not fit: {width} come, and the "
            f"weights are {held}",
        )
        with init_empty_weights():
            self.linear = nn.Linear(width, held[0], bias=bool(bias))
        self.activation_function = _ACTIVATIONS[name]()
        self.out_features = held[0]
        self.load_state_dict(state, assign=True)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        (name,) = features
        return {name: self.activation_function(self.linear(features[name]))}


class _Pooling(nn.Module):
    def __init__(self, find: Find, path: str, width: int) -> None:
        super().__init__()
        said = _json(find, f"{path}/config.json")
        self.include_prompt: bool = said.pop("include_prompt", True)
        taken = said.pop("word_embedding_dimension")
        _require(taken == width, f"its pooling takes width {taken!r:.20}, and {width} come")
        _require(
            "pooling_mode_mean_tokens" in said and said.keys() <= _POOLINGS.keys(), "its pooling is unknown"
        )
        self._modes = [mode for name, mode in _POOLINGS.items() if said.get(name)]
        _require(bool(self._modes), "its pooling has no mode")
        self.out_features = width * len(self._modes)

    def get_pooling_mode_str(self) -> str:
        return "+".join(self._modes)


class _Normalize(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: nn.functional.normalize(vectors_ND, dim=1) for name, vectors_ND in features.items()}


def _kind(module: dict[str, Any]) -> str:
    """The name of a module's class, where that is of a library that is known, and its folder a plain name."""
    name, path = module["type"], module["path"]
    _require(name.startswith(_LIBRARIES), f"its modules.json names code of its own ({name!r:.60})")
    _require(path == Path(path).name, f"its modules.json names the folder {path!r:.60}")
    return name.rpartition(".")[2]


def _module(kind: str, find: Find, path: str, width: int) -> nn.Module:
    if kind == "Normalize":
        return _Normalize()
    readers: dict[str, Callable[[Find, str, int], nn.Module]] = {"Dense": _Dense, "Pooling": _Pooling}
    _require(kind in readers, f"it has a module {kind!r:.60}")
    return readers[kind](find, path, width)


def _json(find: Find, name: str) -> dict[str, Any]:
    return read_json(_present(find, name), dict)


def _typed(said: dict[str, Any], name: str, kind: type) -> Any:
    _require(isinstance(said[name], kind), f"its {name} is {said[name]!r:.60}")
    return said[name]


def _present(find: Find, name: str) -> Path:
    file = find(name)
    if file is None:
        raise Unknown(f"it has no {name}")
    return file


def _fits(file: Path) -> bool:
    """Whether a file is smaller than this machine's memory; a file of holes takes no room on a disk."""
    if not hasattr(os, "sysconf"):
        return True
    return file.stat().st_size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _require(known: bool, otherwise: str) -> None:
    if not known:
        raise Unknown(otherwise)
