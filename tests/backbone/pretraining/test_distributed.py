"""Two processes under torchrun against one, on the same global batches; weights whole or sharded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from flatcoat.backbone.pretraining.run import pretrain
from flatcoat.backbone.pretraining.settings import PretrainingSettings
from flatcoat.backbone.pretraining.watch import read_log

pytestmark = pytest.mark.slow

RUN = """
import sys
from pathlib import Path
from flatcoat.backbone.pretraining.run import pretrain
from flatcoat.backbone.pretraining.settings import PretrainingSettings

class Stopped(Exception):
    pass

def stop(figures):
    if figures["step"] == int(sys.argv[3]):
        raise Stopped

settings = PretrainingSettings.model_validate_json(Path(sys.argv[1]).read_text())
output = Path(sys.argv[2])
try:
    pretrain(settings, output, resume="resume" in sys.argv, on_step=stop)
except Stopped:
    pass
"""


def torchrun(settings: PretrainingSettings, folder: Path, *, stop: int = 0, resume: bool = False) -> None:
    (folder / "settings.json").write_text(settings.model_dump_json())
    (folder / "run.py").write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(folder / part) for part in ("run.py", "settings.json", "two")]
    command += [str(stop), *(["resume"] if resume else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one(
    make_settings: Callable[..., PretrainingSettings], tmp_path: Path, parallel: str
) -> None:
    optimization = make_settings().optimization
    alone = make_settings(optimization=optimization.model_copy(update={"micro_batch_tokens": 128}))
    pretrain(alone, tmp_path / "one")
    shared = alone.optimization.model_copy(update={"parallel": parallel})
    settings = alone.model_copy(update={"optimization": shared})
    torchrun(settings, tmp_path, stop=5)
    torchrun(settings, tmp_path, resume=True)
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        for name in ("loss", "masked_accuracy", "tokens"):
            assert second[name] == pytest.approx(first[name], abs=1e-4), (first["step"], name)
    for phase in settings.phases:
        first, second = (
            load_file(tmp_path / name / "phases" / phase.name / "model.safetensors")
            for name in ("one", "two")
        )
        assert all((weights - second[name]).abs().max() < 1e-4 for name, weights in first.items())
