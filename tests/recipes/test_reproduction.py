"""The page of the paper's table 1: up to date, complete, and made of commands that exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat.__main__ import app
from flatcoat.eval.benchmarks import BENCHMARKS
from flatcoat.recipes import reproduction
from flatcoat.recipes.commands import find_recipe
from flatcoat.recipes.schema import Recipe

CELLS = [cell for _, cell in reproduction.cells()]


def test_the_page_is_what_its_generator_writes() -> None:
    page = Path(reproduction.__file__).with_name("REPRODUCE.md").read_text(encoding="utf-8")
    assert page == reproduction.page()


def test_every_cell_of_both_models_has_its_figure() -> None:
    figures = [round(100 * cell.expected, 1) for cell in CELLS]
    base, large = figures[:8], figures[8:]
    assert base == [41.6, 27.4, 44.0, 51.3, 80.2, 88.4, 56.4, 73.6]
    assert large == [44.0, 34.3, 48.6, 52.4, 80.4, 90.4, 59.5, 83.9]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.system} {cell.title}")
def test_recipes_settings_and_options_exist(cell: reproduction.Cell) -> None:
    for recipe, settings in re.findall(r"flatcoat train (\S+)(.*?) --output", cell.command):
        Recipe.load(find_recipe(recipe), re.findall(r"--set (\S+)", settings))
    assert all(name in BENCHMARKS for name in re.findall(r"--benchmark (\S+)", cell.command))
    for command, rest in re.findall(r"flatcoat (train|eval|glue) ([^&)]*)", cell.command):
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [command, "--help"]).stdout
        assert all(option in shown for option in re.findall(r"--[a-z0-9-]+", rest))
