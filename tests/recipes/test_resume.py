"""A run that is killed and resumed against one that was not: the same losses, step by step, and weights."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from safetensors.torch import load_file

from flatcoat import Recipe
from flatcoat.recipes.commands import resumable
from flatcoat.recipes.run import run


def test_an_interrupted_run_says_how_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, resumable(Path("runs/mine")):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert "--resume goes on with runs/mine" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "more"),
    [
        ("modernbert", {}),
        ("bert", {}),
        ("bert", {"average": 0.8, "teachers": {"bm25": 1.0}, "frozen_layers": 1}),
    ],
    ids=["modernbert", "bert", "averaged"],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    recipe: Callable[..., Recipe],
    modernbert_folder: Path,
    bert_folder: Path,
    tmp_path: Path,
    backbone: str,
    more: dict[str, Any],
) -> None:
    # BERT has dropout, so that the state of random numbers counts too.
    base = {"modernbert": modernbert_folder, "bert": bert_folder}[backbone]
    sources = [{"beir": "pets"}, {"jsonl": "pairs.jsonl", "query": "q", "document": "d", "repeat": 2}]
    training = {"max_steps": 24, "save_every": 5, "log_every": 1, "gradient_accumulation": 2, "batch_size": 4}
    made = recipe(scratch=None, base=str(base), data=sources, training=training | more)
    whole = run(made, tmp_path / "whole")
    kill_at(made, tmp_path, step=13)
    assert not (tmp_path / "killed" / "training.json").exists()
    # As a kill in the middle of writing leaves it.
    (tmp_path / "killed" / "checkpoints" / "checkpoint-15").mkdir(exist_ok=True)
    steps: list[int] = []
    resumed = run(
        made, tmp_path / "killed", on_step=lambda step, total, loss: steps.append(step), resume=True
    )
    assert steps == list(range(11, 25))
    assert [step for step, _ in resumed.losses] == list(range(1, 25))
    assert resumed.losses == whole.losses
    assert resumed.learning_rates == whole.learning_rates
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all((weights == two[name]).all() for name, weights in one.items())


def kill_at(recipe: Recipe, folder: Path, step: int) -> None:
    """Train in a child process, which is killed when it reports a step."""
    values: dict[str, Any] = recipe.model_dump(mode="json", exclude_defaults=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from flatcoat import Recipe\n"
        "from flatcoat.recipes.run import run\n"
        "def report(step, steps, loss):\n"
        f"    if step == {step}:\n"
        "        print('there', flush=True)\n"
        "        time.sleep(600)\n"
        "run(Recipe.load(Path(sys.argv[1])), Path(sys.argv[2]), on_step=report)\n"
    )
    command = [sys.executable, "-c", program, str(folder / "recipe.yaml"), str(folder / "killed")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    while "there" not in (line := child.stdout.readline()):
        assert line or child.poll() is None, "the child ended by itself"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
