"""ALBERT (arXiv 1909.11942): layers in groups that share weights, embeddings narrower than the layers.

Settings and names as transformers' ``models/albert`` has them.
"""

from collections.abc import Mapping
from typing import Any

from . import bert
from .family import Family, Setting, layers
from .head import Head, Task

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn.Wqkv": ("attention.query", "attention.key", "attention.value"),
    "attn.Wo": "attention.dense",
    "attn_norm": "attention.LayerNorm",
    "mlp.Wi": "ffn",
    "mlp.Wo": "ffn_output",
    "mlp_norm": "full_layer_layer_norm",
}


_HEADS: dict[Task, Head] = {
    "masked": Head(
        architecture="AlbertForMaskedLM",
        modules={
            "head.dense": "predictions.dense",
            "head.norm": "predictions.LayerNorm",
            "decoder": "predictions.decoder",
        },
        bias="predictions.bias",
    ),
    "sequence": Head(
        architecture="AlbertForSequenceClassification",
        modules={"head.dense": "albert.pooler", "classifier": "classifier"},
        activation="tanh",
        dropout=("classifier_dropout_prob",),
    ),
    "token": bert.token_head("Albert", ("classifier_dropout_prob", "hidden_dropout_prob")),
}


def _order(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each group computes as many steps, one group after the other."""
    steps, groups = values.get("num_hidden_layers", 12), values.get("num_hidden_groups", 1)
    fits = type(steps) is int and type(groups) is int and 1 <= groups <= steps <= 1024
    return {"layer_order": tuple(int(step / (steps / groups)) for step in range(steps))} if fits else {}


FAMILY = Family(
    name="albert",
    model_types=("albert",),
    architecture="AlbertModel",
    prefix="albert.",
    settings=bert.SETTINGS
    | {
        "vocab_size": Setting("vocab_size", 30_000),
        "embedding_size": Setting("embedding_size", 128),
        "hidden_size": Setting("hidden_size", 4096),
        "intermediate_size": Setting("intermediate_size", 16_384),
        "num_attention_heads": Setting("num_attention_heads", 64),
        "activation": Setting("hidden_act", "gelu_new"),
        "embedding_dropout": Setting("hidden_dropout_prob", 0.0),
        "attention_dropout": Setting("hidden_dropout_prob", 0.0),
        "mlp_out_dropout": Setting("hidden_dropout_prob", 0.0),
        "attention_weights_dropout": Setting("attention_probs_dropout_prob", 0.0),
    },
    modules=bert.EMBEDDINGS
    | {"embeddings.project": "encoder.embedding_hidden_mapping_in"}
    | dict(layers(_LAYER, inside="encoder.albert_layer_groups.#.albert_layers.0")),
    shape=bert.SHAPE,
    accepted={"inner_group_num": (1, None), "position_embedding_type": ("absolute", None)},
    adapt=_order,
    heads=_HEADS,
)
