"""Late-interaction encoders, one vector per token, over ``pylate.models.ColBERT`` or the files of one.

On a ModernBERT checkpoint the texts run packed through flatcoat's backbone; other backbones run through
PyLate. Plain PyLate loads what ``save`` writes, with equal outputs. Axes: N texts, T tokens, D width.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from flatcoat.indexing.vectors import TokenVectors

from .backbone import backbone_in_precision, default_precision, unpad_backbone
from .batches import HiddenBatch, hidden_batches, in_batches
from .checkpoint import LateCheckpoint
from .checkpoint_files import loading
from .colbert_texts import ColbertTexts
from .contract import Precision
from .encoder import checked_texts
from .int8_files import in_full
from .torch_checkpoint import TorchCheckpoint

if TYPE_CHECKING:
    from pylate.models import ColBERT


class ColbertEncoder(ColbertTexts):
    """Texts to token vectors of length 1, ready for MaxSim.

    >>> encoder = ColbertEncoder.load("lightonai/GTE-ModernColBERT-v1")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"]).values_TD.shape  # doctest: +SKIP
    (32, 128)
    """

    def __init__(
        self, model: "ColBERT | TorchCheckpoint", name: str, *, precision: Precision | None = None
    ) -> None:
        if not isinstance(model, TorchCheckpoint):
            unpad_backbone(model)
        self.modules: Any = model.eval()
        """The backbone in torch, and the projections after it."""
        read: Any = model.files if isinstance(model, TorchCheckpoint) else model
        super().__init__(read, name, precision or default_precision(self.modules))
        self._backbone = backbone_in_precision(self.modules, self.precision)

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

        with loading(name_or_path), in_full(name_or_path) as folder:
            model = UnpaddedColBERT(str(folder), **options)
        return ColbertEncoder(model, str(name_or_path), precision=precision)

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that plain PyLate loads with equal outputs."""
        model = self.model
        if isinstance(model, LateCheckpoint):
            from pylate.models import ColBERT

            with in_full(model.folder) as full:
                model = ColBERT(str(full), device="cpu", document_length=model.document_length)
        model.save(str(folder), create_model_card=False)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Vectors of all query tokens, and of expansion tokens if the checkpoint uses them."""
        return self._encode(texts, is_query=True)

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        """Vectors of all document tokens except those on the skiplist (punctuation)."""
        return self._encode(texts, is_query=False)

    def _encode(self, texts: Sequence[str], is_query: bool) -> TokenVectors:
        texts = checked_texts(texts)
        if not texts:
            return TokenVectors.from_list([], self.width)
        matrices: list[np.ndarray] = [np.empty(0)] * len(texts)
        if self._backbone is None:
            encode = partial(self.model.encode, is_query=is_query, show_progress_bar=False)
            for index, matrix in in_batches(encode, texts, tokenizer=self.model.tokenizer):
                matrices[index] = np.asarray(matrix)
            return TokenVectors.from_list(matrices)
        sequences, key_masks = self._token_ids(texts, is_query)
        for hidden in hidden_batches(
            self._backbone, sequences, key_masks=key_masks, device=self.modules.device
        ):
            for index, matrix in zip(hidden.indices, self._finish(hidden, is_query), strict=True):
                matrices[index] = matrix
        return TokenVectors.from_list(matrices)

    def _finish(self, hidden: HiddenBatch, is_query: bool) -> list[np.ndarray]:
        """Project and normalise one batch: a matrix [tokens, D] per text, without skiplist tokens."""
        with torch.inference_mode():
            features = {"token_embeddings": hidden.hidden_TD.to(self.modules.dtype)}
            for module in list(self.modules)[1:]:
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
