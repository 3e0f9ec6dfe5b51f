"""ModernBERT over packed batches: token ids in, token vectors out. Source: arXiv 2412.13663.

Axes: T tokens of all sequences together, D width.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .attention import AttentionPlan, attend_to
from .config import ModernBertConfig
from .layers import Attention, Embeddings, GeGLU, Layer, truncated_normal
from .packing import PackedBatch
from .rotary import Rotary, rotary_table

if TYPE_CHECKING:
    from collections.abc import Mapping


class ModernBert(nn.Module):
    """The encoder without a head; parameters carry the names of the published checkpoints.

    ``model(batch)`` returns the hidden states [T, D] of a PackedBatch, in its order.
    """

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            width=config.hidden_size,
            pad_token_id=config.pad_token_id if config.pad_token_id < config.vocab_size else None,
            eps=config.norm_eps,
            norm_bias=config.norm_bias,
            dropout=config.embedding_dropout,
        )
        self.layers = nn.ModuleList(_layer(config, index) for index in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
        _initialise(self, config)

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden_TD = self.embeddings(batch.input_ids_T)
        attend = attend_to(AttentionPlan.of(batch), hidden_TD.device, hidden_TD.dtype)
        rotary = _rotary_tables(batch, self.config, hidden_TD.dtype)
        for layer, kind in zip(self.layers, self.config.layer_types, strict=True):
            hidden_TD = layer(hidden_TD, attend, rotary[kind])
        return self.final_norm(hidden_TD)

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "ModernBert":
        """Load the encoder of a Hugging Face checkpoint: a folder, or a name on the hub.

        Raises FlatcoatError where there is no such checkpoint or its weights do not fit.
        """
        from .weights import load_encoder

        return load_encoder(name_or_path, dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
        from .weights import save

        save(self, folder)


def _rotary_tables(
    batch: PackedBatch, config: ModernBertConfig, dtype: torch.dtype
) -> "Mapping[str, Rotary]":
    starts = batch.cu_seqlens[:-1].long()
    lengths = torch.tensor(batch.lengths, dtype=torch.long, device=starts.device)
    tokens = torch.arange(len(batch.input_ids_T), device=starts.device)
    positions_T = tokens - torch.repeat_interleave(starts, lengths, output_size=len(tokens))
    thetas = {"global": config.global_rope_theta, "local": config.local_rope_theta}
    return {
        kind: rotary_table(positions_T, batch.max_seqlen, config.head_width, theta, dtype)
        for kind, theta in thetas.items()
    }


def _layer(config: ModernBertConfig, index: int) -> Layer:
    def norm() -> nn.LayerNorm:
        return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)

    attention = Attention(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        window=config.local_attention // 2 if config.layer_types[index] == "local" else None,
        bias=config.attention_bias,
        dropout=config.attention_dropout,
    )
    mlp = GeGLU(
        config.hidden_size, config.intermediate_size, bias=config.mlp_bias, dropout=config.mlp_dropout
    )
    return Layer(attention, mlp, attn_norm=norm() if index else nn.Identity(), mlp_norm=norm())


def _initialise(model: ModernBert, config: ModernBertConfig) -> None:
    std = config.initializer_range
    truncated_normal(model.embeddings.tok_embeddings.weight, std)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            into_residual = name.endswith("Wo")
            truncated_normal(
                module.weight, std / (2 * config.num_hidden_layers) ** 0.5 if into_residual else std
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
