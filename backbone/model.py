"""ModernBERT over packed batches: token ids in, token vectors out. Source: arXiv 2412.13663.

The config covers the paper's ablations (FlexBERT) too, and so encoders shaped as BERT, RoBERTa, MosaicBERT.
Axes: T tokens of all sequences together, D width.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import AttentionPlan
from .attention_dispatch import attend_to
from .config import ModernBertConfig
from .cpu_workers import encode_in_parallel
from .elementwise import normed
from .layers import (
    Attention,
    Embeddings,
    GatedMlp,
    Layer,
    Mlp,
    Norm,
    PostNormLayer,
    make_norm,
    truncated_normal,
)
from .packing import PackedBatch
from .positions import Rotary, alibi_slopes, rotary_table
from .weight_files import without_head
from .weights import fill, init_empty_weights, read_checkpoint, require_layers, save

if TYPE_CHECKING:
    from collections.abc import Mapping


class ModernBert(nn.Module):
    """The encoder without a head; parameters carry the names of the published checkpoints.

    ``model(batch)`` returns the hidden states [T, D] of a PackedBatch, in its order.
    With ``gradient_checkpointing`` set, training keeps no activations within layers but computes them again.

    >>> sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    >>> model = ModernBert(ModernBertConfig(vocab_size=10, **sizes))
    >>> model(PackedBatch.from_sequences([[1, 2, 3], [4]])).shape
    torch.Size([4, 8])
    """

    architecture: ClassVar[str] = "ModernBertModel"
    """transformers' class for these weights."""

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            width=config.hidden_size,
            pad_token_id=config.pad_token_id if config.pad_token_id < config.vocab_size else None,
            positions=config.max_position_embeddings if config.positions == "absolute" else None,
            norm=_norm(config),
            dropout=config.embedding_dropout,
        )
        self.layers = nn.ModuleList(_layer(config, index) for index in range(config.num_hidden_layers))
        self.final_norm = _norm(config) if config.norm_position == "pre" else nn.Identity()
        _initialise(self, config)

    def forward(self, batch: PackedBatch) -> Tensor:
        alone = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        if alone or batch.input_ids_T.device.type != "cpu":
            return self._encode(batch)
        return encode_in_parallel(self._encode, batch)

    def _encode(self, batch: PackedBatch) -> Tensor:
        hidden_TD = self.embeddings(batch)
        device, dtype = hidden_TD.device, hidden_TD.dtype
        heads = self.config.num_attention_heads
        slopes_H = alibi_slopes(heads, device) if self.config.positions == "alibi" else None
        attend = attend_to(AttentionPlan.of(batch, slopes_H), device, dtype=dtype)
        rotary = _rotary_tables(batch, self.config, dtype)
        if self.config.norm_position == "pre":
            # Sums of many layers lose what half precision cannot hold; one product loses little.
            hidden_TD = hidden_TD.float()
        for layer, kind in zip(self.layers, self.config.layer_types, strict=True):
            inputs = (hidden_TD, attend, rotary.get(kind))
            # The mode of the layer: transformers switches the mode of its wrapper, not of this model.
            if self.gradient_checkpointing and layer.training and torch.is_grad_enabled():
                hidden_TD = cast(Tensor, checkpoint(layer, *inputs, use_reentrant=False))
            else:
                hidden_TD = layer(*inputs)
        return normed(hidden_TD, self.final_norm, dtype)

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "ModernBert":
        """Load the encoder of a Hugging Face checkpoint: a folder, or a name on the hub.

        Weights keep the dtype they were saved in unless ``dtype`` says otherwise; the model comes in
        evaluation mode, the weights of a head are ignored. Raises NotFoundError where there is
        no such checkpoint, DataError where it is of another kind, damaged, or lacks weights.
        """
        config, state = read_checkpoint(name_or_path)
        state = without_head(state)
        require_layers(config, state, name=name_or_path)
        with init_empty_weights():
            model = ModernBert(config)
        return fill(model, state, name=name_or_path, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
        save(self, folder, config=self.config, architecture=self.architecture)


def _rotary_tables(
    batch: PackedBatch, config: ModernBertConfig, dtype: torch.dtype
) -> "Mapping[str, Rotary]":
    if config.positions != "rope":
        return {}
    positions_T = batch.positions()
    return {
        kind: rotary_table(
            positions_T, batch.max_seqlen, head_width=config.head_width, theta=theta, dtype=dtype
        )
        for kind, theta in config.rope_thetas.items()
    }


def _norm(config: ModernBertConfig) -> Norm:
    return make_norm(config.norm_kind, config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


def _layer(config: ModernBertConfig, index: int) -> Layer:
    attention = Attention(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        window=config.window(index),
        bias=config.attention_bias,
        dropout=config.attention_dropout,
    )
    mlp = (GatedMlp if config.mlp_kind == "glu" else Mlp)(
        config.hidden_size,
        config.intermediate_size,
        activation=config.activation,
        bias=config.mlp_bias,
        dropout=config.mlp_dropout,
    )
    if config.norm_position == "post":
        return PostNormLayer(attention, mlp, attn_norm=_norm(config), mlp_norm=_norm(config))
    return Layer(attention, mlp, attn_norm=_norm(config) if index else nn.Identity(), mlp_norm=_norm(config))


def _initialise(model: ModernBert, config: ModernBertConfig) -> None:
    std = config.initializer_range
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            truncated_normal(module.weight, std)
        if isinstance(module, nn.Linear):
            into_residual = name.endswith("Wo")
            truncated_normal(
                module.weight, std / (2 * config.num_hidden_layers) ** 0.5 if into_residual else std
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
