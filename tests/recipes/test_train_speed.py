"""The benchmark of training: the same batches and losses on both backbones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat import Recipe
from flatcoat.__main__ import app
from flatcoat.eval.bench import OURS
from flatcoat.recipes.train_speed import PADDED


@pytest.mark.slow
def test_both_backbones_train_on_the_same_batches(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(recipe().model_dump_json(exclude_unset=True))
    result = CliRunner().invoke(app, ["bench", "train", str(file), "--steps", "2", "--passes", "1", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["recipe"] == "tiny"
    ours, padded = found["rows"]
    assert (ours["implementation"], padded["implementation"]) == (OURS, PADDED)
    assert ours["loss"] == pytest.approx(padded["loss"], abs=1e-4)
    assert ours["ratio_to_ours"] == 1
    assert padded["steps_per_second"] == pytest.approx(padded["ratio_to_ours"] * ours["steps_per_second"])
    assert min(ours["peak_bytes"], padded["peak_bytes"]) > 100 << 20


def test_an_unknown_recipe_is_bad_usage() -> None:
    result = CliRunner().invoke(app, ["bench", "train", "nothing"])
    assert result.exit_code == 2
