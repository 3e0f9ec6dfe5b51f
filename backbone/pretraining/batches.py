"""The steps of a phase: packed, masked micro batches, the same for any number of processes.

A plan says which sequences each micro batch holds; each process loads the tokens of its own. Masks are drawn
by the number of the micro batch, so that a resumed run and any number of processes see the same ones.
Axes: T tokens of all sequences together, M tokens that are predicted, N sequences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from queue import Queue
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flatcoat.backbone.packing import PackedBatch, cumulative

from .masking import Masker
from .packer import BestFitPacker
from .schedule import batch_tokens
from .settings import Phase
from .shards import Shards
from .stream import SPECIAL, SequenceStream, Span


@dataclass(frozen=True)
class MaskedBatch:
    """A packed batch with masks: predict ``labels_M`` at ``positions_M``. ``seed`` is for all that is drawn.

    ``original_ids_T`` are the ids without masks, which distillation and replaced tokens need.
    """

    batch: PackedBatch
    positions_M: Tensor
    labels_M: Tensor
    original_ids_T: Tensor
    seed: int

    def to(self, device: torch.device) -> "MaskedBatch":
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        batch = replace(
            self.batch,
            input_ids_T=self.batch.input_ids_T.to(device, non_blocking=True),
            cu_seqlens=self.batch.cu_seqlens.to(device, non_blocking=True),
        )
        return MaskedBatch(
            batch,
            self.positions_M.to(device, non_blocking=True),
            self.labels_M.to(device, non_blocking=True),
            self.original_ids_T.to(device, non_blocking=True),
            self.seed,
        )


class Totals(NamedTuple):
    """What the losses of a step are means over, in all its micro batches on all processes."""

    predicted: int
    tokens: int
    sequences: int


class Step(NamedTuple):
    """One optimiser step: the micro batches of this process, and where the phase stands after it.

    ``batch_room`` is what all its micro batches could hold, ``tokens`` what they do.
    """

    batches: list[MaskedBatch]
    tokens: int
    batch_room: int
    tokens_before: int
    state: dict[str, Any]


class Loader:
    """Loads micro batches: tokens of spans, with special tokens around them, and masks."""

    def __init__(self, sources: Sequence[Shards], masker: Masker, *, cls_id: int, sep_id: int, seed: int):
        self._sources, self._masker, self._seed = sources, masker, seed
        self._cls_id, self._sep_id = cls_id, sep_id

    def load(self, spans: Sequence[Span], number: int) -> MaskedBatch:
        """The micro batch ``number``, shortest sequences first, so that equal lengths adjoin."""
        spans = sorted(spans, key=lambda span: span.length)
        ids = []
        for source, start, length in spans:
            ids += [[self._cls_id], self._sources[source].tokens(start, start + length), [self._sep_id]]
        ids_T = np.concatenate(ids, dtype=np.int64)
        masked = self._masker(ids_T, np.random.default_rng((self._seed, number)))
        lengths = tuple(span.length + SPECIAL for span in spans)
        batch = PackedBatch(torch.from_numpy(masked.input_ids_T), cumulative(lengths), lengths)
        return MaskedBatch(
            batch,
            torch.from_numpy(masked.positions_M),
            torch.from_numpy(masked.labels_M),
            torch.from_numpy(ids_T),
            seed=(self._seed + number) % 2**63,
        )


class PhasePlan:
    """The steps of a phase from any state on: ``plan.steps(rank, ranks)``.

    Each step takes as many micro batches as its batch has tokens, a multiple of the number of processes.
    """

    def __init__(self, phase: Phase, stream: SequenceStream, loader: Loader, *, micro_batch_tokens: int):
        self._phase, self._stream, self._loader = phase, stream, loader
        self._micro_tokens = micro_batch_tokens
        self._packer = BestFitPacker[Span](micro_batch_tokens)
        self._tokens = self._packed = self._steps = 0

    @property
    def tokens(self) -> int:
        """Tokens of all steps so far."""
        return self._tokens

    @property
    def steps_done(self) -> int:
        """Steps so far."""
        return self._steps

    @property
    def packing(self) -> float:
        """The share of all batches so far that tokens fill."""
        return self._tokens / max(1, self._packed * self._micro_tokens)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the ``state`` of a step."""
        self._stream.restore(state["stream"])
        self._packer.restore([(room, [Span(*span) for span in spans]) for room, spans in state["open"]])
        self._tokens, self._packed, self._steps = state["tokens"], state["packed"], state["steps"]

    def steps(self, rank: int = 0, ranks: int = 1) -> Iterator[Step]:
        """The steps that are left, with the micro batches of process ``rank`` of ``ranks``."""
        while self._tokens < self._phase.tokens:
            before = self._tokens
            wanted = batch_tokens(self._phase, before) / self._micro_tokens
            count = max(1, round(wanted / ranks)) * ranks
            plan = [self._next_batch() for _ in range(count)]
            tokens = sum(span.length + SPECIAL for spans in plan for span in spans)
            first = self._packed
            self._packed += count
            self._tokens += tokens
            self._steps += 1
            own = [
                self._loader.load(spans, first + number)
                for number, spans in enumerate(plan)
                if number % ranks == rank
            ]
            yield Step(own, tokens, count * self._micro_tokens, before, self.state())

    def _next_batch(self) -> list[Span]:
        while True:
            span = next(self._stream)
            if (full := self._packer.add(span, span.length + SPECIAL)) is not None:
                return full

    def state(self) -> dict[str, Any]:
        """Where the plan stands, as JSON holds it."""
        return {
            "stream": self._stream.state(),
            "open": self._packer.state(),
            "tokens": self._tokens,
            "packed": self._packed,
            "steps": self._steps,
        }


def prefetch(steps: Iterator[Step], ahead: int = 2) -> Iterator[Step]:
    """The same steps, loaded ``ahead`` of their use by a thread; its errors are raised here."""
    ready: Queue[Step | BaseException | None] = Queue(ahead)
    stopped = Event()

    def load() -> None:
        try:
            for step in steps:
                ready.put(step)
                if stopped.is_set():
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = Thread(target=load, name="flatcoat-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():
            while not ready.empty():
                ready.get_nowait()
            thread.join(0.05)
