"""ModernBERT over packed batches: token ids in, token vectors out. Source: arXiv 2412.13663.

The config covers the paper's ablations (FlexBERT) too, and the encoders of ``families``.
Axes: T tokens of all sequences together, D width.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

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
from .positions import Rotary, rotary_table
from .relative_positions import alibi_slopes, distance_buckets
from .weights import encoder_weights, fill, init_empty_weights, read_checkpoint, require_layers, save

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

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.rest: dict[str, Tensor] = {}
        """Weights of a family's checkpoint that its library uses and this does not, to be saved again."""
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            width=config.embedding_size or config.hidden_size,
            pad_token_id=config.pad_token_id if config.pad_token_id < config.vocab_size else None,
            positions=config.max_position_embeddings if config.positions == "absolute" else None,
            norm=_norm(config, config.embedding_size) if config.embedding_norm else nn.Identity(),
            dropout=config.embedding_dropout,
            position_offset=config.position_offset,
            types=config.type_vocab_size,
            project=nn.Linear(config.embedding_size, config.hidden_size) if config.embedding_size else None,
        )
        self.relative_bias = None
        if config.relative_buckets:
            self.relative_bias = nn.Embedding(config.relative_buckets, config.num_attention_heads)
        self.layers = nn.ModuleList(_layer(config, index) for index in range(config.layer_count))
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
        attend = attend_to(self._plan(batch), device, dtype=dtype)
        rotary = _rotary_tables(batch, self.config, dtype)
        if self.config.norm_position == "pre":
            # Sums of many layers lose what half precision cannot hold; one product loses little.
            hidden_TD = hidden_TD.float()
        for number in self.config.steps:
            layer = self.layers[number]
            inputs = (hidden_TD, attend, rotary.get(self.config.layer_types[number]))
            # The mode of the layer: transformers switches the mode of its wrapper, not of this model.
            if self.gradient_checkpointing and layer.training and torch.is_grad_enabled():
                hidden_TD = cast(Tensor, checkpoint(layer, *inputs, use_reentrant=False))
            else:
                hidden_TD = layer(*inputs)
        return normed(hidden_TD, self.final_norm, dtype)

    def _plan(self, batch: PackedBatch) -> AttentionPlan:
        config, device = self.config, batch.input_ids_T.device
        slopes_H = bias_HR = None
        if config.positions == "alibi":
            slopes_H = torch.from_numpy(alibi_slopes(config.num_attention_heads)).to(device)
        if self.relative_bias is not None:
            buckets_R = torch.from_numpy(distance_buckets(batch.max_seqlen, config.relative_buckets))
            bias_HR = self.relative_bias(buckets_R.to(device)).T
        dropout = config.attention_weights_dropout if self.training else 0.0
        return AttentionPlan.of(batch, slopes_H, bias_HR=bias_HR, dropout=dropout)

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "ModernBert":
        """Load the encoder of a Hugging Face checkpoint: a folder, or a name on the hub.

        Weights keep the dtype they were saved in unless ``dtype`` says otherwise; the model comes in
        evaluation mode, the weights of a head are ignored. Raises NotFoundError where there is
        no such checkpoint, DataError where it is of another kind, damaged, or lacks weights.
        """
        config, whole = read_checkpoint(name_or_path)
        state = encoder_weights(config, whole)
        require_layers(config, state, name=name_or_path)
        with init_empty_weights():
            model = ModernBert(config)
        if config.published is not None:
            model.rest = config.published.rest(whole, layers=config.layer_count)
        return fill(model, state, name=name_or_path, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as the family's own library reads them."""
        family = self.config.published
        architecture = "ModernBertModel" if family is None else family.architecture
        save(self, folder, config=self.config, architecture=architecture, rest=self.rest)


def _rotary_tables(
    batch: PackedBatch, config: ModernBertConfig, dtype: torch.dtype
) -> "Mapping[str, Rotary]":
    if config.positions != "rope":
        return {}
    positions_T = batch.positions()
    return {
        kind: rotary_table(
            positions_T,
            batch.max_seqlen,
            head_width=config.head_width,
            theta=theta,
            dtype=dtype,
            scale=config.rope_scale,
        )
        for kind, theta in config.rope_thetas.items()
    }


def _norm(config: ModernBertConfig, width: int = 0) -> Norm:
    return make_norm(
        config.norm_kind, width or config.hidden_size, eps=config.norm_eps, bias=config.norm_bias
    )


def _layer(config: ModernBertConfig, index: int) -> Layer:
    attention = Attention(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        window=config.window(index),
        bias=config.attention_bias,
        dropout=config.attention_dropout,
        key_value_heads=config.key_value_heads,
    )
    mlp = (GatedMlp if config.mlp_kind == "glu" else Mlp)(
        config.hidden_size,
        config.intermediate_size,
        activation=config.activation,
        bias=config.mlp_bias,
        out_bias=config.mlp_out_bias,
        dropout=config.mlp_dropout,
        out_dropout=config.mlp_out_dropout,
    )
    if config.norm_position == "post":
        return PostNormLayer(attention, mlp, attn_norm=_norm(config), mlp_norm=_norm(config))
    is_normed = index == 0 and config.embedding_norm
    return Layer(
        attention, mlp, attn_norm=nn.Identity() if is_normed else _norm(config), mlp_norm=_norm(config)
    )


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
