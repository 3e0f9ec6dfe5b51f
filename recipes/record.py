"""What a run leaves beside its checkpoint: the recipe, the figures, the loss as a picture, the model card."""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from .card import model_card
from .curve import draw_losses
from .schema import Recipe

_PACKAGES = ("torch", "transformers", "sentence-transformers", "pylate")


@dataclass(frozen=True)
class RunRecord:
    """The figures of a run, kept as ``training.json``; ``scores`` as ``flatcoat eval --json`` prints rows."""

    pairs: dict[str, int]
    steps: int
    seconds: float
    cpu_seconds: float
    losses: list[tuple[int, float]]
    scores: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, recipe: Recipe, folder: Path) -> None:
        """Write ``training.json``, ``recipe.yaml``, ``loss.png`` and the card, ``README.md``."""
        values = asdict(self) | {"versions": self.versions or _versions()}
        losses = values.pop("losses")
        (folder / "training.json").write_text(json.dumps(values | {"losses": losses}) + "\n")
        # The root is this machine's; what the recipe names below it is not.
        settings = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"data_root"})
        (folder / "recipe.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        if self.losses:
            draw_losses(self.losses, recipe.name, folder / "loss.png")
        (folder / "README.md").write_text(model_card(recipe, values | {"losses": losses}))


def _versions() -> dict[str, str]:
    return {"flatcoat": __version__} | {name: version(name) for name in _PACKAGES}
