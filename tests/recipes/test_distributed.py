"""Two processes under torchrun against one, on the same global batches."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from flatcoat import Recipe
from flatcoat.recipes.run import run


def torchrun(recipe: Recipe, folder: Path) -> None:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "flatcoat", "train", str(folder / "recipe.yaml"), "--output", str(folder / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


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
