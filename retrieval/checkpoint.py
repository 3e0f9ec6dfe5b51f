"""ModernBERT checkpoints of sentence-transformers and PyLate, read for encoding alone.

Importing those libraries takes longer than all else that a first search does. What is read here has the
attributes of their models that encoders use, and gives the same vectors; a checkpoint that says anything this
file does not know is left to them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import FlatcoatError
from ..backbone.model import ModernBert
from ..backbone.weights import load_encoder
from .tokenization import FastTokenizer

Find = Callable[[str], Path | None]
"""A file of the checkpoint by its name, None where it has no such file."""

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
    """The checkpoint has something that is read by the library that wrote it."""


def read_checkpoint(find: Find, late: bool, device: str | None = None) -> "Checkpoint | None":
    """A checkpoint whose vectors are known to be equal to its own library's, or None."""
    if device is None and torch.backends.mps.is_available():
        return None
    try:
        model = (LateCheckpoint if late else DenseCheckpoint)(find)
    except (Unknown, FlatcoatError, OSError, KeyError, TypeError, ValueError):
        return None
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


class Checkpoint(nn.Sequential):
    """Backbone, and what follows it, under the names that sentence-transformers gives their weights."""

    def __init__(self, find: Find) -> None:
        modules = _json(find, "modules.json")
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        _require(kinds[0] == "Transformer" and modules[0]["path"] == "")
        # Before the weights: where it is another library's, they would be read twice.
        tokenizer = FastTokenizer(_present(find, "tokenizer.json"), _json(find, "tokenizer_config.json"))
        first = _Backbone(find)
        super().__init__(first)
        self.tokenizer = tokenizer
        self.rows = first.auto_model.config.vocab_size
        self.folder = _present(find, "config.json").parent
        for kind, module in zip(kinds[1:], modules[1:], strict=True):
            self.append(_module(kind, find, module["path"]))
        _require({parameter.dtype for parameter in self.parameters()} == {torch.float32})

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
        _require(len(self) > 1 and all(isinstance(module, _Dense) for module in list(self)[1:]))
        said = _json(find, "config_sentence_transformers.json")
        _require(all(isinstance(said[name], str) for name in ("query_prefix", "document_prefix")))
        self.query_prefix: str = said["query_prefix"]
        self.document_prefix: str = said["document_prefix"]
        self.query_length = int(said["query_length"])
        self.document_length = int(said["document_length"])
        self.skiplist_words: list[str] = list(said["skiplist_words"])
        self.do_query_expansion: bool = said["do_query_expansion"]
        self.attend_to_expansion_tokens: bool = said["attend_to_expansion_tokens"] and self.do_query_expansion
        _require(isinstance(self.do_query_expansion, bool))
        self.query_prefix_id = self._prefix_id(self.query_prefix)
        self.document_prefix_id = self._prefix_id(self.document_prefix)
        # PyLate adds rows for tokens that it adds.
        _require(self.tokenizer.size == self.rows)
        self.tokenizer.pad_token_id = self.tokenizer.named("mask_token")
        self.skiplist = [self.tokenizer.id_or_unknown(word) for word in self.skiplist_words]

    def _prefix_id(self, prefix: str) -> int | None:
        return self.tokenizer.id(prefix) if prefix else None


class DenseCheckpoint(Checkpoint):
    """As ``sentence_transformers.SentenceTransformer`` reads what it saved."""

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        _require(len(self) > 1 and isinstance(self[1], _Pooling))
        self.max_seq_length = int(_json(find, "sentence_bert_config.json")["max_seq_length"])
        said = _json(find, "config_sentence_transformers.json")
        self.prompts: dict[str, str] = said["prompts"]
        self.default_prompt_name: str | None = said["default_prompt_name"]
        _require(said.get("truncate_dim") is None)

    def get_sentence_embedding_dimension(self) -> int:
        return [module.out_features for module in self if isinstance(module, _Dense | _Pooling)][-1]


class _Backbone(nn.Module):
    def __init__(self, find: Find) -> None:
        super().__init__()
        said = _json(find, "sentence_bert_config.json")
        _require(said.keys() <= {"max_seq_length", "do_lower_case"} and not said.get("do_lower_case"))
        config = _json(find, "config.json")
        dtype = config.get("dtype", config.get("torch_dtype"))
        _require(dtype in (None, "float32") and config["model_type"] == "modernbert")
        folder = _present(find, "model.safetensors").parent
        self.auto_model: ModernBert = load_encoder(folder, torch.float32 if dtype else None)


class _Dense(nn.Module):
    """A projection of either library; PyLate's may add its input."""

    def __init__(self, find: Find, path: str) -> None:
        super().__init__()
        from safetensors.torch import load_file

        said = _json(find, f"{path}/config.json")
        _require(not said.pop("use_residual", False))
        activation = _ACTIVATIONS.get(said.pop("activation_function"))
        _require(activation is not None)
        assert activation is not None
        width, wanted, bias = (said.pop(name) for name in ("in_features", "out_features", "bias"))
        _require(not said)
        self.linear = nn.Linear(width, wanted, bias=bias)
        self.activation_function = activation()
        self.out_features = wanted
        self.load_state_dict(load_file(_present(find, f"{path}/model.safetensors")))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        (name,) = features
        return {name: self.activation_function(self.linear(features[name]))}


class _Pooling(nn.Module):
    def __init__(self, find: Find, path: str) -> None:
        super().__init__()
        said = _json(find, f"{path}/config.json")
        self.include_prompt: bool = said.pop("include_prompt", True)
        width = said.pop("word_embedding_dimension")
        _require("pooling_mode_mean_tokens" in said and said.keys() <= _POOLINGS.keys())
        self._modes = [mode for name, mode in _POOLINGS.items() if said.get(name)]
        self.out_features = width * len(self._modes)

    def get_pooling_mode_str(self) -> str:
        return "+".join(self._modes)


class _Normalize(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: nn.functional.normalize(vectors_ND, dim=1) for name, vectors_ND in features.items()}


def _module(kind: str, find: Find, path: str) -> nn.Module:
    if kind == "Normalize":
        return _Normalize()
    readers: dict[str, Callable[[Find, str], nn.Module]] = {"Dense": _Dense, "Pooling": _Pooling}
    if kind not in readers:
        raise Unknown(kind)
    return readers[kind](find, path)


def _json(find: Find, name: str) -> Any:
    return json.loads(_present(find, name).read_text(encoding="utf-8"))


def _present(find: Find, name: str) -> Path:
    file = find(name)
    if file is None:
        raise Unknown(name)
    return file


def _require(known: bool) -> None:
    if not known:
        raise Unknown
