"""A forward on every core at once: each thread takes some sequences of the batch and computes alone.

Matrix products gain little from being shared between cores, and everything else loses: at each step all
would wait for the slowest. Axes: T tokens, D width.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from threading import Barrier, Lock

import torch
from torch import Tensor

from .packing import PackedBatch, cumulative

_PIECE_TOKENS = 1024
"""Tokens that a core takes at a time: enough for its products to run at full speed."""

_FEWEST_TOKENS = 512
_UNEVEN = 1.1
"""How far above the mean the largest piece may be before all cores had better share each product."""


def encode_in_parallel(forward: Callable[[PackedBatch], Tensor], batch: PackedBatch) -> Tensor:
    """Hidden states [T, D] of a batch in inference, its sequences dealt out to torch's threads.

    A thread alone takes piece after piece. Computed in one where the batch is short or divides unevenly.
    """
    cores = _threads()
    pieces = split_evenly(batch.lengths, cores)
    if len(pieces) < 2:
        return forward(batch)
    inference = torch.is_inference_mode_enabled()
    ids = batch.input_ids_T.split(list(batch.lengths))
    masks = None if batch.key_mask_T is None else batch.key_mask_T.split(list(batch.lengths))

    def run(piece: list[int]) -> tuple[Tensor, ...]:
        lengths = tuple(batch.lengths[index] for index in piece)
        mask_T = None if masks is None else torch.cat([masks[index] for index in piece])
        part = PackedBatch(torch.cat([ids[index] for index in piece]), cumulative(lengths), lengths, mask_T)
        with torch.inference_mode() if inference else torch.no_grad():
            return forward(part).split(lengths)

    found = zip(
        chain(*pieces), chain(*(map if cores == 1 else _running(cores).map)(run, pieces)), strict=True
    )
    return torch.cat([hidden_LD for _, hidden_LD in sorted(found, key=lambda pair: pair[0])])


def share_rows(work: Callable[[slice], None], count: int) -> None:
    """Call ``work`` with a run of rows for each of torch's threads; it must hold no lock of Python's."""
    cores = _threads()
    size = max(1, -(-count // cores))
    runs = [slice(start, start + size) for start in range(0, count, size)]
    if len(runs) < 2:
        work(slice(0, count))
    else:
        list(_running(cores).map(work, runs))


def split_evenly(lengths: Sequence[int], cores: int) -> list[list[int]]:
    """Positions of sequences in pieces of about equal tokens, as many for each core; none if that fails.

    The longest come first, each to the piece that has the fewest tokens; within a piece order stays.
    """
    tokens = sum(lengths)
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for rounds in range(-(-tokens // (_PIECE_TOKENS * cores)), 0, -1):
        pieces: list[list[int]] = [[] for _ in range(rounds * cores)]
        loads = [0] * len(pieces)
        for index in longest_first:
            least = loads.index(min(loads))
            pieces[least].append(index)
            loads[least] += lengths[index]
        if tokens >= _FEWEST_TOKENS * len(pieces) and max(loads) * len(pieces) <= _UNEVEN * tokens:
            return [sorted(piece) for piece in pieces]
    return []


_starting = Lock()
"""Held while a pool starts: until then torch's setting is not what a thread that is new should begin with."""


def _threads() -> int:
    with _starting:
        return torch.get_num_threads()


def _running(cores: int) -> ThreadPoolExecutor:
    with _starting:
        return _pool(cores)


@cache
def _pool(cores: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(cores, "flatcoat-core", initializer=_compute_alone)
    # Torch's setting is each thread's own, and what later threads begin with: start all, then set it back.
    started = Barrier(cores)
    list(pool.map(lambda _: started.wait(), range(cores)))
    torch.set_num_threads(cores)
    return pool


def _compute_alone() -> None:
    torch.get_num_threads()  # The first question sets a thread's number to the general one: ask, then set.
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # A forked child has none of the threads.
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
    )
