"""A late-interaction model that sentence-transformers' trainer trains, read and saved in PyLate's format.

It makes the same features of texts as PyLate, and computes the same vectors; PyLate itself, which holds back
torch and transformers, is not needed. Axes: N texts, L padded length, D width.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Transformer
from torch import Tensor, nn

from flatcoat.errors import DataError, UsageError

from .backbone import packed_backbone
from .batches import BATCH
from .checkpoint_files import Find, in_folder_or_hub, read_json
from .colbert_files import write_pylate
from .colbert_texts import late_token_ids
from .late_settings import DEFAULTS, is_stanford, late_settings

_WIDTH = 128
"""Components per token of a new projection: ColBERT's."""

_HUB = ("local_files_only", "revision", "token", "trust_remote_code")
"""Options of transformers for files on the hub."""


class TokenProjection(nn.Module):
    """A linear layer over token vectors, by the names of PyLate's ``Dense``; ``residual`` adds its input."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        bias: bool = False,
        residual: bool = False,
        activation: str = "",
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=bias)
        self.activation_function = _activation(activation or "torch.nn.modules.linear.Identity")
        self.use_residual = residual
        if residual and width_in != width_out:
            self.residual = nn.Linear(width_in, width_out, bias=False)

    @staticmethod
    def read(find: Find, path: str) -> "TokenProjection":
        """The projection in a folder of a checkpoint; DataError for settings or weights that do not fit."""
        settings = _object(find, f"{path}/config.json")
        try:
            projection = TokenProjection(
                settings["in_features"],
                settings["out_features"],
                bias=settings.get("bias", True),
                residual=settings.get("use_residual", False),
                activation=settings.get("activation_function", "torch.nn.modules.activation.Tanh"),
            )
            projection.load_state_dict(_weights(find, path))
        except (KeyError, RuntimeError) as error:
            raise DataError(f"the projection in {path} cannot be read: {error}") from error
        return projection

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens_NLD = features["token_embeddings"]
        projected_NLD = self.activation_function(self.linear(tokens_NLD))
        if self.use_residual:
            projected_NLD = projected_NLD + getattr(self, "residual", nn.Identity())(tokens_NLD)
        features["token_embeddings"] = projected_NLD
        return features

    def save(self, folder: Path) -> None:
        """Write what PyLate and sentence-transformers load as a ``Dense`` over token vectors."""
        folder.mkdir()
        kind = type(self.activation_function)
        settings = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": f"{kind.__module__}.{kind.__name__}",
            "use_residual": self.use_residual,
        }
        (folder / "config.json").write_text(json.dumps(settings, indent=2))
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class ColbertModel(SentenceTransformer):
    """A transformer and projections of its token vectors, with the settings of ``late_settings``.

    A checkpoint without a projection gets a new one of ``width`` components, of random weights. Settings that
    are named take the place of the checkpoint's own. ``hub`` are options of transformers for files on the hub
    (local_files_only, revision, token, trust_remote_code), and ``model_kwargs`` for the backbone.

    Raises DataError for a damaged checkpoint, and UsageError for an unknown setting or option.

    >>> model = ColbertModel("answerdotai/ModernBERT-base", width=64)  # doctest: +SKIP
    >>> model.tokenize(["why is the sky blue?"])["input_ids"].shape  # doctest: +SKIP
    torch.Size([1, 32])
    """

    def __init__(
        self,
        name_or_path: str | Path,
        *,
        settings: Mapping[str, Any] | None = None,
        width: int | None = None,
        device: str | torch.device | None = None,
        **hub: Any,
    ) -> None:
        given = settings or {}
        if unknown := (given.keys() - DEFAULTS.keys()) | (hub.keys() - {*_HUB, "model_kwargs"}):
            raise UsageError(f"unknown settings of late interaction: {', '.join(sorted(unknown))}")
        find = in_folder_or_hub(name_or_path, local_files_only=hub.get("local_files_only", False))
        said = late_settings(find)
        modules = _modules(find, str(name_or_path), hub)
        hidden: int = modules[0].auto_model.config.hidden_size
        last = hidden if len(modules) == 1 else modules[-1].linear.out_features
        if len(modules) == 1 or width not in (None, last):
            modules.append(TokenProjection(last, width or _WIDTH))
        super().__init__(modules=modules, device=None if device is None else str(device))
        self.to(next(self.parameters()).dtype)
        chosen = {name: said[name] for name in DEFAULTS if said.get(name) is not None}
        if said["layout"] == "multi-vector":
            chosen = dict.fromkeys(("query_length", "document_length"), self._longest()) | chosen
        self._set(DEFAULTS | chosen | {name: value for name, value in given.items() if value is not None})

    def _longest(self) -> int:
        """Tokens of a text where nothing else is said, as MultiVectorEncoder has it."""
        backbone: Any = self[0].auto_model
        tokenizer: Any = self.tokenizer
        return min(tokenizer.model_max_length, backbone.config.max_position_embeddings)

    def _set(self, settings: dict[str, Any]) -> None:
        self.query_prefix: str = settings["query_prefix"]
        self.document_prefix: str = settings["document_prefix"]
        self.query_length: int = settings["query_length"]
        self.document_length: int = settings["document_length"]
        self.do_query_expansion: bool = settings["do_query_expansion"]
        self.attend_to_expansion_tokens: bool = (
            settings["attend_to_expansion_tokens"] and self.do_query_expansion
        )
        self.skiplist_words: list[str] = settings["skiplist_words"]
        self.similarity_name: str = settings["similarity"]
        self.prefixes_are_text = settings["layout"] == "multi-vector"
        tokenizer: Any = self.tokenizer
        prefixes = [] if self.prefixes_are_text else [self.query_prefix, self.document_prefix]
        if any(prefixes):
            self._add_tokens([prefix for prefix in prefixes if prefix])
        self.query_prefix_id, self.document_prefix_id = (
            tokenizer.convert_tokens_to_ids(prefix) if prefix and not self.prefixes_are_text else None
            for prefix in (self.query_prefix, self.document_prefix)
        )
        filler = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        tokenizer.pad_token_id = next(id for id in filler if id is not None)
        self.skiplist = _skiplist(tokenizer, self.skiplist_words, drop_unknown=self.prefixes_are_text)

    def _add_tokens(self, tokens: list[str]) -> None:
        """Make tokens of the prefixes. A table with more rows than tokens is cut, as PyLate cuts it."""
        backbone: Any = self[0].auto_model
        backbone.resize_token_embeddings(len(self.tokenizer))
        self.tokenizer.add_tokens(tokens)
        backbone.resize_token_embeddings(len(self.tokenizer))

    @property
    def width(self) -> int:
        """Components of one vector."""
        last: Any = self[-1]
        return last.linear.out_features

    def tokenize(self, texts: Any, is_query: bool = True, **_: Any) -> dict[str, Tensor]:
        """Features of texts [N, L]: ``input_ids``, ``attention_mask``, and ``keep_mask``.

        That one is there for an unpadded backbone: expansion tokens are masked as keys, and their vectors are
        read all the same, so they must be computed.
        """
        tokens = late_token_ids(self, list(texts), is_query=is_query)
        longest = max(map(len, tokens.ids), default=0)
        pad: Any = self.tokenizer.pad_token_id
        masks = tokens.masks or [[True] * len(ids) for ids in tokens.ids]
        features = {
            "input_ids": torch.tensor([ids + [pad] * (longest - len(ids)) for ids in tokens.ids]),
            "attention_mask": torch.tensor(
                [[*mask, *[False] * (longest - len(mask))] for mask in masks]
            ).long(),
        }
        if is_query and self.do_query_expansion and packed_backbone(self) is not None:
            features["keep_mask"] = torch.ones_like(features["attention_mask"])
        return features

    def scored(self, features: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """True at the tokens that MaxSim counts [N, L]: no padding, and no skiplist tokens of documents."""
        real_NL = features["attention_mask"].bool()
        if is_query:
            return torch.ones_like(real_NL) if self.do_query_expansion else real_NL
        ids_NL = features["input_ids"]
        return real_NL & ~torch.isin(ids_NL, torch.tensor(self.skiplist, device=ids_NL.device))

    def encode(self, sentences: Any, *, is_query: bool = True, **_: Any) -> Any:  # type: ignore[override]
        """Token vectors of length 1, a matrix per text, through transformers' padded forward."""
        matrices: list[np.ndarray] = [np.empty(0)] * len(sentences)
        longest_first = sorted(range(len(sentences)), key=lambda index: -len(sentences[index]))
        for start in range(0, len(sentences), BATCH):
            part = longest_first[start : start + BATCH]
            encoded = self._encoded([sentences[index] for index in part], is_query)
            for index, matrix in zip(part, encoded, strict=True):
                matrices[index] = matrix
        return matrices

    @torch.inference_mode()
    def _encoded(self, texts: Sequence[str], is_query: bool) -> list[np.ndarray]:
        self.eval()
        features = {name: values.to(self.device) for name, values in self.tokenize(texts, is_query).items()}
        scored_NL = self.scored(features, is_query=is_query)
        tokens_NLD = nn.functional.normalize(self(features)["token_embeddings"].float(), dim=-1)
        return [
            vectors_LD[kept_L].cpu().numpy() for vectors_LD, kept_L in zip(tokens_NLD, scored_NL, strict=True)
        ]

    def save(self, path: str, *_: Any, **__: Any) -> None:
        """Write a checkpoint that PyLate and sentence-transformers' MultiVectorEncoder load alike.

        Raises UsageError for settings of a MultiVectorEncoder that PyLate's format cannot hold.
        """
        write_pylate(self, Path(path))


def _modules(find: Find, name: str, hub: Mapping[str, Any]) -> list[Any]:
    """The transformer, and the projections that a checkpoint has."""
    listed = find("modules.json")
    entries = [] if listed is None else read_json(listed, list)
    kinds = [str(entry.get("type")).rpartition(".")[2] for entry in entries if isinstance(entry, dict)]
    folder = str(entries[0]["path"]) if kinds[:1] == ["Transformer"] else ""
    modules: list[Any] = [_transformer(find, name, folder, hub)]
    modules += [
        TokenProjection.read(find, entry["path"])
        for kind, entry in zip(kinds, entries, strict=False)
        if kind == "Dense"
    ]
    if is_stanford(find):
        weight = _weights(find, "")["linear.weight"]
        modules.append(TokenProjection(weight.shape[1], weight.shape[0]))
        modules[-1].linear.weight = nn.Parameter(weight)
    return modules


def _transformer(find: Find, name: str, folder: str, hub: Mapping[str, Any]) -> Transformer:
    """The backbone with its tokenizer. Lengths are not its own here: ``late_token_ids`` truncates."""
    options = {"trust_remote_code": False} | {key: value for key, value in hub.items() if key in _HUB}
    if folder:
        options["subfolder"] = folder
    file = find(f"{folder}/sentence_bert_config.json" if folder else "sentence_bert_config.json")
    said = {} if file is None else read_json(file, dict)
    return Transformer(
        name,
        model_args=options | hub.get("model_kwargs", {}),
        tokenizer_args=dict(options),
        config_args=dict(options),
        do_lower_case=bool(said.get("do_lower_case")),
    )


def _weights(find: Find, path: str) -> dict[str, Tensor]:
    prefix = f"{path}/" if path else ""
    if file := find(f"{prefix}model.safetensors"):
        return load_file(file)
    if file := find(f"{prefix}pytorch_model.bin"):
        return torch.load(file, map_location="cpu", weights_only=True)
    raise DataError(f"there are no weights in {path or 'the checkpoint'}")


def _activation(name: str) -> nn.Module:
    """The activation of torch by its full name: names of other modules would be code of a checkpoint."""
    module, _, kind = name.rpartition(".")
    if module not in ("torch.nn.modules.linear", "torch.nn.modules.activation"):
        raise DataError(f"the activation {name!r:.60} is none of torch's")
    return getattr(nn, kind)()


def _skiplist(tokenizer: Any, words: Sequence[str], *, drop_unknown: bool) -> list[int]:
    """Ids of words; those that are no token are the unknown token in PyLate, which skips that."""
    ids = [tokenizer.convert_tokens_to_ids(word) for word in words]
    kept = zip(ids, words, strict=True)
    unknown = tokenizer.unk_token_id
    return [id for id, word in kept if not drop_unknown or id != unknown or word == tokenizer.unk_token]


def _object(find: Find, name: str) -> dict[str, Any]:
    path = find(name)
    if path is None:
        raise DataError(f"there is no {name}")
    return read_json(path, dict)
