"""Inference on all cores of a CPU: each worker thread encodes some sequences of the batch on one core.

Matrix products gain little from being shared between cores, and all other steps lose: after each, every core
would wait for the slowest. Axes: T tokens, L length of a sequence, D width.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Lock

import torch
from torch import Tensor

from flatcoat.threads import pieces, pool, spread

from .packing import PackedBatch, cumulative

_PIECE_TOKENS = 1024
"""Tokens per piece: enough for a core's products to run at full speed."""

_FEWEST_TOKENS = 512
"""Mean tokens per piece below which all cores share each product instead."""

_UNEVEN = 1.1
"""Largest piece over the mean above which all cores share each product instead: the others would wait."""

_starting = Lock()
"""Held while workers start: meanwhile torch's number of threads for new threads is 1."""


def encode_in_parallel(forward: Callable[[PackedBatch], Tensor], batch: PackedBatch) -> Tensor:
    """``forward(batch)`` in inference, hidden states [T, D], by as many workers as torch has threads.

    With one thread, its pieces are computed one after the other, as the cache likes them. A batch that is
    short or divides unevenly is computed whole.
    """
    cores = _threads()
    parts = split_evenly(batch.lengths, cores)
    if len(parts) < 2:
        return forward(batch)
    inference = torch.is_inference_mode_enabled()
    ids = batch.input_ids_T.split(list(batch.lengths))
    masks, types = (
        None if states_T is None else states_T.split(list(batch.lengths))
        for states_T in (batch.key_mask_T, batch.token_types_T)
    )

    def encode(piece: list[int]) -> tuple[Tensor, ...]:
        lengths = tuple(batch.lengths[index] for index in piece)
        mask_T, types_T = (
            None if parts is None else torch.cat([parts[index] for index in piece])
            for parts in (masks, types)
        )
        ids_T = torch.cat([ids[index] for index in piece])
        part = PackedBatch(ids_T, cumulative(lengths), lengths, mask_T, types_T)
        with torch.inference_mode() if inference else torch.no_grad():
            return forward(part).split(lengths)

    encoded = map(encode, parts) if cores == 1 else _workers(cores).map(encode, parts)
    by_index = dict(zip(chain(*parts), chain(*encoded), strict=True))
    return torch.cat([by_index[index] for index in range(len(by_index))])


def split_evenly(lengths: Sequence[int], cores: int) -> list[list[int]]:
    """Indices of sequences in pieces of about equal tokens, as many for each core; none if that fails.

    Longest first, each sequence goes to the piece with the fewest tokens; within a piece order stays.

    >>> split_evenly([600, 500, 100], cores=2)
    [[0], [1, 2]]
    """
    tokens = sum(lengths)
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    # Fewer and larger pieces divide more evenly, but fill the cache: try many small ones first.
    for rounds in range(-(-tokens // (_PIECE_TOKENS * cores)), 0, -1):
        parts: list[list[int]] = [[] for _ in range(rounds * cores)]
        loads = [0] * len(parts)
        for index in longest_first:
            least = loads.index(min(loads))
            parts[least].append(index)
            loads[least] += lengths[index]
        if tokens >= _FEWEST_TOKENS * len(parts) and max(loads) * len(parts) <= _UNEVEN * tokens:
            return [sorted(piece) for piece in parts]
    return []


def share_rows(work: Callable[[slice], None], count: int) -> None:
    """Call ``work`` with slices of ``count`` rows, one per torch thread; it must release Python's lock."""
    spread(work, pieces(count, max(1, -(-count // _threads()))))


def _threads() -> int:
    with _starting:
        return torch.get_num_threads()


def _workers(cores: int) -> ThreadPoolExecutor:
    with _starting:
        # torch keeps a number of threads per thread, and the number last set anywhere for threads to come:
        # every worker sets 1, and once all have, the caller sets its own number again.
        return pool(cores, _compute_alone, torch.set_num_threads)


def _compute_alone() -> None:
    torch.get_num_threads()  # The first call gives a thread the general number: ask, then set.
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
    )
