"""ModernBERT in NumPy, one sequence at a time: a query needs no torch, whose import takes longer than itself.

The twin of ``model`` in float32 for the shape that transformers computes: rotary positions, norms before
sub-layers, gated feed-forward. Source: arXiv 2412.13663.
Axes: T tokens, D width, H heads, W head width, P = W / 2 pairs, B queries of a block, S keys around it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flatcoat.errors import DataError, UsageError
from flatcoat.threads import pieces

from .config import ModernBertConfig
from .error_function import erf

_BLOCK = 64
"""Queries scored together: a long text needs no matrix of all its tokens by all."""

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x * 0.5**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: 0.5 * x * (1 + np.tanh(0.5 * x)),
}


class NumpyModernBert:
    """The encoder without a head, of weights by the names of the published checkpoints.

    Threads may share one. Raises DataError where weights are missing, of another shape or not float32, and
    UsageError for a config of the paper's ablations.

    >>> config = ModernBertConfig(vocab_size=10, hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    >>> weights = {name: np.ones(shape, np.float32) for name, shape in weight_shapes(config).items()}
    >>> NumpyModernBert(config, weights)([1, 2, 3]).shape
    (3, 8)
    """

    def __init__(self, config: ModernBertConfig, weights: Mapping[str, np.ndarray]) -> None:
        if not config.is_modernbert:
            raise UsageError("NumPy computes ModernBERT's own shape: load this config with torch")
        shapes = weight_shapes(config)
        if missing := sorted(shapes.keys() - weights.keys()):
            raise DataError(
                f"the checkpoint lacks {len(missing)} weights that its config names, first {missing[0]}"
            )
        for name, shape in shapes.items():
            weight = weights[name]
            if weight.shape != shape or weight.dtype != np.float32:
                raise DataError(
                    f"{name} has shape {weight.shape} in {weight.dtype}: "
                    f"its config asks for {shape} in float32"
                )
        self.config = config
        self.weights = {name: weights[name] for name in shapes}

    def __call__(self, ids_T: Sequence[int], attended_T: Sequence[bool] | None = None) -> np.ndarray:
        """Hidden states [T, D] of one sequence of token ids; none attends to tokens not ``attended_T``."""
        config = self.config
        hidden_TD = self._normed("embeddings.norm", self.weights["embeddings.tok_embeddings.weight"][ids_T])
        tables = {
            kind: _rotary_table(len(ids_T), config.head_width, theta)
            for kind, theta in config.rope_thetas.items()
        }
        hidden_T = None if attended_T is None else ~np.asarray(attended_T, dtype=bool)
        for index, kind in enumerate(config.layer_types):
            layer = f"layers.{index}"
            normed_TD = self._normed(f"{layer}.attn_norm", hidden_TD) if index else hidden_TD
            states = self._query_key_value(f"{layer}.attn.Wqkv", normed_TD, tables[kind])
            mixed_TD = _attention(states, config.window(index), hidden_T)
            hidden_TD = hidden_TD + self._linear(f"{layer}.attn.Wo", mixed_TD)
            projected = self._linear(f"{layer}.mlp.Wi", self._normed(f"{layer}.mlp_norm", hidden_TD))
            activated, gates = np.split(projected, 2, axis=1)
            gated = ACTIVATIONS[config.activation](activated) * gates
            hidden_TD = hidden_TD + self._linear(f"{layer}.mlp.Wo", gated)
        return self._normed("final_norm", hidden_TD)

    def _linear(self, name: str, states: np.ndarray) -> np.ndarray:
        return linear(states, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _normed(self, name: str, states_TD: np.ndarray) -> np.ndarray:
        centred_TD = states_TD - states_TD.mean(axis=1, keepdims=True)
        variances_T1 = np.square(centred_TD).mean(axis=1, keepdims=True)
        scaled_TD = centred_TD / np.sqrt(variances_T1 + self.config.norm_eps)
        normed_TD = scaled_TD * self.weights[f"{name}.weight"]
        return normed_TD + self.weights[f"{name}.bias"] if self.config.norm_bias else normed_TD

    def _query_key_value(self, name: str, states_TD: np.ndarray, table: "_Rotary") -> np.ndarray:
        """Queries and keys rotated by their positions, and values: [3, H, T, W]."""
        shape = (len(states_TD), 3, self.config.num_attention_heads, self.config.head_width)
        projected = self._linear(name, states_TD).reshape(shape)
        states_3HTW = np.ascontiguousarray(projected.transpose(1, 2, 0, 3))
        first, second = np.split(states_3HTW[:2], 2, axis=-1)
        rotated = (first * table.cos_TP - second * table.sin_TP, second * table.cos_TP + first * table.sin_TP)
        states_3HTW[:2] = np.concatenate(rotated, axis=-1)
        return states_3HTW


def linear(states_TI: np.ndarray, weight_OI: np.ndarray, bias_O: np.ndarray | None) -> np.ndarray:
    """A linear layer: [T, O]."""
    out_TO = states_TI @ weight_OI.T
    return out_TO if bias_O is None else out_TO + bias_O


class _Rotary(NamedTuple):
    cos_TP: np.ndarray
    sin_TP: np.ndarray


def _rotary_table(tokens: int, head_width: int, theta: float) -> _Rotary:
    """Cosines and sines of the angles (float32), half-split as ``positions.rotary_table`` has them."""
    exponents_P = np.arange(0, head_width, 2, dtype=np.float32) / head_width
    angles_TP = np.arange(tokens, dtype=np.float32)[:, None] * (1 / np.float32(theta) ** exponents_P)
    return _Rotary(np.cos(angles_TP), np.sin(angles_TP))


def _attention(states_3HTW: np.ndarray, window: int | None, hidden_T: np.ndarray | None) -> np.ndarray:
    """Attention within ``window`` tokens on each side (None: to all) but to ``hidden_T``: [T, D].

    A token that attends to none gets zeros.
    """
    query_HTW, key_HTW, value_HTW = states_3HTW
    heads, tokens, width = query_HTW.shape
    reach = tokens if window is None else window
    mixed_THW = np.empty((tokens, heads, width), np.float32)
    for block in pieces(tokens, _BLOCK):
        keys = slice(max(0, block.start - reach), min(tokens, block.stop + reach))
        scores_HBS = query_HTW[:, block] @ key_HTW[:, keys].transpose(0, 2, 1) * width**-0.5
        distances_BS = np.abs(np.arange(tokens)[block, None] - np.arange(tokens)[keys])
        unseen_BS = distances_BS > reach
        if hidden_T is not None:
            unseen_BS |= hidden_T[keys]
        scores_HBS[:, unseen_BS] = -np.inf
        mixed_THW[block] = (_softmax(scores_HBS) @ value_HTW[:, keys]).transpose(1, 0, 2)
    return mixed_THW.reshape(tokens, heads * width)


def _softmax(scores_HBS: np.ndarray) -> np.ndarray:
    """Zeros in a row of -inf."""
    top_HB1 = scores_HBS.max(axis=-1, keepdims=True)
    weights_HBS = np.exp(scores_HBS - np.maximum(top_HB1, np.finfo(np.float32).min))
    return weights_HBS / np.maximum(weights_HBS.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def weight_shapes(config: ModernBertConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the encoder's weights by name."""
    width, inner = config.hidden_size, config.intermediate_size
    linears = {
        "attn.Wqkv": (3 * width, width, config.attention_bias),
        "attn.Wo": (width, width, config.attention_bias),
        "mlp.Wi": (2 * inner, width, config.mlp_bias),
        "mlp.Wo": (width, inner, config.mlp_bias),
    }
    norms = ["embeddings.norm", "final_norm"]
    shapes: dict[str, tuple[int, ...]] = {"embeddings.tok_embeddings.weight": (config.vocab_size, width)}
    for index in range(config.num_hidden_layers):
        # The first layer has no norm before its attention: the embeddings are normed already.
        before = ("attn_norm", "mlp_norm") if index else ("mlp_norm",)
        norms += [f"layers.{index}.{norm}" for norm in before]
        for name, (out, into, bias) in linears.items():
            shapes[f"layers.{index}.{name}.weight"] = (out, into)
            if bias:
                shapes[f"layers.{index}.{name}.bias"] = (out,)
    for norm in norms:
        shapes[f"{norm}.weight"] = (width,)
        if config.norm_bias:
            shapes[f"{norm}.bias"] = (width,)
    return shapes
