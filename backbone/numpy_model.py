"""The encoder in NumPy, one sequence at a time: a query takes less time than the import of torch.

The twin of ``model`` in float32, in every shape that a config describes. Source: arXiv 2412.13663.
Axes: T tokens, D width, H heads, W head width, P = W / 2 pairs, R = 2 T - 1 distances of a key from a query,
B queries of a block, S keys around it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flatcoat.errors import DataError, UsageError
from flatcoat.threads import pieces

from .config import LayerType, ModernBertConfig
from .error_function import erf
from .relative_positions import alibi_slopes, distance_buckets
from .weight_shapes import weight_shapes

_BLOCK = 64
"""Queries scored together: a long text needs no matrix of all its tokens by all."""

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x * 0.5**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: 0.5 * x * (1 + np.tanh(0.5 * x)),
}


class _Rotary(NamedTuple):
    cos_TP: np.ndarray
    sin_TP: np.ndarray


class _Places(NamedTuple):
    """What layers know of where tokens stand: rotary tables, biases by distance, tokens hidden as keys."""

    tables: Mapping[LayerType, _Rotary]
    bias_HR: np.ndarray | None
    hidden_T: np.ndarray | None


class NumpyModernBert:
    """The encoder without a head, of weights by the names of ``model.ModernBert``.

    Threads may share one. Raises DataError where weights are missing, of another shape or not float32.

    >>> config = ModernBertConfig(vocab_size=10, hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    >>> weights = {name: np.ones(shape, np.float32) for name, shape in weight_shapes(config).items()}
    >>> NumpyModernBert(config, weights)([1, 2, 3]).shape
    (3, 8)
    """

    def __init__(self, config: ModernBertConfig, weights: Mapping[str, np.ndarray]) -> None:
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
        """Hidden states [T, D] of one sequence of token ids; none attends to tokens not ``attended_T``.

        Raises UsageError for a sequence longer than the learned positions.
        """
        places = self._places(len(ids_T), attended_T)
        hidden_TD = self._embedded(np.asarray(ids_T))
        for number in self.config.steps:
            hidden_TD = self._layer(number, hidden_TD, places)
        return hidden_TD if self.config.norm_position == "post" else self._normed("final_norm", hidden_TD)

    def _places(self, tokens: int, attended_T: Sequence[bool] | None) -> _Places:
        config = self.config
        tables: dict[LayerType, _Rotary] = {}
        if config.positions == "rope":
            tables = {
                kind: _rotary_table(tokens, config.head_width, theta, scale=config.rope_scale)
                for kind, theta in config.rope_thetas.items()
            }
        bias_HR = None
        if config.relative_buckets:
            buckets_R = distance_buckets(tokens, config.relative_buckets)
            bias_HR = self.weights["relative_bias.weight"][buckets_R].T
        elif config.positions == "alibi":
            bias_HR = -alibi_slopes(config.num_attention_heads)[:, None] * np.abs(
                np.arange(1 - tokens, tokens)
            )
        return _Places(tables, bias_HR, None if attended_T is None else ~np.asarray(attended_T, dtype=bool))

    def _embedded(self, ids_T: np.ndarray) -> np.ndarray:
        config, weights = self.config, self.weights
        hidden_TD = weights["embeddings.tok_embeddings.weight"][ids_T]
        if config.type_vocab_size:
            hidden_TD = hidden_TD + weights["embeddings.type_embeddings.weight"][0]
        if config.positions == "absolute":
            if len(ids_T) > config.longest:
                raise UsageError(
                    f"a sequence of {len(ids_T)} tokens is longer than the {config.longest} learned positions"
                )
            rows_T = np.arange(len(ids_T))
            if config.position_offset:
                # Padding within a text has a position of its own, and counts not.
                counted_T = ids_T != config.pad_token_id
                rows_T = np.cumsum(counted_T) * counted_T + config.position_offset - 1
            hidden_TD = hidden_TD + weights["embeddings.position_embeddings.weight"][rows_T]
        hidden_TD = self._normed("embeddings.norm", hidden_TD) if config.embedding_norm else hidden_TD
        return self._linear("embeddings.project", hidden_TD) if config.embedding_size else hidden_TD

    def _layer(self, number: int, hidden_TD: np.ndarray, places: _Places) -> np.ndarray:
        layer = f"layers.{number}"
        if self.config.norm_position == "post":
            update_TD = self._attended(number, hidden_TD, places)
            hidden_TD = self._normed(f"{layer}.attn_norm", hidden_TD + update_TD)
            return self._normed(f"{layer}.mlp_norm", hidden_TD + self._mlp(layer, hidden_TD))
        is_normed = f"{layer}.attn_norm.weight" not in self.weights
        normed_TD = hidden_TD if is_normed else self._normed(f"{layer}.attn_norm", hidden_TD)
        hidden_TD = hidden_TD + self._attended(number, normed_TD, places)
        return hidden_TD + self._mlp(layer, self._normed(f"{layer}.mlp_norm", hidden_TD))

    def _attended(self, number: int, states_TD: np.ndarray, places: _Places) -> np.ndarray:
        table = places.tables.get(self.config.layer_types[number])
        states = self._query_key_value(f"layers.{number}.attn.Wqkv", states_TD, table)
        mixed_TD = _attention(states, self.config.window(number), places.hidden_T, places.bias_HR)
        return self._linear(f"layers.{number}.attn.Wo", mixed_TD)

    def _mlp(self, layer: str, states_TD: np.ndarray) -> np.ndarray:
        activate = ACTIVATIONS[self.config.activation]
        projected = self._linear(f"{layer}.mlp.Wi", states_TD)
        if self.config.mlp_kind == "mlp":
            return self._linear(f"{layer}.mlp.Wo", activate(projected))
        activated, gates = np.split(projected, 2, axis=1)
        return self._linear(f"{layer}.mlp.Wo", activate(activated) * gates)

    def _linear(self, name: str, states: np.ndarray) -> np.ndarray:
        return linear(states, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _normed(self, name: str, states_TD: np.ndarray) -> np.ndarray:
        if self.config.norm_kind == "layernorm":
            states_TD = states_TD - states_TD.mean(axis=1, keepdims=True)
        variances_T1 = np.square(states_TD).mean(axis=1, keepdims=True)
        scaled_TD = states_TD / np.sqrt(variances_T1 + self.config.norm_eps)
        normed_TD = scaled_TD * self.weights[f"{name}.weight"]
        return normed_TD + self.weights[f"{name}.bias"] if self.config.norm_bias else normed_TD

    def _query_key_value(self, name: str, states_TD: np.ndarray, table: _Rotary | None) -> np.ndarray:
        """Queries and keys, rotated by their positions where a table is given, and values: [3, H, T, W]."""
        heads, shared, _ = self.config.head_counts
        projected = self._linear(name, states_TD).reshape(len(states_TD), -1, self.config.head_width)
        # Each head of keys and values serves as many heads of queries.
        order = [*range(heads), *np.repeat(np.arange(heads, heads + 2 * shared), heads // shared)]
        projected = projected[:, order] if shared < heads else projected
        shape = (len(states_TD), 3, heads, self.config.head_width)
        states_3HTW = np.ascontiguousarray(projected.reshape(shape).transpose(1, 2, 0, 3))
        if table is None:
            return states_3HTW
        first, second = np.split(states_3HTW[:2], 2, axis=-1)
        rotated = (first * table.cos_TP - second * table.sin_TP, second * table.cos_TP + first * table.sin_TP)
        states_3HTW[:2] = np.concatenate(rotated, axis=-1)
        return states_3HTW


def linear(states_TI: np.ndarray, weight_OI: np.ndarray, bias_O: np.ndarray | None) -> np.ndarray:
    """A linear layer: [T, O]."""
    out_TO = states_TI @ weight_OI.T
    return out_TO if bias_O is None else out_TO + bias_O


def _rotary_table(tokens: int, head_width: int, theta: float, *, scale: float) -> _Rotary:
    """Cosines and sines of the angles (float32), half-split as ``positions.rotary_table`` has them."""
    exponents_P = np.arange(0, head_width, 2, dtype=np.float32) / head_width
    angles_TP = np.arange(tokens, dtype=np.float32)[:, None] * (
        np.float32(scale) / np.float32(theta) ** exponents_P
    )
    return _Rotary(np.cos(angles_TP), np.sin(angles_TP))


def _attention(
    states_3HTW: np.ndarray, window: int | None, hidden_T: np.ndarray | None, bias_HR: np.ndarray | None
) -> np.ndarray:
    """Attention within ``window`` tokens on each side (None: to all) but to ``hidden_T``: [T, D].

    ``bias_HR`` is added to scores by distance. A token that attends to none gets zeros.
    """
    query_HTW, key_HTW, value_HTW = states_3HTW
    heads, tokens, width = query_HTW.shape
    reach = tokens if window is None else window
    mixed_THW = np.empty((tokens, heads, width), np.float32)
    for block in pieces(tokens, _BLOCK):
        keys = slice(max(0, block.start - reach), min(tokens, block.stop + reach))
        scores_HBS = query_HTW[:, block] @ key_HTW[:, keys].transpose(0, 2, 1) * width**-0.5
        distances_BS = np.arange(tokens)[keys] - np.arange(tokens)[block, None]
        if bias_HR is not None:
            scores_HBS += bias_HR[:, distances_BS + tokens - 1]
        unseen_BS = np.abs(distances_BS) > reach
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
