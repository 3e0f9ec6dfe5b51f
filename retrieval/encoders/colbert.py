"""Late-interaction encoders, one vector per token, over ``pylate.models.ColBERT`` or the files of one.

On a ModernBERT checkpoint the texts run packed through flatcoat's backbone; other backbones run through
PyLate. Plain PyLate loads what ``save`` writes, with equal outputs. Axes: N texts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from flatcoat.indexing.vectors import TokenVectors

from .backbone import backbone_in_precision, default_precision, max_positions, unpad_backbone
from .checkpoint import LateCheckpoint
from .checkpoint_files import loading
from .contract import Contract, Precision, weights_hash
from .encoder import HiddenBatch, checked_texts, hidden_batches, in_batches
from .tokenization import TokenSpan, character_spans, token_counter, token_ids

if TYPE_CHECKING:
    from pylate.models import ColBERT


class ColbertEncoder:
    """Texts to token vectors of length 1, ready for MaxSim.

    >>> encoder = ColbertEncoder.load("lightonai/GTE-ModernColBERT-v1")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"]).values_TD.shape  # doctest: +SKIP
    (32, 128)
    """

    def __init__(
        self, model: "ColBERT | LateCheckpoint", name: str, *, precision: Precision | None = None
    ) -> None:
        # Any: PyLate declares its settings optional, and a loaded model has them all.
        self.model: Any = model
        self.name = name
        if not isinstance(model, LateCheckpoint):
            unpad_backbone(model)
        model.eval()
        self._own_length = self.model.document_length
        self.precision: Precision = precision or default_precision(self.model)
        self._backbone = backbone_in_precision(self.model, self.precision)

    @staticmethod
    def load(
        name_or_path: str | Path, precision: Precision | None = None, **options: Any
    ) -> "ColbertEncoder":
        """Load a PyLate or Stanford ColBERT checkpoint; ``options`` go to ``pylate.models.ColBERT``.

        ``precision`` is the arithmetic of the backbone; the default is float32 on a CPU, on a GPU the dtype
        of the saved weights. Raises NotFoundError for an unknown model, DataError for a damaged folder, and
        UsageError for a precision that the model does not have.
        """
        from .pylate_colbert import UnpaddedColBERT

        with loading(name_or_path):
            model = UnpaddedColBERT(str(name_or_path), **options)
        return ColbertEncoder(model, str(name_or_path), precision=precision)

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that plain PyLate loads with equal outputs."""
        model = self.model
        if isinstance(model, LateCheckpoint):
            from pylate.models import ColBERT

            model = ColBERT(str(model.folder), device="cpu", document_length=model.document_length)
        model.save(str(folder), create_model_card=False)

    @cached_property
    def _weights(self) -> str:
        return weights_hash(self.model)

    @property
    def contract(self) -> Contract:
        """The settings and weights that determine the vectors of a text."""
        model = self.model
        return Contract(
            kind="colbert",
            model=self.name,
            weights=self._weights,
            width=model[-1].out_features,
            query_prefix=model.query_prefix,
            document_prefix=model.document_prefix,
            query_length=model.query_length,
            document_length=model.document_length,
            query_expansion=model.do_query_expansion,
            attend_to_expansion=model.attend_to_expansion_tokens,
            skiplist=tuple(model.skiplist_words),
            precision=self.precision,
        )

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counter(self.model.tokenizer)

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens and prefix included, without truncation."""
        prefix, _ = self._prefix_and_length(is_query)
        return [count + (prefix is not None) for count in self._count(checked_texts(texts))]

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        self.model.document_length = min(length or self._own_length, max_positions(self.model))

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Vectors of all query tokens, and of expansion tokens if the checkpoint uses them."""
        return self._encode(texts, is_query=True)

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        """Vectors of all document tokens except those on the skiplist (punctuation)."""
        return self._encode(texts, is_query=False)

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> list[list[TokenSpan]]:
        """The token behind each vector of each text; UsageError for a tokenizer that does not know spans."""
        model, texts = self.model, checked_texts(texts)
        sequences, _ = self._token_ids(texts, is_query)
        prefix, length = self._prefix_and_length(is_query)
        spans_of = character_spans(model, texts, max_length=length - (prefix is not None))
        tokens_of_texts = []
        for text, ids, spans in zip(texts, sequences, spans_of, strict=True):
            placed = spans if prefix is None else [spans[0], None, *spans[1:]]
            placed += [None] * (len(ids) - len(placed))
            names = model.tokenizer.convert_ids_to_tokens(ids)
            tokens = [
                TokenSpan(text[slice(*span)] if span else name, span)
                for name, span in zip(names, placed, strict=True)
            ]
            skipped = () if is_query else model.skiplist
            tokens_of_texts.append(
                [token for id, token in zip(ids, tokens, strict=True) if id not in skipped]
            )
        return tokens_of_texts

    def _encode(self, texts: Sequence[str], is_query: bool) -> TokenVectors:
        texts = checked_texts(texts)
        if not texts:
            return TokenVectors.from_list([], self.model[-1].out_features)
        matrices: list[np.ndarray] = [np.empty(0)] * len(texts)
        if self._backbone is None:
            encode = partial(self.model.encode, is_query=is_query, show_progress_bar=False)
            for index, matrix in in_batches(encode, texts, tokenizer=self.model.tokenizer):
                matrices[index] = np.asarray(matrix)
            return TokenVectors.from_list(matrices)
        sequences, key_masks = self._token_ids(texts, is_query)
        for hidden in hidden_batches(
            self._backbone, sequences, key_masks=key_masks, device=self.model.device
        ):
            for index, matrix in zip(hidden.indices, self._finish(hidden, is_query), strict=True):
                matrices[index] = matrix
        return TokenVectors.from_list(matrices)

    def _token_ids(
        self, texts: Sequence[str], is_query: bool
    ) -> tuple[list[list[int]], list[list[bool]] | None]:
        """PyLate's token ids, and masks of attended tokens if expansion tokens are not attended to.

        The prefix follows CLS and counts for truncation; queries are expanded with MASK tokens.
        """
        model = self.model
        prefix, length = self._prefix_and_length(is_query)
        sequences = token_ids(model, texts, max_length=length - (prefix is not None))
        if prefix is not None:
            sequences = [[ids[0], prefix, *ids[1:]] for ids in sequences]
        if not is_query or not model.do_query_expansion:
            return sequences, None
        pad = model.tokenizer.pad_token_id
        expanded = [ids + [pad] * (length - len(ids)) for ids in sequences]
        if model.attend_to_expansion_tokens:
            return expanded, None
        return expanded, [[position < len(ids) for position in range(length)] for ids in sequences]

    def _prefix_and_length(self, is_query: bool) -> tuple[int | None, int]:
        model = self.model
        if is_query:
            return model.query_prefix_id, model.query_length
        return model.document_prefix_id, model.document_length

    def _finish(self, hidden: HiddenBatch, is_query: bool) -> list[np.ndarray]:
        """Project and normalise one batch: a matrix [tokens, D] per text, without skiplist tokens."""
        with torch.inference_mode():
            features = {"token_embeddings": hidden.hidden_TD.to(self.model.dtype)}
            for module in list(self.model)[1:]:
                features = module(features)
            vectors_TD = F.normalize(features["token_embeddings"].float(), dim=-1)
        ids_T = hidden.batch.input_ids_T
        if is_query:
            kept_T = torch.ones_like(ids_T, dtype=torch.bool)
        else:
            kept_T = ~torch.isin(ids_T, torch.tensor(self.model.skiplist, device=ids_T.device))
        counts = [int(kept.sum()) for kept in kept_T.cpu().split(list(hidden.batch.lengths))]
        ends = np.cumsum(counts)[:-1]
        return np.split(vectors_TD[kept_T].cpu().numpy(), ends)
