"""States of training on disk: weights, optimiser and place in the data, from which a run goes on exactly.

``FOLDER/step-00000500/`` holds the tensors (a file per process where weights are sharded, else one) and
``progress.json``, which is written last: without it a state is not complete.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from flatcoat.atomic_files import atomic_write, atomic_write_text
from flatcoat.errors import ConflictError, DataError

from .distributed import Processes, whole

if TYPE_CHECKING:
    from torch.optim import Optimizer

_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: ``step`` and ``tokens`` of all phases, the plan and seconds of its ``phase``."""

    phase: str
    step: int
    tokens: int
    plan: dict[str, Any]
    sharded: bool
    seconds: float

    @staticmethod
    def start(sharded: bool) -> "Progress":
        """Before the first step of the first phase."""
        return Progress(phase="", step=0, tokens=0, plan={}, sharded=sharded, seconds=0.0)


def save_state(
    folder: Path, progress: Progress, module: nn.Module, optimizer: "Optimizer", *, processes: Processes
) -> Path:
    """Write the state of all processes after a step; the place of it."""
    place = folder / f"step-{progress.step:08}"
    if processes.is_main and place.exists():
        shutil.rmtree(place)  # Of a run that was cut off while it wrote.
    processes.wait()
    place.mkdir(parents=True, exist_ok=True)
    if progress.sharded or processes.is_main:
        rank = processes.rank if progress.sharded else 0
        values = {
            "model": {name: _local(tensor) for name, tensor in module.state_dict().items()},
            "optimizer": optimizer.state_dict(),
        }
        with atomic_write(place / f"rank-{rank}.pt") as unfinished:
            torch.save(values, unfinished)
    processes.wait()
    if processes.is_main:
        atomic_write_text(place / _PROGRESS, json.dumps(asdict(progress)) + "\n")
    processes.wait()
    return place


def saved_states(folder: Path) -> list[Path]:
    """The complete states in a folder, the oldest first."""
    return [place for place in sorted(folder.glob("step-*")) if (place / _PROGRESS).is_file()]


def keep_last(folder: Path, count: int) -> None:
    """Remove all but the last states of a folder, and those that are not complete."""
    kept = saved_states(folder)[-count:]
    for place in folder.glob("step-*"):
        if place not in kept:
            shutil.rmtree(place)


def read_progress(place: Path) -> Progress:
    """Where the run stood when a state was saved. Raises DataError where that cannot be read."""
    try:
        return Progress(**json.loads((place / _PROGRESS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{place} is no state of a run, remove it: {error}") from None


def load_state(place: Path, module: nn.Module, optimizer: "Optimizer", *, processes: Processes) -> Progress:
    """Give module and optimiser the tensors of a saved state; where the run stood.

    Raises ConflictError for a sharded state of another number of processes, DataError for a damaged one.
    """
    progress = read_progress(place)
    saved = len(list(place.glob("rank-*.pt")))
    if progress.sharded and saved != processes.count:
        raise ConflictError(
            f"{place} was saved by {saved} processes, each with its shard: resume it with as many"
        )
    values = _read(place, progress, processes)
    fill_weights(module, values["model"])
    optimizer.load_state_dict(values["optimizer"])
    return progress


def fill_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module the weights of a state, of this process where they are sharded."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            _local(tensor).copy_(weights[name])


def mean_weights(places: Sequence[Path], processes: Processes) -> dict[str, Tensor]:
    """The mean of the weights of some states, of this process where they are sharded."""
    states = [_read(place, read_progress(place), processes)["model"] for place in places]
    return {
        name: torch.stack([state[name] for state in states]).double().mean(0).to(tensor.dtype)
        for name, tensor in states[0].items()
    }


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """All weights of a module on the CPU; every process must call it where they are sharded."""
    return {name: whole(tensor).detach().cpu() for name, tensor in module.state_dict().items()}


def _read(place: Path, progress: Progress, processes: Processes) -> dict[str, Any]:
    file = place / f"rank-{processes.rank if progress.sharded else 0}.pt"
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{file} cannot be read, remove {place} and resume: {error}") from None


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
