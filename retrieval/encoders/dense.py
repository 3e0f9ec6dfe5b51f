"""Single-vector (DPR) encoders, one vector per text, over ``SentenceTransformer`` or the files of one.

On a ModernBERT checkpoint the texts run packed through flatcoat's backbone; other backbones run through
sentence-transformers. Plain sentence-transformers loads what ``save`` writes, with equal outputs.
Axes: N texts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flatcoat.atomic_files import readable_weights
from flatcoat.backbone.packing import PackedBatch

from .backbone import backbone_in_precision, default_precision, unpad_backbone
from .batches import HiddenBatch, hidden_batches, in_batches
from .checkpoint import DenseCheckpoint
from .checkpoint_files import loading
from .contract import Precision
from .dense_texts import (
    CLS_AFTER_PROMPT,
    DOCUMENT_PROMPTS,
    NO_MAXIMUM,
    QUERY_PROMPTS,
    DenseTexts,
    is_pooling,
)
from .encoder import checked_texts
from .int8_files import in_full
from .tokenization import token_ids
from .torch_checkpoint import TorchCheckpoint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class DenseEncoder(DenseTexts):
    """Texts to vectors of length 1, so that inner products are cosines.

    >>> encoder = DenseEncoder.load("Alibaba-NLP/gte-modernbert-base")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"]).shape  # doctest: +SKIP
    (1, 768)
    """

    def __init__(
        self,
        model: "SentenceTransformer | TorchCheckpoint",
        name: str,
        *,
        precision: Precision | None = None,
    ) -> None:
        if not isinstance(model, TorchCheckpoint) and any(map(is_pooling, list(model)[1:2])):
            unpad_backbone(model)
        self.modules: Any = model.eval()
        """The backbone in torch, and the modules after it."""
        read: Any = model.files if isinstance(model, TorchCheckpoint) else model
        super().__init__(read, name, precision or default_precision(self.modules))
        self._backbone = backbone_in_precision(self.modules, self.precision)

    @staticmethod
    def load(name_or_path: str | Path, precision: Precision | None = None, **options: Any) -> "DenseEncoder":
        """Load a sentence-transformers checkpoint; ``options`` go to ``SentenceTransformer``.

        ``precision`` is the arithmetic of the backbone; the default is float32 on a CPU, on a GPU the dtype
        of the saved weights. Raises NotFoundError for an unknown model, DataError for a damaged folder, and
        UsageError for a precision that the model does not have.
        """
        from sentence_transformers import SentenceTransformer

        with loading(name_or_path), in_full(name_or_path) as folder:
            model = SentenceTransformer(str(folder), **options)
        return DenseEncoder(model, str(name_or_path), precision=precision)

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that plain sentence-transformers loads with equal outputs."""
        model = self.model
        if isinstance(model, DenseCheckpoint):
            from sentence_transformers import SentenceTransformer

            length = model.max_seq_length
            with in_full(model.folder) as full:
                model = SentenceTransformer(str(full), device="cpu")
            model.max_seq_length = length
        model.save(str(folder), create_model_card=False)
        readable_weights(Path(folder))

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] (float32, length 1), with the checkpoint's query prompt."""
        return self._encode(texts, self._prompt(QUERY_PROMPTS))

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] (float32, length 1), with the checkpoint's document prompt."""
        return self._encode(texts, self._prompt(DOCUMENT_PROMPTS))

    def _encode(self, texts: Sequence[str], prompt: str) -> np.ndarray:
        texts = checked_texts(texts)
        vectors_ND = np.empty((len(texts), self.width), dtype=np.float32)
        if self._backbone is None:
            encode = partial(
                self.model.encode, prompt=prompt, show_progress_bar=False, normalize_embeddings=True
            )
            for index, vector_D in in_batches(encode, texts, tokenizer=self.model.tokenizer):
                vectors_ND[index] = vector_D
            return vectors_ND
        skipped = self._prompt_tokens(prompt)
        prompted = [prompt + text for text in texts]
        sequences = token_ids(self.model, prompted, max_length=self.model.max_seq_length)
        for hidden in hidden_batches(self._backbone, sequences, device=self.modules.device):
            vectors_ND[hidden.indices] = self._finish(hidden, skipped)
        return vectors_ND

    def _finish(self, hidden: HiddenBatch, prompt_tokens: int) -> np.ndarray:
        """Pool, project and normalise one batch: [N, D]."""
        _, *projections = list(self.modules)[1:]
        with torch.inference_mode():
            vectors_ND = pooled(
                hidden.hidden_TD,
                hidden.batch,
                modes=self._modes,
                prompt_tokens=prompt_tokens,
            )
            features = {"sentence_embedding": vectors_ND.to(self.modules.dtype)}
            for module in projections:
                features = module(features)
            vectors_ND = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)
        return vectors_ND.cpu().numpy()


def pooled(hidden_TD: Tensor, batch: PackedBatch, *, modes: str, prompt_tokens: int = 0) -> Tensor:
    """One float32 vector per text, the ``modes`` ("cls", "mean+max") side by side: [N, D x modes].

    Means and maxima leave out the first ``prompt_tokens`` of every text.

    >>> batch = PackedBatch.from_sequences([[5, 6], [7]])
    >>> pooled(torch.tensor([[1.0], [3.0], [4.0]]), batch, modes="mean")
    tensor([[2.],
            [4.]])
    """
    states_TD, positions_T = hidden_TD.float(), batch.positions()
    starts_N, ends_N = batch.cu_seqlens[:-1].long(), batch.cu_seqlens[1:].long()
    lengths_N = (ends_N - starts_N - prompt_tokens).clamp(min=0)
    kept_T = positions_T >= prompt_tokens
    kept_TD = states_TD[kept_T] if prompt_tokens else states_TD
    weights_T1 = (positions_T[kept_T] + 1).float()[:, None]

    def sums(states_TD: Tensor) -> Tensor:
        return torch.segment_reduce(states_TD, "sum", lengths=lengths_N, unsafe=True)

    counts_N1 = lengths_N.clamp(min=1)[:, None]
    poolings: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: states_TD[starts_N],
        CLS_AFTER_PROMPT: lambda: states_TD[starts_N + prompt_tokens * (lengths_N > 0)],
        "max": lambda: torch.segment_reduce(
            kept_TD, "max", lengths=lengths_N, unsafe=True, initial=NO_MAXIMUM
        ),
        "mean": lambda: sums(kept_TD) / counts_N1,
        "mean_sqrt_len_tokens": lambda: sums(kept_TD) / counts_N1.sqrt(),
        "weightedmean": lambda: sums(kept_TD * weights_T1) / sums(weights_T1).clamp(min=1),
        "lasttoken": lambda: states_TD[ends_N - 1],
    }
    return torch.cat([pool() for mode, pool in poolings.items() if mode in modes.split("+")], dim=1)
