"""One suite over every recipe file."""

from pathlib import Path

import pytest
import yaml

import flatcoat.recipes
from flatcoat import Recipe
from flatcoat.recipes.commands import find_recipe

FILES = sorted(Path(flatcoat.recipes.__file__).parent.glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_under_its_name(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    assert find_recipe(recipe.name) == path
    assert recipe.description
    assert recipe.data_root == Path()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_run_records_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(path)
    copy = tmp_path / "recipe.yaml"
    copy.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    assert Recipe.load(copy) == recipe
