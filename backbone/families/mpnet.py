"""MPNet (arXiv 2004.09297): RoBERTa's positions, and biases of scores by distance that all layers share.

Settings and names as transformers' ``models/mpnet`` has them.
"""

from typing import Any

from . import bert, roberta
from .family import Family, Setting, layers

_SETTINGS = {name: setting for name, setting in bert.SETTINGS.items() if name != "type_vocab_size"}
_LAYER: dict[str, str | tuple[str, ...]] = bert.LAYER | {
    "attn.Wqkv": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    "attn.Wo": "attention.attn.o",
    "attn_norm": "attention.LayerNorm",
}
# Padding's position and the number of buckets are fixed, whatever a config says.
_SHAPE: dict[str, Any] = bert.SHAPE | {"position_offset": 2, "relative_buckets": 32}

FAMILY = Family(
    name="mpnet",
    model_types=("mpnet",),
    architecture="MPNetModel",
    prefix="mpnet.",
    settings=_SETTINGS
    | {
        "vocab_size": Setting("vocab_size", 30_527),
        "pad_token_id": Setting("pad_token_id", 1),
    },
    modules={name: theirs for name, theirs in bert.EMBEDDINGS.items() if "type" not in name}
    | {"relative_bias": "encoder.relative_attention_bias"}
    | dict(layers(_LAYER, inside="encoder.layer.#")),
    shape=_SHAPE,
    accepted={"pad_token_id": (1, None), "relative_attention_num_buckets": (32, None)},
    heads=roberta.heads("MPNet", ("hidden_dropout_prob",)),
)
