"""8-bit inference on CPU: the linear layers multiply bytes, through PyTorch's oneDNN kernels.

Weights are quantised once, per output channel; activations as they come, per token, so that a text's vectors
do not depend on what shares its batch. Nothing is calibrated.
Axes: T tokens, I inputs, O outputs, D width.
"""

import copy
import platform
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import FlatcoatError
from .attention import Attend
from .fused import on_one_core, turned_on_one_core
from .layers import Attention, GatedMlp, Layer
from .model import ModernBert
from .rotary import Rotary

_ZERO = 128
"""The byte that stands for 0: activations are unsigned, as the kernels want them."""


class Rows(NamedTuple):
    """States as bytes: value = (code - 128) x the scale of its row."""

    codes_TI: Tensor
    scales_T: Tensor

    @staticmethod
    def empty(tokens: int, width: int) -> "Rows":
        return Rows(torch.empty(tokens, width, dtype=torch.uint8), torch.empty(tokens))


class Int8Linear(nn.Module):
    """A linear layer on bytes: float32 [T, I] to [T, O], without gradients."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight_OI = linear.weight.detach().float()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        scales_O = weight_OI.abs().amax(dim=1).clamp(min=1e-12) / _steps()
        codes_OI = (weight_OI / scales_O[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(codes_OI, [1024, self.in_features])
        self._scales_O = scales_O
        self._zeros_O = torch.zeros(self.out_features, dtype=torch.int64)

    def forward(self, states_TI: Tensor) -> Tensor:
        rows = quantize_rows(states_TI)
        out_TO = self.products(rows.codes_TI).mul_(rows.scales_T[:, None])
        return out_TO if self.bias is None else out_TO.add_(self.bias)

    def products(self, codes_TI: Tensor) -> Tensor:
        """[T, O] before rows are scaled and the bias is added."""
        weight = (self._weight, self._scales_O, self._zeros_O)
        return torch.ops.onednn.qlinear_pointwise(
            codes_TI, 1.0, _ZERO, *weight, None, 1.0, 0, torch.float32, "none", [], ""
        )


class Int8Layer(nn.Module):
    """A pre-norm layer whose steps between two products hand on bytes, each in one pass.

    ``layer`` has linear layers on bytes already; it computes where a thread shares its core with others.
    """

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer
        self.attn, self.mlp = cast(Attention, layer.attn), cast(GatedMlp, layer.mlp)

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        if rotary is None or not on_one_core(hidden_TD):
            return self.layer(hidden_TD, attend, rotary)
        rows = self._attn_rows(hidden_TD)
        projected_TE = _linear(self.attn.Wqkv).products(rows.codes_TI)
        turned = turned_on_one_core(projected_TE, rows.scales_T, self.attn.heads, rotary)
        rows = quantize_rows(attend(*turned, self.attn.window).flatten(1))
        update_TD = _linear(self.attn.Wo).products(rows.codes_TI)
        hidden_TD, rows = self._add_norm(hidden_TD, update_TD, rows.scales_T)
        rows = self._gate(_linear(self.mlp.Wi).products(rows.codes_TI), rows.scales_T)
        update_TD = _linear(self.mlp.Wo).products(rows.codes_TI)
        return torch.addcmul(hidden_TD, update_TD, rows.scales_T[:, None])

    def _attn_rows(self, hidden_TD: Tensor) -> Rows:
        if isinstance(self.layer.attn_norm, nn.Identity):
            return quantize_rows(hidden_TD)
        from .cpu_kernels import norm_quantize

        rows = Rows.empty(*hidden_TD.shape)
        norm_quantize(*_arrays(hidden_TD), *_norm_arrays(self.layer.attn_norm), *_arrays(*rows))
        return rows

    def _add_norm(self, hidden_TD: Tensor, update_TD: Tensor, scales_T: Tensor) -> tuple[Tensor, Rows]:
        from .cpu_kernels import add_norm_quantize

        total_TD, rows = torch.empty_like(hidden_TD), Rows.empty(*hidden_TD.shape)
        states = _arrays(hidden_TD, update_TD, scales_T)
        add_norm_quantize(*states, *_norm_arrays(self.layer.mlp_norm), *_arrays(total_TD, *rows))
        return total_TD, rows

    def _gate(self, projected_T2I: Tensor, scales_T: Tensor) -> Rows:
        from .cpu_kernels import gate_quantize

        rows = Rows.empty(len(projected_T2I), projected_T2I.shape[1] // 2)
        gate_quantize(*_arrays(projected_T2I, scales_T, *rows))
        return rows


def quantize_rows(states_TI: Tensor) -> Rows:
    """Each row as bytes around 128, its largest magnitude at 127 steps."""
    if on_one_core(states_TI):
        from .cpu_kernels import quantize_rows as quantize_on_one_core

        rows = Rows.empty(*states_TI.shape)
        quantize_on_one_core(*_arrays(states_TI, *rows))
        return rows
    scales_T = states_TI.abs().amax(dim=1).clamp(min=1e-30) / 127
    return Rows((states_TI / scales_T[:, None] + (_ZERO + 0.5)).to(torch.uint8), scales_T)


def quantize(model: ModernBert) -> ModernBert:
    """A copy of the encoder that computes its linear layers on bytes; embeddings and norms stay float32.

    For inference: the copy has no weights left to train or to save. Raises FlatcoatError for a model that is
    not on the CPU.
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise FlatcoatError(f"8-bit inference is for CPUs, and the model is on {device}: move it with .cpu()")
    linears = [part for part in model.modules() if isinstance(part, nn.Linear)]
    # Copied as bytes at once: the weights of float32 are not copied first.
    quantized = copy.deepcopy(model, {id(linear): Int8Linear(linear) for linear in linears})
    for index, layer in enumerate(quantized.layers):
        if _is_modernbert(cast(Layer, layer)):
            quantized.layers[index] = Int8Layer(cast(Layer, layer))
    return quantized.float().eval().requires_grad_(False)


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


def _linear(module: nn.Module) -> Int8Linear:
    assert isinstance(module, Int8Linear)
    return module


def _arrays(*tensors: Tensor) -> Any:
    return tuple(tensor.numpy() for tensor in tensors)


def _norm_arrays(norm: nn.Module) -> Any:
    assert isinstance(norm, nn.LayerNorm)
    bias_D = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
    return norm.weight.detach().numpy(), bias_D.detach().numpy(), norm.eps


def _steps() -> int:
    """Weight steps on each side of 0. Processors without VNNI add pairs of products in 16 bits: 64 fit."""
    if platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_vnni_supported():
        return 127
    return 64
