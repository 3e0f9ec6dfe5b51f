"""Alibaba's encoders of 2024 (arXiv 2407.19669): GTE-en-MLM, GTE-multilingual-MLM, gte-*-v1.5, and what was
trained on them. BERT with rotary positions and a gated feed-forward block.

Settings and names as the code beside the checkpoints has them (``Alibaba-NLP/new-impl``).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flatcoat.errors import UsageError

from . import bert
from .family import Family, Setting, layers

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn.Wqkv": "attention.qkv_proj",
    "attn.Wo": "attention.o_proj",
    "attn_norm": "attn_ln",
    "mlp.Wi": "mlp.up_gate_proj",
    "mlp.Wo": "mlp.down_proj",
    "mlp_norm": "mlp_ln",
}
_SHAPE: dict[str, Any] = bert.SHAPE | {
    "positions": "rope",
    "mlp_kind": "glu",
    "mlp_bias": False,
    "mlp_out_bias": True,
}


_MASKED = {"head.dense": "lm_head.dense", "head.norm": "lm_head.norm", "decoder": "lm_head.decoder"}
_HEADS = bert.heads("New", "new.")
_HEADS["masked"] = replace(_HEADS["masked"], modules=_MASKED, bias="")


def _rotary(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fixed NTK scaling by f multiplies the base by f, and every angle by f^(-2/W) of a head's width W."""
    theta, scaling = values.get("rope_theta", 10_000.0), values.get("rope_scaling")
    if scaling is None:
        return {"global_rope_theta": theta}
    named = scaling if isinstance(scaling, dict) else {}
    factor: Any = named.get("factor")
    width, heads = values.get("hidden_size", 768), values.get("num_attention_heads", 12)
    numbers = all(type(value) in (int, float) and value > 0 for value in (theta, factor, width, heads))
    if named.get("type") != "ntk" or named.get("mixed_b") is not None or not numbers:
        raise UsageError(f"rope_scaling is {scaling!r:.60}: ntk without mixed_b is supported")
    return {"global_rope_theta": theta * factor, "rope_scale": float(factor) ** (-2 * heads / width)}


FAMILY = Family(
    name="gte",
    model_types=("new",),
    architecture="NewModel",
    prefix="new.",
    settings=bert.SETTINGS
    | {
        "vocab_size": Setting("vocab_size", 30_528),
        "max_position_embeddings": Setting("max_position_embeddings", 2048),
        "type_vocab_size": Setting("type_vocab_size", 1),
        "mlp_dropout": Setting("hidden_dropout_prob", 0.1),
        "attention_weights_dropout": Setting("attention_probs_dropout_prob", 0.0),
    },
    modules={name: theirs for name, theirs in bert.EMBEDDINGS.items() if "position" not in name}
    | dict(layers(_LAYER, inside="encoder.layer.#")),
    shape=_SHAPE,
    accepted={
        "position_embedding_type": ("rope",),
        "layer_norm_type": ("layer_norm", None),
        "logn_attention_scale": (False, None),
        "pack_qkv": (True, None),
    },
    adapt=_rotary,
    gates_first=True,
    custom_code=True,
    heads=_HEADS,
)
