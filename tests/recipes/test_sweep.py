"""Sweeps over learning rates, and what is pushed to a hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flatcoat import FlatcoatError, Recipe
from flatcoat.recipes.commands import app, push_folder
from flatcoat.recipes.sweep import sweep


def test_a_sweep_chooses_on_the_dev_sets(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(recipe: Recipe, datasets: Any) -> Any:
        return lambda model: {"pets": 0.9 if recipe.training.learning_rate == 1e-3 else 0.4}

    monkeypatch.setattr("flatcoat.recipes.run.dev_scores", scores)
    trials = sweep(recipe(dev=["pets"], training={"max_steps": 1}), [1e-4, 1e-3], output=tmp_path / "sweep")
    assert [(trial.learning_rate, trial.folder) for trial in trials] == [
        (1e-3, "lr-0.001"),
        (1e-4, "lr-0.0001"),
    ]
    assert trials[0].scores == {"pets": 0.9, "mean": 0.9}
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert written["best"] == "lr-0.001"
    for trial in written["trials"]:
        assert (tmp_path / "sweep" / trial["folder"] / "modules.json").exists()
    steps: list[int] = []
    again = sweep(
        recipe(dev=["pets"], training={"max_steps": 1}),
        [1e-4, 1e-3],
        output=tmp_path / "sweep",
        on_step=lambda step, total, loss: steps.append(step),
        resume=True,
    )
    assert (again, steps) == (trials, [])


def test_a_sweep_needs_dev_sets(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="name BEIR folders under dev"):
        sweep(recipe(), [1e-4], output=tmp_path / "sweep")


@pytest.mark.parametrize("rates", ["fast", "1e-3,", "0", "-1"])
def test_rates_are_numbers(rates: str) -> None:
    done = CliRunner().invoke(app, ["train", "flatcoat-small", "--sweep", rates])
    assert done.exit_code == 2


def test_a_finished_run_is_pushed_without_what_resuming_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> str:
            calls.append((repo_id, options))
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id: str, **options: Any) -> None:
            calls.append((repo_id, options))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(FlatcoatError, match="holds no finished run"):
        push_folder(tmp_path, "me/model")
    (tmp_path / "training.json").write_text("{}")
    assert push_folder(tmp_path, "me/model", private=True) == "https://hub/me/model"
    (made, options), (uploaded, upload) = calls
    assert (made, options["private"], options["exist_ok"]) == ("me/model", True, True)
    assert (uploaded, upload["folder_path"]) == ("me/model", tmp_path)
    assert "checkpoints/*" in upload["ignore_patterns"]
