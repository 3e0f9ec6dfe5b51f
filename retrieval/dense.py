"""Single-vector (DPR) encoders: one vector a text, over ``sentence_transformers.SentenceTransformer``.

On a ModernBERT checkpoint the texts run packed through flatcoat's backbone; other backbones run through
sentence-transformers. What ``save`` writes, plain sentence-transformers loads with equal outputs.
Axes: N texts, L padded length, D width.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling

from ..backbone.packing import repad
from .contract import Contract, weights_hash
from .encoding import (
    TOKEN_BUDGET,
    HiddenBatch,
    check_texts,
    hidden_batches,
    loading,
    packed_backbone,
    token_counts,
    token_ids,
    unpad_backbone,
)

_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class DenseEncoder:
    """Texts to vectors of length 1, so that inner products are cosines."""

    def __init__(self, model: SentenceTransformer, name: str):
        self.model = model
        self.name = name
        unpad_backbone(model)
        model.eval()

    @staticmethod
    def load(name_or_path: str | Path, **options: Any) -> "DenseEncoder":
        """Load a sentence-transformers checkpoint; ``options`` go to ``SentenceTransformer``.

        Raises FlatcoatError where there is no such model.
        """
        with loading(name_or_path):
            model = SentenceTransformer(str(name_or_path), **options)
        return DenseEncoder(model, str(name_or_path))

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that plain sentence-transformers loads with equal outputs."""
        self.model.save(str(folder), create_model_card=False)

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
        pooling = next((module for module in model if isinstance(module, Pooling)), None)
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
        )

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as a document, special tokens and prompt counted and nothing cut off."""
        prompt = self._prompt(_DOCUMENT_PROMPTS)
        return token_counts(self.model.tokenizer, [prompt + text for text in texts])

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
        check_texts(texts)
        vectors_ND = np.empty((len(texts), self._width), dtype=np.float32)
        backbone = packed_backbone(self.model)
        if backbone is None or any(
            not module.include_prompt for module in self.model if isinstance(module, Pooling)
        ):
            if texts:
                vectors_ND[:] = self.model.encode(
                    list(texts), prompt=prompt, show_progress_bar=False, normalize_embeddings=True
                )
            return vectors_ND
        sequences = token_ids(self.model, [prompt + text for text in texts], self.model.max_seq_length)
        for hidden in hidden_batches(backbone, sequences, None, TOKEN_BUDGET, self.model.device):
            vectors_ND[hidden.indices] = self._finish(hidden)
        return vectors_ND

    def _finish(self, hidden: HiddenBatch) -> np.ndarray:
        """Pool and project one batch. Pooling modules read padded rows; lengths here are nearly equal."""
        lengths_N1 = torch.tensor(hidden.batch.lengths, device=hidden.hidden_TD.device)[:, None]
        rows, columns = len(lengths_N1), hidden.batch.max_seqlen
        mask_NL = torch.arange(columns, device=lengths_N1.device) < lengths_N1
        with torch.inference_mode():
            positions_T = mask_NL.view(-1).nonzero().squeeze(1)
            features = {
                "token_embeddings": repad(hidden.hidden_TD, positions_T, rows, columns),
                "attention_mask": mask_NL.long(),
            }
            for module in list(self.model)[1:]:
                features = module(features)
            vectors_ND = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)
        return vectors_ND.cpu().numpy()
