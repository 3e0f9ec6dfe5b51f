"""What stands on top of the encoder. Axes: T tokens, D width, V vocabulary."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModernBertConfig
from .layers import truncated_normal
from .model import ModernBert
from .packing import PackedBatch


class PredictionHead(nn.Module):
    """Dense, gelu, LayerNorm: [T, D] to [T, D]."""

    def __init__(self, width: int, eps: float, bias: bool, norm_bias: bool):
        super().__init__()
        self.dense = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width, eps=eps, bias=norm_bias)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(hidden_TD)))


class MaskedLanguageModel(nn.Module):
    """The encoder with its masked-language-model head; the decoder shares the token embeddings.

    ``model(batch)`` returns logits [T, V]; ``positions`` (int64) limits them to the tokens asked for.
    """

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.model = ModernBert(config)
        self.head = PredictionHead(
            config.hidden_size, config.norm_eps, config.classifier_bias, config.norm_bias
        )
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
        truncated_normal(
            self.head.dense.weight, config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
        )
        self.decoder.weight = self.model.embeddings.tok_embeddings.weight
        if self.decoder.bias is not None:
            nn.init.zeros_(self.decoder.bias)

    def forward(self, batch: PackedBatch, positions: Tensor | None = None) -> Tensor:
        hidden_TD = self.model(batch)
        if positions is not None:
            hidden_TD = hidden_TD[positions]
        return self.decoder(self.head(hidden_TD))

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "MaskedLanguageModel":
        """Load a masked-language-model checkpoint, the tied decoder present or missing."""
        from .weights import load_masked_lm

        return load_masked_lm(name_or_path, dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
        from .weights import save

        save(self, folder)
