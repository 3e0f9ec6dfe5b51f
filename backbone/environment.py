"""The device that models run on: its attention kernel, and the precisions it is fast in."""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flatcoat import __version__

from .attention_dispatch import KERNELS, choose, obstacle
from .elementwise import uses_triton

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precisions by their names on the command line."""


@dataclass(frozen=True)
class Environment:
    """``attention`` maps a precision to its kernel, ``obstacles`` a kernel to why it cannot run in bf16."""

    flatcoat: str
    torch: str
    device: str
    name: str
    threads: int
    attention: dict[str, str]
    obstacles: dict[str, str]
    elementwise: str
    fast_precisions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def environment() -> Environment:
    """The device that models run on by default. Raises as ``choose`` does."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {name: obstacle(name, device, dtype=torch.bfloat16) for name in KERNELS}
    on_triton = uses_triton(torch.empty(0, dtype=torch.bfloat16, device=device))
    return Environment(
        flatcoat=__version__,
        torch=torch.__version__,
        device=device.type,
        name=device_name(),
        threads=torch.get_num_threads(),
        attention={name: choose(device, dtype) for name, dtype in DTYPES.items()},
        obstacles={name: reason for name, reason in found.items() if reason is not None},
        elementwise="triton" if on_triton else "numba" if device.type == "cpu" else "torch",
        fast_precisions=fast_precisions(device),
    )


def fast_precisions(device: torch.device) -> tuple[str, ...]:
    """Precisions for which the device has its own multiply instructions."""
    if device.type == "cuda":
        return ("fp32", "bf16") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp32",)
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    int8 = torch.cpu._is_vnni_supported()
    return ("fp32", *(("bf16",) if bf16 else ()), *(("int8",) if int8 else ()))


def device_name() -> str:
    """The GPU's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
