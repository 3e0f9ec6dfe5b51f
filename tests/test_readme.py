"""Every block of the README runs as it stands. (The test command is what runs this.)"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flatcoat.recipes.schema import Recipe

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_tour_runs(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "birds.md").write_text("# Birds\n\nThe wren builds its nest of moss and leaves.\n")
    for code, line in zip(blocks("python"), ("sky:1 The sky is blue", ""), strict=True):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert line in done.stdout


def test_the_start_command_indexes_and_finds(tmp_path: Path) -> None:
    flatcoat = [line for line in blocks("sh")[0].splitlines() if line.startswith("flatcoat ")]
    assert len(flatcoat) == 2
    # The backbone alone stands for the whole repository, to keep the test short.
    shutil.copytree(Path(__file__).parents[1] / "backbone", tmp_path / "backbone")
    for line in flatcoat:
        words = shlex.split(line.removesuffix("&&"))[1:]
        done = subprocess.run(
            [sys.executable, "-m", "flatcoat", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "packing.py" in done.stdout


COMMANDS = ["index", "search", "serve", "info", "mcp", "remove", "compact", "verify", "eval", "compare"]
COMMANDS += ["glue", "train", "mine", "mine-docstrings", "score", "push"]


@pytest.mark.parametrize("command", [*COMMANDS, "bench encode", "bench search", "bench serve", "bench train"])
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"flatcoat {command}" in README


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (recipe,) = blocks("yaml")
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert Recipe.load(tmp_path / "recipe.yaml", ()).name == "my-questions"
