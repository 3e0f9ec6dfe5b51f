"""Encoders against the clock, in turns, and batches against a GPU's memory. Axes: N documents, D width."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .encode_batches import Documents, Encode, Forward

_WARM_UP = 512


class Measured(NamedTuple):
    """Real tokens a second in the median pass (0: out of memory), and the vectors of the last."""

    tokens_per_second: float
    vectors_ND: Tensor | None


def measure(
    encoders: dict[str, Encode],
    texts: Documents,
    passes: int,
    on_turn: Callable[[str], None] = lambda name: None,
) -> dict[str, Measured]:
    """Time each encoder ``passes`` times, all taking turns, after a warm-up."""
    # On CUDA kernels are chosen and memory is reserved by shape, so only the whole set warms up.
    warm_up = texts if torch.cuda.is_available() else [text[:_WARM_UP] for text in texts[:1]]
    tokens = sum(map(len, texts))
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors: dict[str, Tensor] = {}
    exhausted: set[str] = set()
    for turn in range(passes + 1):
        for name, encode in encoders.items():
            if name in exhausted:
                continue
            on_turn(name)
            taken = _timed(encode, texts if turn else warm_up)
            if taken is None:
                exhausted.add(name)
            elif turn:
                seconds[name].append(taken[0])
                vectors[name] = taken[1]
    return {
        name: Measured(0.0, None)
        if name in exhausted
        else Measured(tokens / statistics.median(seconds[name]), vectors[name])
        for name in encoders
    }


def _timed(encode: Encode, texts: Documents) -> tuple[float, Tensor] | None:
    """Seconds and vectors of one pass; None where the device ran out of memory."""
    _settle()
    began = time.perf_counter()
    try:
        vectors_ND = encode(texts)
        _settle()
        return time.perf_counter() - began, vectors_ND
    except torch.cuda.OutOfMemoryError:
        pass
    _free()
    return None


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """The largest size up to ``limit`` that fits, 0 where 1 does not: by doubling, then bisection.

    Sizes above 64 are found to within 1/64.
    """
    fit, tried = 0, min(1, limit)
    while fit < limit and fits(tried):
        fit, tried = tried, min(2 * tried, limit)
    while tried - fit > max(1, fit // 64):
        middle = (fit + tried) // 2
        fit, tried = (middle, tried) if fits(middle) else (fit, middle)
    return fit


def fits_in_memory(forward: Forward, texts: Documents) -> Callable[[int], bool]:
    """Whether one forward of so many documents runs; the set is repeated where it holds fewer."""

    def fits(size: int) -> bool:
        try:
            _free()
            forward([texts[index % len(texts)] for index in range(size)])
            _settle()
        except RuntimeError:
            # Beside OutOfMemoryError: libraries report their own failed allocations and too large launches.
            return False
        return True

    return fits
