"""Single-vector (DPR) encoders: one vector a text, over sentence-transformers' models, or their files alone.

On a ModernBERT checkpoint the texts run packed through flatcoat's backbone; other backbones run through
sentence-transformers. What ``save`` writes, plain sentence-transformers loads with equal outputs.
Axes: N texts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flatcoat.backbone.packing import PackedBatch

from .checkpoint import DenseCheckpoint
from .contract import Contract, Precision, weights_hash
from .encoder import (
    TOKEN_BUDGET,
    HiddenBatch,
    backbone_in,
    checked_texts,
    default_precision,
    hidden_batches,
    in_batches,
    loading,
    most_tokens,
    token_counter,
    token_ids,
    unpad_backbone,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class DenseEncoder:
    """Texts to vectors of length 1, so that inner products are cosines."""

    def __init__(
        self, model: "SentenceTransformer | DenseCheckpoint", name: str, precision: Precision | None = None
    ) -> None:
        # Any: the two have the same attributes, and no common type.
        self.model: Any = model
        self.name = name
        if not isinstance(model, DenseCheckpoint) and any(map(_is_pooling, list(model)[1:2])):
            unpad_backbone(model)
        model.eval()
        self._own_length = model.max_seq_length
        self.precision: Precision = precision or default_precision(self.model)
        self._backbone = backbone_in(self.model, self.precision)

    @staticmethod
    def load(name_or_path: str | Path, precision: Precision | None = None, **options: Any) -> "DenseEncoder":
        """Load a sentence-transformers checkpoint; ``options`` go to ``SentenceTransformer``.

        ``precision`` is what the backbone computes in; the default is float32 on a CPU, on a GPU the dtype
        that the weights were saved in. Raises FlatcoatError where there is no such model, or no such
        precision for it.
        """
        from sentence_transformers import SentenceTransformer

        with loading(name_or_path):
            model = SentenceTransformer(str(name_or_path), **options)
        return DenseEncoder(model, str(name_or_path), precision)

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that plain sentence-transformers loads with equal outputs."""
        model = self.model
        if isinstance(model, DenseCheckpoint):
            from sentence_transformers import SentenceTransformer

            length, model = model.max_seq_length, SentenceTransformer(str(model.folder), device="cpu")
            model.max_seq_length = length
        model.save(str(folder), create_model_card=False)

    @property
    def _width(self) -> int:
        # Not through the contract, which would hash every weight before the first text.
        return int(self.model.get_sentence_embedding_dimension() or 0)

    @cached_property
    def _weights(self) -> str:
        return weights_hash(self.model)

    @property
    def contract(self) -> Contract:
        """Everything that decides which vectors a text gets."""
        model = self.model
        length = int(model.max_seq_length or model.tokenizer.model_max_length)
        pooling = next(filter(_is_pooling, model), None)
        return Contract(
            kind="dense",
            model=self.name,
            weights=self._weights,
            width=self._width,
            query_prefix=self._prompt(_QUERY_PROMPTS),
            document_prefix=self._prompt(_DOCUMENT_PROMPTS),
            query_length=length,
            document_length=length,
            pooling=pooling.get_pooling_mode_str() if pooling else "",
            precision=self.precision,
        )

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counter(self.model.tokenizer)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as a document, special tokens and prompt counted and nothing cut off."""
        prompt = self._prompt(_DOCUMENT_PROMPTS)
        return self._count([prompt + text for text in checked_texts(texts)])

    def read_documents(self, length: int | None) -> None:
        """Cut texts at ``length`` tokens, or where the model ends; None: where the checkpoint says."""
        self.model.max_seq_length = (
            self._own_length if length is None else min(length, most_tokens(self.model))
        )

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] (float32, length 1), with the checkpoint's query prompt."""
        return self._encode(texts, self._prompt(_QUERY_PROMPTS))

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] (float32, length 1), with the checkpoint's document prompt."""
        return self._encode(texts, self._prompt(_DOCUMENT_PROMPTS))

    def _prompt(self, names: Sequence[str]) -> str:
        """The first prompt of these names that the checkpoint has, as sentence-transformers chooses it."""
        prompts = self.model.prompts
        return next(
            (prompts[name] for name in (*names, self.model.default_prompt_name) if name in prompts), ""
        )

    def _encode(self, texts: Sequence[str], prompt: str) -> np.ndarray:
        texts = checked_texts(texts)
        vectors_ND = np.empty((len(texts), self._width), dtype=np.float32)
        if self._backbone is None:
            encode = partial(
                self.model.encode, prompt=prompt, show_progress_bar=False, normalize_embeddings=True
            )
            for index, vector_D in in_batches(encode, texts, self.model.tokenizer):
                vectors_ND[index] = vector_D
            return vectors_ND
        skipped = self._prompt_tokens(prompt)
        sequences = token_ids(self.model, [prompt + text for text in texts], self.model.max_seq_length)
        for hidden in hidden_batches(self._backbone, sequences, None, TOKEN_BUDGET, self.model.device):
            vectors_ND[hidden.indices] = self._finish(hidden, skipped)
        return vectors_ND

    def _prompt_tokens(self, prompt: str) -> int:
        """How many tokens at the start of every text the checkpoint leaves out of its pooling."""
        if not prompt or self.model[1].include_prompt:
            return 0
        (ids,) = token_ids(self.model, [prompt], self.model.max_seq_length)
        return len(ids) - (ids[-1] in self.model.tokenizer.all_special_ids)

    def _finish(self, hidden: HiddenBatch, prompt_tokens: int) -> np.ndarray:
        """Pool and project one batch."""
        pooling, *projections = list(self.model)[1:]
        with torch.inference_mode():
            vectors_ND = pooled(hidden.hidden_TD, hidden.batch, pooling.get_pooling_mode_str(), prompt_tokens)
            features = {"sentence_embedding": vectors_ND.to(self.model.dtype)}
            for module in projections:
                features = module(features)
            vectors_ND = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)
        return vectors_ND.cpu().numpy()


def _is_pooling(module: object) -> bool:
    return hasattr(module, "get_pooling_mode_str")


_LOWEST = -1e9
"""A maximum over no token, as sentence-transformers has it."""


def pooled(hidden_TD: Tensor, batch: PackedBatch, modes: str, prompt_tokens: int = 0) -> Tensor:
    """One float32 vector a text, the ``modes`` ("cls", "mean+max") side by side: [N, D x modes].

    Means and maxima leave out the first ``prompt_tokens`` of every text.
    """
    states_TD, positions_T = hidden_TD.float(), batch.positions()
    starts_N, ends_N = batch.cu_seqlens[:-1].long(), batch.cu_seqlens[1:].long()
    lengths_N = (ends_N - starts_N - prompt_tokens).clamp(min=0)
    kept_T = positions_T >= prompt_tokens
    kept_TD = states_TD[kept_T] if prompt_tokens else states_TD
    weights_T1 = (positions_T[kept_T] + 1).float()[:, None]

    def total(states_TD: Tensor) -> Tensor:
        return torch.segment_reduce(states_TD, "sum", lengths=lengths_N, unsafe=True)

    counts_N1 = lengths_N.clamp(min=1)[:, None]
    ways: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: states_TD[starts_N],
        "max": lambda: torch.segment_reduce(kept_TD, "max", lengths=lengths_N, unsafe=True, initial=_LOWEST),
        "mean": lambda: total(kept_TD) / counts_N1,
        "mean_sqrt_len_tokens": lambda: total(kept_TD) / counts_N1.sqrt(),
        "weightedmean": lambda: total(kept_TD * weights_T1) / total(weights_T1).clamp(min=1),
        "lasttoken": lambda: states_TD[ends_N - 1],
    }
    return torch.cat([pool() for mode, pool in ways.items() if mode in modes.split("+")], dim=1)
