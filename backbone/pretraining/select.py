"""The objective that a recipe names."""

from flatcoat.backbone.heads import MaskedLanguageModel

from .objectives import MaskedLanguageModelling, Objective
from .settings import PretrainingSettings


def make_objective(settings: object, model: MaskedLanguageModel, _: PretrainingSettings) -> Objective:
    return MaskedLanguageModelling(model)
