"""The masked-language-model head on the encoder. Axes: T tokens, D width, V vocabulary."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .config import ModernBertConfig
from .fused import ACTIVATIONS
from .layers import make_norm, truncated_normal
from .model import ModernBert
from .packing import PackedBatch
from .weightless import weightless
from .weights import EMBEDDINGS, fill, read_checkpoint, require_layers, save, under_head


class PredictionHead(nn.Module):
    """Dense, activation, norm: [..., D] to [..., D]."""

    def __init__(self, width: int, activation: str, norm: nn.Module, bias: bool, std: float):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.dense = nn.Linear(width, width, bias=bias)
        self.norm = norm
        truncated_normal(self.dense.weight, std)
        if self.dense.bias is not None:
            nn.init.zeros_(self.dense.bias)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden_TD)))


def prediction_head(config: ModernBertConfig) -> PredictionHead:
    """The head of a config, newly drawn: what masked language models and classifiers share."""
    return PredictionHead(
        config.hidden_size,
        activation=config.classifier_activation,
        norm=make_norm(config.norm_kind, config.hidden_size, eps=config.norm_eps, bias=config.norm_bias),
        bias=config.classifier_bias,
        std=config.initializer_range / (2 * config.num_hidden_layers) ** 0.5,
    )


class MaskedLanguageModel(nn.Module):
    """The encoder with its masked-language-model head; the decoder shares the token embeddings.

    ``model(batch)`` returns logits [T, V]; ``positions`` (int64) limits them to the tokens asked for.
    The decoder has weights of its own where the config's ``tie_word_embeddings`` is False.
    """

    architecture: ClassVar[str] = "ModernBertForMaskedLM"
    """transformers' class for these weights."""

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.model = ModernBert(config)
        self.head = prediction_head(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
        if config.tie_word_embeddings:
            self.decoder.weight = self.model.embeddings.tok_embeddings.weight
        else:
            truncated_normal(
                self.decoder.weight, config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
            )
        if self.decoder.bias is not None:
            nn.init.zeros_(self.decoder.bias)

    def forward(self, batch: PackedBatch, positions: Tensor | None = None) -> Tensor:
        hidden_TD = self.model(batch)
        if positions is not None:
            hidden_TD = hidden_TD[positions]
        return self.decoder(self.head(hidden_TD))

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "MaskedLanguageModel":
        """Load a masked-language-model checkpoint, the tied decoder present or missing.

        Raises FlatcoatError where there is no such checkpoint, or it has no such head.
        """
        config, state = read_checkpoint(name_or_path)
        state = under_head(state)
        require_layers(config, state, name_or_path)
        with weightless():
            model = MaskedLanguageModel(config)
        if config.tie_word_embeddings and EMBEDDINGS in state:
            state["decoder.weight"] = state[EMBEDDINGS]
        fill(model, state, name_or_path, dtype)
        if config.tie_word_embeddings:
            model.decoder.weight = model.model.embeddings.tok_embeddings.weight
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
        save(self, folder, config=self.config, architecture=self.architecture)
