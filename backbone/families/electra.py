"""ELECTRA (arXiv 2003.10555): BERT whose embeddings may be narrower than its layers.

Settings and names as transformers' ``models/electra`` has them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import bert
from .family import Setting
from .head import Head, Task


def _projection(values: Mapping[str, Any]) -> dict[str, Any]:
    """No projection between equal widths."""
    narrow = values.get("embedding_size", 128)
    return {"embedding_size": 0 if narrow == values.get("hidden_size", 256) else narrow}


_HEADS: dict[Task, Head] = {
    "masked": Head(
        architecture="ElectraForMaskedLM",
        modules={
            "head.dense": "generator_predictions.dense",
            "head.norm": "generator_predictions.LayerNorm",
            "decoder": "generator_lm_head",
        },
        activation="gelu",
    ),
    "sequence": Head(
        architecture="ElectraForSequenceClassification",
        modules={"head.dense": "classifier.dense", "classifier": "classifier.out_proj"},
        activation="gelu",
        dropout=bert.DROPOUT,
    ),
    "token": bert.token_head("Electra"),
}

FAMILY = replace(
    bert.FAMILY,
    name="electra",
    model_types=("electra",),
    architecture="ElectraModel",
    prefix="electra.",
    settings=bert.SETTINGS
    | {
        "hidden_size": Setting("hidden_size", 256),
        "intermediate_size": Setting("intermediate_size", 1024),
        "num_attention_heads": Setting("num_attention_heads", 4),
    },
    modules=bert.MODULES | {"embeddings.project": "embeddings_project"},
    adapt=_projection,
    heads=_HEADS,
)
