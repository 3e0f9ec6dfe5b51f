"""8-bit inference on CPU: the linear layers multiply bytes, through PyTorch's oneDNN kernels.

Weights are quantised once, per output channel; activations in each forward, per token, so that the vectors
of a text do not depend on the rest of its batch. Nothing is calibrated.
Axes: T tokens, I inputs, O outputs, D width.
"""

import copy
import platform
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from flatcoat.errors import UsageError

from .attention import Attend
from .elementwise_cpu import (
    NormedRows,
    Rows,
    activated_quantized,
    add_norm_quantized,
    added,
    gated_quantized,
    laid_in_heads,
    normed_quantized,
    quantized,
    rotated_qkv,
    uses_numba,
)
from .layers import Attention, GatedMlp, JoinedLinear, Layer, Mlp, PostNormLayer
from .model import ModernBert
from .positions import Rotary

_ZERO = 128
"""The byte that stands for 0: activations are unsigned, as oneDNN requires."""


class Int8Linear(nn.Module):
    """A linear layer on bytes: float32 [T, I] to [T, O], without gradients."""

    def __init__(self, linear: nn.Linear | JoinedLinear):
        super().__init__()
        weight_OI = linear.weight.detach().float()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        scales_O = weight_OI.abs().amax(dim=1).clamp(min=1e-12) / _steps()
        codes_OI = (weight_OI / scales_O[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(codes_OI, [1024, self.in_features])
        self.shift_O = torch.zeros(self.out_features) if self.bias is None else self.bias
        self._scales_O = scales_O
        self._zeros_O = torch.zeros(self.out_features, dtype=torch.int64)

    def forward(self, states_TI: Tensor) -> Tensor:
        rows = quantize_activations(states_TI)
        out_TO = self.products(rows.codes_TI, torch.float32).mul_(rows.scales_T[:, None])
        return out_TO if self.bias is None else out_TO.add_(self.bias)

    def products(self, codes_TI: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[T, O] before rows are scaled and the bias is added, in the dtype that is fastest here."""
        dtype = _fastest_dtype() if dtype is None else dtype
        weight = (self._weight, self._scales_O, self._zeros_O)
        return torch.ops.onednn.qlinear_pointwise(
            codes_TI, 1.0, _ZERO, *weight, None, 1.0, 0, dtype, "none", [], ""
        )


class Int8Layer(nn.Module):
    """A pre-norm layer whose steps between two products hand on bytes, each in one pass.

    ``layer`` has linear layers on bytes already; it computes where the kernels of one core do not apply.
    """

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer
        self.attn, self.mlp = cast(Attention, layer.attn), cast(GatedMlp, layer.mlp)

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        if rotary is None or not uses_numba(hidden_TD):
            return self.layer(hidden_TD, attend, rotary)
        norm = self.layer.attn_norm
        rows = normed_quantized(hidden_TD, norm) if isinstance(norm, nn.LayerNorm) else quantized(hidden_TD)
        projected_TE = _linear(self.attn.Wqkv).products(rows.codes_TI)
        states = rotated_qkv(projected_TE, rows.scales_T, self.attn.heads, rotary, torch.float32)
        rows = quantized(attend(*states, self.attn.window).flatten(1))
        hidden_TD = added(hidden_TD, _linear(self.attn.Wo).products(rows.codes_TI), rows.scales_T)
        rows = normed_quantized(hidden_TD, cast(nn.LayerNorm, self.layer.mlp_norm))
        rows = gated_quantized(_linear(self.mlp.Wi).products(rows.codes_TI), rows.scales_T)
        return added(hidden_TD, _linear(self.mlp.Wo).products(rows.codes_TI), rows.scales_T)


class Int8PostNormLayer(nn.Module):
    """BERT's layer on bytes, each step between two products in one pass; ``layer`` as in ``Int8Layer``."""

    def __init__(self, layer: PostNormLayer):
        super().__init__()
        self.layer = layer
        self.attn, self.mlp = cast(Attention, layer.attn), cast(Mlp, layer.mlp)

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        if rotary is not None or not uses_numba(hidden_TD):
            return self.layer(hidden_TD, attend, rotary)
        rows = quantized(hidden_TD)
        Wqkv, Wo, Wi = map(_linear, (self.attn.Wqkv, self.attn.Wo, self.mlp.Wi))
        states = laid_in_heads(Wqkv.products(rows.codes_TI), rows.scales_T, Wqkv.shift_O, self.attn.heads)
        rows = quantized(attend(*states, self.attn.window).flatten(1))
        hidden_TD, rows = _add_norm(hidden_TD, rows, Wo, self.layer.attn_norm)
        rows = activated_quantized(Wi.products(rows.codes_TI), rows.scales_T, Wi.shift_O)
        return _add_norm(hidden_TD, rows, _linear(self.mlp.Wo), self.layer.mlp_norm).states_TD


def _add_norm(hidden_TD: Tensor, rows: Rows, linear: Int8Linear, norm: nn.Module) -> NormedRows:
    products_TD = linear.products(rows.codes_TI)
    norm = cast(nn.LayerNorm, norm)
    return add_norm_quantized(hidden_TD, products_TD, rows.scales_T, bias_D=linear.shift_O, norm=norm)


def quantize_activations(states_TI: Tensor) -> Rows:
    """Each row as bytes around 128, its largest magnitude at 127 steps."""
    if uses_numba(states_TI):
        return quantized(states_TI)
    scales_T = states_TI.abs().amax(dim=1).clamp(min=1e-30) / 127
    return Rows((states_TI / scales_T[:, None] + (_ZERO + 0.5)).to(torch.uint8), scales_T)


def quantize(model: ModernBert) -> ModernBert:
    """A copy of the encoder that computes its linear layers on bytes; embeddings and norms stay float32.

    For inference: the copy has no weights left to train or to save. Raises UsageError for a model that is
    not on the CPU, and where PyTorch is built without oneDNN.

    >>> from .config import ModernBertConfig
    >>> sizes = dict(hidden_size=64, num_attention_heads=2, num_hidden_layers=1)
    >>> quantize(ModernBert(ModernBertConfig(vocab_size=10, **sizes))).layers[0].attn.Wo
    Int8Linear()
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise UsageError(f"8-bit inference is for CPUs, and the model is on {device}: load it on the CPU")
    if not torch.backends.mkldnn.is_available():
        raise UsageError("8-bit inference needs oneDNN, which this PyTorch lacks: compute in float32")
    linears = [part for part in model.modules() if isinstance(part, nn.Linear | JoinedLinear)]
    # Copied as bytes at once: the weights of float32 are not copied first.
    int8_model = copy.deepcopy(model, {id(linear): Int8Linear(linear) for linear in linears})
    for index, layer in enumerate(int8_model.layers):
        if _is_modernbert(cast(Layer, layer)):
            int8_model.layers[index] = Int8Layer(cast(Layer, layer))
        elif _is_bert(cast(Layer, layer)):
            int8_model.layers[index] = Int8PostNormLayer(cast(PostNormLayer, layer))
    return int8_model.float().eval().requires_grad_(False)


def _is_modernbert(layer: Layer) -> bool:
    """Whether the fused steps compute such a layer; others take the same products step by step."""
    parts = (layer.attn.Wqkv, layer.attn.Wo, layer.mlp.Wi, layer.mlp.Wo)
    return (
        type(layer) is Layer
        and isinstance(layer.mlp, GatedMlp)
        and layer.mlp.activation == "gelu"
        and isinstance(layer.mlp_norm, nn.LayerNorm)
        and all(isinstance(part, Int8Linear) and part.bias is None for part in parts)
    )


def _is_bert(layer: Layer) -> bool:
    """The same for BERT's layer."""
    return (
        type(layer) is PostNormLayer
        and isinstance(layer.mlp, Mlp)
        and layer.mlp.activation == "gelu"
        and isinstance(layer.mlp_norm, nn.LayerNorm)
        and layer.attn.key_value_heads == layer.attn.heads
    )


def _linear(module: nn.Module) -> Int8Linear:
    assert isinstance(module, Int8Linear)
    return module


@cache
def _fastest_dtype() -> torch.dtype:
    """bfloat16 halves the memory traffic, but with AVX2 alone oneDNN writes it by a reference loop only."""
    return torch.bfloat16 if torch.cpu._is_vnni_supported() else torch.float32


def _steps() -> int:
    """Weight steps on each side of 0. Without VNNI, pairs of products are added in 16 bits: 64 steps fit."""
    if platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_vnni_supported():
        return 127
    return 64
