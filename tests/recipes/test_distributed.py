"""Two processes under torchrun against one, on the same global batches."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from flatcoat import Recipe
from flatcoat.recipes.run import run

APART = """
import os, sys
from flatcoat.__main__ import main

sys.argv[-1] += os.environ["RANK"]  # as on machines that each have a disk of their own
main()
"""


def torchrun(recipe: Recipe, folder: Path) -> None:
    done = started(recipe, folder)
    assert done.returncode == 0, done.stderr[-3000:]


def started(
    recipe: Recipe, folder: Path, program: Sequence[str] = ("-m", "flatcoat")
) -> "subprocess.CompletedProcess[str]":
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [*program, "train", str(folder / "recipe.yaml"), "--output", str(folder / "two")]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("colbert", {"gather": True}),
        ("dense", {"gather": True, "symmetric": True, "temperature": 0.05, "mini_batch_tokens": 60}),
    ],
)
def test_two_processes_share_a_batch(
    recipe: Callable[..., Recipe],
    modernbert_folder: Path,
    tmp_path: Path,
    kind: str,
    training: dict[str, Any],
) -> None:
    training = training | {"max_steps": 3, "log_every": 1, "save_every": 2}
    made = recipe(kind=kind, scratch=None, base=str(modernbert_folder), training=training)
    one = run(made, tmp_path / "one")
    torchrun(made, tmp_path)
    two = json.loads((tmp_path / "two" / "training.json").read_text())
    assert two["steps"] == 3
    for (step, loss), (step_of_two, loss_of_two) in zip(one.losses, two["losses"], strict=True):
        assert step == step_of_two
        assert loss_of_two == pytest.approx(loss, abs=1e-4)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all((weights - second[name]).abs().max() < 1e-4 for name, weights in first.items())


@pytest.mark.slow
def test_both_processes_stop_where_the_rows_of_one_give_no_number(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    made = recipe(kind="dense", scratch=None, base=str(modernbert_folder), training={"save_every": 2})
    rows = [
        {"query": f"q {n}", "document": f"d {n}", "negatives": [f"n {n}"], "scores": [1, 0]} for n in range(8)
    ]
    # finite, and beyond what a float32 can square
    rows[5]["scores"] = [3e38, 0]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"jsonl": str(tmp_path / "rows.jsonl"), "negatives": "negatives", "scores": "scores"}
    training = {"loss": "margin-mse", "batch_size": 8, "max_steps": 3}
    values = made.model_dump(mode="json", exclude_defaults=True) | {"data": [source], "training": training}
    done = started(Recipe.model_validate(values), tmp_path)
    assert done.returncode == 1
    errors = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    (error,) = errors
    assert error.startswith("error: step 1: the loss is ")
    assert error.count("rows.jsonl:") == error.count("rows.jsonl:6") == 1
    assert not (tmp_path / "two" / "model.safetensors").exists()


@pytest.mark.slow
def test_an_output_that_the_processes_do_not_share_is_refused(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    made = recipe(kind="dense", scratch=None, base=str(modernbert_folder), training={"max_steps": 1})
    (tmp_path / "apart.py").write_text(APART)
    done = started(made, tmp_path, [str(tmp_path / "apart.py")])
    assert done.returncode == 1
    errors = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    assert len(errors) == 2  # Each process names its own folder.
    assert all("two" in error and "is not shared: process 1 of 2 does not see" in error for error in errors)
    assert not list(tmp_path.glob("two*"))
