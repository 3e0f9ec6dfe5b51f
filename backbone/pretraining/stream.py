"""The order in which sequences are read: deterministic, shuffled per epoch, mixed by weight, resumable.

Every process computes the same order, which reads no token, and loads the tokens of its own batches alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatcoat.errors import DataError

from .shards import Shards

SPECIAL = 2
"""Special tokens around a sequence: [CLS] and [SEP]."""


class Span(NamedTuple):
    """``length`` tokens of a source from token ``start`` on: a document, or a part of a long one."""

    source: int
    start: int
    length: int


class SequenceStream:
    """Endless sequences of at most ``length`` tokens, special tokens included.

    A longer document is cut into sequences, each as long as can be. A source is read in a new order every
    epoch. The next sequence comes from the source that is furthest behind its weight (None: its tokens).
    Memory: 24 bytes per sequence. Raises DataError for a source without a token.
    """

    def __init__(self, sources: Sequence[Shards], *, weights: Sequence[float | None], length: int, seed: int):
        self._seed = seed
        self._readers = [_Reader(shards, length - SPECIAL) for shards in sources]
        for shards, reader in zip(sources, self._readers, strict=True):
            if not reader.count:
                raise DataError(f"{shards.folder} holds no token: name other text")
        self._weights = [
            float(shards.token_count) if weight is None else weight
            for shards, weight in zip(sources, weights, strict=True)
        ]
        self._drawn = [0] * len(sources)
        self._next = [0] * len(sources)
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __iter__(self) -> "SequenceStream":
        return self

    def __next__(self) -> Span:
        source = min(
            range(len(self._weights)), key=lambda number: self._drawn[number] / self._weights[number]
        )
        reader = self._readers[source]
        epoch, place = divmod(self._next[source], reader.count)
        self._next[source] += 1
        start, length = reader.sequence(int(self._order(source, epoch)[place]))
        self._drawn[source] += length + SPECIAL
        return Span(source, start, length)

    @property
    def epochs(self) -> list[float]:
        """How often each source has been read."""
        return [done / reader.count for done, reader in zip(self._next, self._readers, strict=True)]

    def state(self) -> dict[str, Any]:
        """Where the stream stands."""
        return {"drawn": list(self._drawn), "next": list(self._next)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a ``state()`` of a stream of the same sources."""
        self._drawn, self._next = list(state["drawn"]), list(state["next"])

    def _order(self, source: int, epoch: int) -> NDArray[np.int64]:
        if source not in self._orders or self._orders[source][0] != epoch:
            generator = np.random.default_rng((self._seed, source, epoch))
            self._orders[source] = epoch, generator.permutation(self._readers[source].count)
        return self._orders[source][1]


def sequences_in_order(shards: Shards, *, length: int) -> list[Span]:
    """The sequences of one source in their own order, as source 0."""
    reader = _Reader(shards, length - SPECIAL)
    return [Span(0, *reader.sequence(number)) for number in range(reader.count)]


class _Reader:
    """Where the sequences of a source begin and how long they are, without special tokens."""

    def __init__(self, shards: Shards, most: int):
        lengths_N = shards.document_lengths()
        pieces_N = -(-lengths_N // most)
        starts_N = np.cumsum(lengths_N) - lengths_N
        within = np.arange(pieces_N.sum()) - np.repeat(np.cumsum(pieces_N) - pieces_N, pieces_N)
        self._starts = np.repeat(starts_N, pieces_N) + within * most
        self._stops = np.minimum(self._starts + most, np.repeat(starts_N + lengths_N, pieces_N))
        self.count = len(self._starts)

    def sequence(self, number: int) -> tuple[int, int]:
        start = int(self._starts[number])
        return start, int(self._stops[number]) - start
