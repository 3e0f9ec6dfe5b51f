"""EuroBERT (arXiv 2503.05500): Llama's layers looking both ways, with fewer heads of keys than of queries.

Settings and names as transformers' ``models/eurobert`` has them.
"""

from collections.abc import Mapping
from typing import Any

from flatcoat.errors import UsageError

from .family import Family, Setting, layers
from .head import Head, Task

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn_norm": "input_layernorm",
    "attn.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.Wo": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.Wi": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.Wo": "mlp.down_proj",
}
_SHAPE: dict[str, Any] = {
    "positions": "rope",
    "norm_position": "pre",
    "norm_kind": "rmsnorm",
    "mlp_kind": "glu",
    "embedding_norm": False,
}


_HEADS: dict[Task, Head] = {
    "masked": Head(architecture="EuroBertForMaskedLM", modules={"decoder": "lm_head"}),
    "sequence": Head(
        architecture="EuroBertForSequenceClassification",
        modules={"head.dense": "dense", "classifier": "classifier"},
        activation="gelu",
    ),
    "token": Head(architecture="EuroBertForTokenClassification", modules={"classifier": "classifier"}),
}


def _derived(values: Mapping[str, Any]) -> dict[str, Any]:
    heads = values.get("num_attention_heads", 12)
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise UsageError(f"rope_parameters are {rope!r:.60}: the rope_type 'default' is supported")
    width, named = values.get("hidden_size", 768), values.get("head_dim")
    if named is not None and not (
        all(type(n) is int for n in (heads, width, named)) and named * heads == width
    ):
        raise UsageError(f"head_dim is {named!r:.40}: hidden_size / num_attention_heads is supported")
    named_heads = values.get("num_key_value_heads")
    pooling = values.get("classifier_pooling") or "late"
    return {
        "global_rope_theta": rope.get("rope_theta", values.get("rope_theta", 10_000.0)),
        "key_value_heads": heads if named_heads is None else named_heads,
        "classifier_pooling": "cls" if pooling == "bos" else pooling,
    }


FAMILY = Family(
    name="eurobert",
    model_types=("eurobert",),
    architecture="EuroBertModel",
    prefix="model.",
    settings={
        "vocab_size": Setting("vocab_size", 128_256),
        "hidden_size": Setting("hidden_size", 768),
        "intermediate_size": Setting("intermediate_size", 3072),
        "num_hidden_layers": Setting("num_hidden_layers", 12),
        "num_attention_heads": Setting("num_attention_heads", 12),
        "max_position_embeddings": Setting("max_position_embeddings", 8192),
        "activation": Setting("hidden_act", "silu"),
        "norm_eps": Setting("rms_norm_eps", 1e-5),
        "attention_bias": Setting("attention_bias", False),
        "mlp_bias": Setting("mlp_bias", False),
        "decoder_bias": Setting("mlp_bias", False),
        "classifier_pooling": Setting("classifier_pooling", "late"),
        "attention_weights_dropout": Setting("attention_dropout", 0.0),
        "initializer_range": Setting("initializer_range", 0.02),
        "pad_token_id": Setting("pad_token_id", 128_001),
        "tie_word_embeddings": Setting("tie_word_embeddings", False),
    },
    modules={"embeddings.tok_embeddings": "embed_tokens", "final_norm": "norm"}
    | dict(layers(_LAYER, inside="layers.#")),
    shape=_SHAPE,
    adapt=_derived,
    heads=_HEADS,
)
