"""The processes that train together under torchrun, sharing each global batch and one output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from torch import Tensor, nn

from flatcoat.errors import UsageError

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; one alone without torchrun."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()

    def sum(self, values: list[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    @contextmanager
    def main_first(self) -> Iterator[bool]:
        """The main process runs the body first, then all others; yields whether this is the main one."""
        if not self.is_main:
            self.wait()
        yield self.is_main
        if self.is_main:
            self.wait()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started, for the time of the context."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    started = count > 1 and not torch.distributed.is_initialized()
    if started:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(rank, count, device)
    finally:
        if started:
            torch.distributed.destroy_process_group()


def require_shared(folder: Path) -> None:
    """UsageError, in every process, unless all see the files that the first one writes in ``folder``.

    The first process makes the folder. Without torchrun nothing is checked.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    # A new name: what was looked for before may be remembered as missing on a network file system.
    token = [f".shared-{uuid4().hex}"]
    torch.distributed.broadcast_object_list(token)
    file = folder / token[0]
    is_main = torch.distributed.get_rank() == 0
    if is_main:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch()
    torch.distributed.barrier()
    seen: list[bool] = [False] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(seen, file.exists())
    if is_main:
        file.unlink()
    if blind := [rank for rank, sees in enumerate(seen) if not sees]:
        raise UsageError(
            f"{folder} is not shared: process {blind[0]} of {len(seen)} does not see what process 0 writes "
            "there: name an --output on a file system that all machines mount"
        )


def replicated(objective: nn.Module, processes: Processes) -> "nn.Module | DistributedDataParallel":
    """The objective with its gradients averaged over all processes (DDP); itself with one process."""
    if processes.count == 1:
        return objective
    from torch.nn.parallel import DistributedDataParallel

    devices = [processes.device] if processes.device.type == "cuda" else None
    return DistributedDataParallel(objective, device_ids=devices)


def shard(objective: nn.Module, layers: "list[nn.Module]", precision: torch.dtype) -> None:
    """Shard the weights in place, layer by layer (FSDP2). Raises UsageError without torchrun."""
    if not torch.distributed.is_initialized():
        raise UsageError("optimization.parallel: fsdp needs several processes: start them with torchrun")
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    if precision is torch.bfloat16:
        policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(objective, mp_policy=policy)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
