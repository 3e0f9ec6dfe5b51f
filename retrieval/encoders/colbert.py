"""Late-interaction encoders, one vector per token, over a ``ColbertModel`` or the files of one.

On a backbone that flatcoat has the texts run packed; others run through transformers. PyLate, or
sentence-transformers' MultiVectorEncoder, loads what ``save`` writes, with equal outputs.
Axes: N texts, T tokens, D width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from flatcoat.indexing.vectors import TokenVectors

from .backbone import backbone_in_precision, default_precision, unpad_backbone
from .batches import HiddenBatch, hidden_batches
from .checkpoint import LateCheckpoint
from .checkpoint_files import loading
from .colbert_texts import ColbertTexts, late_token_ids
from .contract import Precision
from .encoder import checked_texts
from .int8_files import in_full
from .late_settings import DEFAULTS
from .torch_checkpoint import TorchCheckpoint

if TYPE_CHECKING:
    from .colbert_model import ColbertModel


Layout = Literal["pylate", "multi-vector"]
"""Formats of a late-interaction checkpoint that are written."""


class ColbertEncoder(ColbertTexts):
    """Texts to token vectors of length 1, ready for MaxSim.

    >>> encoder = ColbertEncoder.load("lightonai/GTE-ModernColBERT-v1")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"]).values_TD.shape  # doctest: +SKIP
    (32, 128)
    """

    def __init__(
        self, model: "ColbertModel | TorchCheckpoint", name: str, *, precision: Precision | None = None
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
        """Load a checkpoint of PyLate, of MultiVectorEncoder or a Stanford one.

        ``precision`` is the arithmetic of the backbone; the default is float32 on a CPU, on a GPU the dtype
        of the saved weights. ``options`` are settings of ``late_settings`` that take the place of the
        checkpoint's own, and options of ``ColbertModel``. Raises NotFoundError for an unknown model,
        DataError for a damaged folder, and UsageError for a precision that the model does not have.
        """
        from .colbert_model import ColbertModel

        settings = {name: options.pop(name) for name in DEFAULTS if name in options}
        with loading(name_or_path), in_full(name_or_path) as folder:
            model = ColbertModel(str(folder), settings=settings, **options)
        return ColbertEncoder(model, str(name_or_path), precision=precision)

    def save(self, folder: str | Path, *, layout: Layout | None = None) -> None:
        """Write a checkpoint in the format of PyLate, or of sentence-transformers' MultiVectorEncoder.

        Both load in sentence-transformers 6 and later with equal outputs, the first in PyLate too. The
        default is the format that was read. Raises UsageError for a model that PyLate's cannot hold.
        """
        from .colbert_files import write_multi_vector, write_pylate

        model = self.model
        if isinstance(model, LateCheckpoint):
            from .colbert_model import ColbertModel

            lengths = {"document_length": model.document_length}
            with in_full(model.folder) as full:
                model = ColbertModel(str(full), settings=lengths, device="cpu")
        layout = layout or ("multi-vector" if model.prefixes_are_text else "pylate")
        (write_pylate if layout == "pylate" else write_multi_vector)(model, Path(folder))

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
            return TokenVectors.from_list(self.model.encode(texts, is_query=is_query))
        sequences, key_masks = late_token_ids(self.model, texts, is_query=is_query)
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
