"""Each error of a recipe is of the class by which its caller decides what to do."""

from pathlib import Path

import pytest

from flatcoat import Recipe
from flatcoat.errors import (
    ConflictError,
    DataError,
    FlatcoatError,
    MissingExtraError,
    NotFoundError,
    UsageError,
)
from flatcoat.recipes.commands import check_loggers, find_recipe, push_folder
from flatcoat.recipes.run import run


@pytest.mark.parametrize(
    ("text", "kind"),
    [("a: [", DataError), ("- a\n", DataError), ("name: x\n", UsageError), ("extends: tiny\n", UsageError)],
)
def test_a_recipe_is_no_yaml_or_holds_a_wrong_value(
    tmp_path: Path, text: str, kind: type[FlatcoatError]
) -> None:
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(kind):
        Recipe.load(tmp_path / "tiny.yaml")


def test_a_recipe_or_a_run_is_not_there(tmp_path: Path) -> None:
    for call in (
        lambda: find_recipe("nothing"),
        lambda: Recipe.load(tmp_path / "none.yaml"),
        lambda: push_folder(tmp_path, "me/model"),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_an_output_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recipe = Recipe.load(find_recipe("squad-dense")).model_copy(update={"dev": (), "evaluate": ()})
    with pytest.raises(ConflictError):
        run(recipe, tmp_path)


def test_a_logger_is_not_installed() -> None:
    with pytest.raises(MissingExtraError):
        check_loggers(["no_such_logger"])
