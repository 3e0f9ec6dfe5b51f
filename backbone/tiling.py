"""Start a larger model from a smaller one, as ModernBERT-large started from base (arXiv 2412.13663).

Weights are tiled from the middle (Phi's way), layers spread evenly (Gopher's, arXiv 2112.11446).
"""

import re
from typing import TypeVar

import torch
from torch import Tensor

from flatcoat.errors import UsageError

from .config import ModernBertConfig
from .heads import MaskedLanguageModel
from .model import ModernBert

Model = TypeVar("Model", ModernBert, MaskedLanguageModel)
_GROWING = ("hidden_size", "intermediate_size", "num_hidden_layers")
_SAME = (
    "vocab_size",
    "head_width",
    "positions",
    "norm_position",
    "norm_kind",
    "norm_bias",
    "mlp_kind",
    "mlp_bias",
    "activation",
    "attention_bias",
    "classifier_bias",
    "classifier_activation",
    "decoder_bias",
    "tie_word_embeddings",
)
_LAYER = re.compile(r"(?<=layers\.)\d+(?=\.)")


@torch.no_grad()
def tile(small: Model, config: ModernBertConfig) -> Model:
    """A model of a larger config that begins with the weights of ``small``, in its dtype, on its device.

    Every matrix holds the old one in its middle and repeats it on all sides; queries, keys, values and the
    two halves of a gated Wi are matrices of their own; norms, biases and the head go the same way.
    Heads stay whole where their number grows by an even one, as it does from base to large. Layer i of L
    comes from layer i * old L / L, rounded; the first layer has no attention norm to give, so another that
    comes from it begins with a norm of ones. Raises UsageError where a size shrinks, or where the two
    configs differ in more than sizes, windows and rotary bases.

    >>> sizes = dict(vocab_size=10, intermediate_size=8, num_hidden_layers=1, pad_token_id=0)
    >>> small = ModernBert(ModernBertConfig(hidden_size=8, num_attention_heads=2, **sizes))
    >>> large = tile(small, ModernBertConfig(hidden_size=16, num_attention_heads=4, **sizes))
    >>> large.embeddings.tok_embeddings.weight.shape
    torch.Size([10, 16])
    """
    _check(small.config, config)
    large = type(small)(config).to(next(small.parameters()))
    source = small.state_dict()
    for name, weight in large.state_dict().items():
        origin = _LAYER.sub(lambda layer: str(_source_layer(int(layer[0]), small.config, config)), name)
        if origin in source:
            weight.copy_(_tiled(source[origin], weight.shape, _matrices(name, config)))
    return large.train(small.training)


def _check(small: ModernBertConfig, large: ModernBertConfig) -> None:
    for name in _GROWING:
        old, new = getattr(small, name), getattr(large, name)
        if new < old:
            raise UsageError(f"{name} would shrink from {old} to {new}: tiling only grows a model")
    same = _SAME if small.positions != "absolute" else (*_SAME, "max_position_embeddings")
    for name in same:
        old, new = getattr(small, name), getattr(large, name)
        if new != old:
            raise UsageError(f"{name} would change from {old!r} to {new!r}: tiling keeps all but the sizes")


def _source_layer(layer: int, small: ModernBertConfig, large: ModernBertConfig) -> int:
    # Python rounds halves to the even side, as the code behind the paper does.
    nearest = round(layer * small.num_hidden_layers / large.num_hidden_layers)
    return min(nearest, small.num_hidden_layers - 1)


def _matrices(name: str, config: ModernBertConfig) -> int:
    """Number of matrices stacked in a weight: 3 in Wqkv, 2 in a gated Wi."""
    if ".Wqkv." in name:
        return 3
    return 2 if ".Wi." in name and config.mlp_kind == "glu" else 1


def _tiled(old: Tensor, shape: torch.Size, matrices: int) -> Tensor:
    tiled = old.unflatten(0, (matrices, -1))
    for axis, size in enumerate((matrices, shape[0] // matrices, *shape[1:])):
        before = (size - tiled.shape[axis]) // 2
        indices = (torch.arange(size, device=old.device) - before) % tiled.shape[axis]
        tiled = tiled.index_select(axis, indices)
    return tiled.flatten(0, 1)
