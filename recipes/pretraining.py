"""Recipes of pretraining: the settings of ``flatcoat.backbone.pretraining`` under a name."""

from collections.abc import Sequence
from pathlib import Path

from flatcoat.backbone.pretraining.settings import PretrainingSettings

from .recipe_files import RecipeName, read_recipe


class PretrainingRecipe(PretrainingSettings):
    """A pretraining run: text, tokenizer, model, objective and phases. Paths are relative to ``data_root``.

    >>> from flatcoat.recipes.commands import find_recipe
    >>> recipe = PretrainingRecipe.load(find_recipe("pretrain-base"))
    >>> [phase.name for phase in recipe.phases]
    ['stable', 'extended', 'annealed']
    """

    name: RecipeName
    description: str = ""

    @staticmethod
    def load(path: Path, overrides: Sequence[str] = ()) -> "PretrainingRecipe":
        """Read a recipe; it may extend another, and ``overrides`` are ``key.key=value`` with YAML values.

        Raises NotFoundError for a missing file, DataError for a file that is no YAML, and UsageError for a
        wrong key or value; the message names the file, the key and the accepted values.
        """
        return read_recipe(PretrainingRecipe, path, overrides)

    @property
    def settings(self) -> PretrainingSettings:
        """What the run is told; the name and the description say nothing to it."""
        return PretrainingSettings.model_validate(self.model_dump(exclude={"name", "description"}))
