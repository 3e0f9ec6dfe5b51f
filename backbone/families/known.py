"""The families whose checkpoints run on the backbone, and which of them a config.json is of."""

from collections.abc import Mapping
from typing import Any

from . import albert, bert, distilbert, electra, eurobert, gte, mosaicbert, mpnet, nomicbert, roberta
from .family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        mosaicbert.FAMILY,
        bert.FAMILY,
        roberta.FAMILY,
        roberta.XLM_ROBERTA,
        roberta.CAMEMBERT,
        mpnet.FAMILY,
        distilbert.FAMILY,
        electra.FAMILY,
        albert.FAMILY,
        nomicbert.FAMILY,
        gte.FAMILY,
        eurobert.FAMILY,
    )
}
"""By name, in order: the first whose model type and marks a config has is that of the config."""


def family_of(values: Mapping[str, Any]) -> Family | None:
    """The family of a config.json; None where there is none, as for ModernBERT, which the backbone is.

    >>> family_of({"model_type": "bert"}).architecture
    'BertModel'
    """
    for family in FAMILIES.values():
        if values.get("model_type") in family.model_types and all(key in values for key in family.marks):
            return family
    return None
