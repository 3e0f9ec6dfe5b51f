"""Time encoders in turns, so that a busy machine slows all alike, and find the largest batch in memory.

Axes: N documents, D width.
"""

import gc
import logging
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .encode_batches import Documents, Encode, Forward

_WARM_UP = 512  # tokens
_log = logging.getLogger(__name__)


class EncoderTiming(NamedTuple):
    """Tokens per second in the median pass, padding not counted (0: out of memory), and the last vectors."""

    tokens_per_second: float
    vectors_ND: Tensor | None


class _Pass(NamedTuple):
    seconds: float
    vectors_ND: Tensor


def time_encoders(
    encoders: dict[str, Encode],
    texts: Documents,
    *,
    passes: int,
    on_turn: Callable[[str], None] = lambda name: None,
) -> dict[str, EncoderTiming]:
    """Time ``passes`` passes of each encoder, in turns, after a warm-up."""
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
            result = _timed(encode, texts if turn else warm_up)
            if result is None:
                exhausted.add(name)
            elif turn:
                seconds[name].append(result.seconds)
                vectors[name] = result.vectors_ND
    return {
        name: EncoderTiming(0.0, None)
        if name in exhausted
        else EncoderTiming(tokens / statistics.median(seconds[name]), vectors[name])
        for name in encoders
    }


def _timed(encode: Encode, texts: Documents) -> _Pass | None:
    """One pass; None where the device ran out of memory."""
    _settle()
    began = time.perf_counter()
    try:
        vectors_ND = encode(texts)
        _settle()
        return _Pass(time.perf_counter() - began, vectors_ND)
    except torch.cuda.OutOfMemoryError as error:
        _log.info("the device ran out of memory: %s", error)
    _free()  # here, where the error no longer holds the frames of the pass
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

    >>> largest_batch(lambda size: size <= 37, 1000)
    37
    """
    fit, tried = 0, min(1, limit)
    while fit < limit and fits(tried):
        fit, tried = tried, min(2 * tried, limit)
    while tried - fit > max(1, fit // 64):
        middle = (fit + tried) // 2
        fit, tried = (middle, tried) if fits(middle) else (fit, middle)
    return fit


def fits_in_memory(forward: Forward, texts: Documents) -> Callable[[int], bool]:
    """A function that says whether one forward of N documents fits; ``texts`` repeat where they are fewer."""

    def fits(size: int) -> bool:
        try:
            _free()
            forward([texts[index % len(texts)] for index in range(size)])
            _settle()
        except RuntimeError as error:
            # Beside OutOfMemoryError: libraries report their own failed allocations and too large launches.
            _log.info("a batch of %d documents does not fit: %s", size, error)
            return False
        return True

    return fits
