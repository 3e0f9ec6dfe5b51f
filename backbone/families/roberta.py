"""RoBERTa (arXiv 1907.11692), XLM-RoBERTa (1911.02116) and CamemBERT (1911.03894).

BERT whose positions begin after that of padding.

Settings and names as transformers' ``models/roberta`` has them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import bert
from .family import Setting
from .head import Head, Task


def offset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The first position is that after padding's."""
    padding = values.get("pad_token_id", 1)
    return {"position_offset": padding + 1 if isinstance(padding, int) else padding}


def heads(name: str, dropout: tuple[str, ...] = bert.DROPOUT) -> dict[Task, Head]:
    """RoBERTa's heads in a family whose classes begin with ``name``."""
    return {
        "masked": Head(
            architecture=f"{name}ForMaskedLM",
            modules={
                "head.dense": "lm_head.dense",
                "head.norm": "lm_head.layer_norm",
                "decoder": "lm_head.decoder",
            },
            bias="lm_head.bias",
            activation="gelu",
        ),
        "sequence": Head(
            architecture=f"{name}ForSequenceClassification",
            modules={"head.dense": "classifier.dense", "classifier": "classifier.out_proj"},
            activation="tanh",
            dropout=dropout,
        ),
        "token": bert.token_head(name, dropout),
    }


FAMILY = replace(
    bert.FAMILY,
    name="roberta",
    model_types=("roberta",),
    architecture="RobertaModel",
    prefix="roberta.",
    settings=bert.SETTINGS
    | {"vocab_size": Setting("vocab_size", 50_265), "pad_token_id": Setting("pad_token_id", 1)},
    adapt=offset,
    heads=heads("Roberta"),
)
_MULTILINGUAL = {**FAMILY.settings} | {"vocab_size": Setting("vocab_size", 30_522)}
XLM_ROBERTA = replace(
    FAMILY,
    name="xlm-roberta",
    model_types=("xlm-roberta",),
    architecture="XLMRobertaModel",
    settings=_MULTILINGUAL,
    heads=heads("XLMRoberta"),
)
CAMEMBERT = replace(
    FAMILY,
    name="camembert",
    model_types=("camembert",),
    architecture="CamembertModel",
    settings=_MULTILINGUAL,
    heads=heads("Camembert"),
)
