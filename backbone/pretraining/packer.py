"""Greedy best fit: sequences of any length into batches of so many tokens that hardly any room is left.

A packed batch has no padding wherever it ends; full batches make every step the same size.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

OPEN_BATCHES = 16


@dataclass
class _Open(Generic[Item]):
    room: int
    items: list[Item] = field(default_factory=list)


class BestFitPacker(Generic[Item]):
    """Puts each sequence into the open batch that it fills best; closes the fullest where none has room.

    >>> packer = BestFitPacker[str](10, open_batches=2)
    >>> [packer.add(name, length) for name, length in [("a", 6), ("b", 7), ("c", 3), ("d", 4)]]
    [None, None, ['b', 'c'], ['a', 'd']]
    """

    def __init__(self, budget: int, *, open_batches: int = OPEN_BATCHES):
        self.budget = budget
        self._most = open_batches
        self._open: list[_Open[Item]] = []

    def add(self, item: Item, length: int) -> list[Item] | None:
        """Place a sequence of at most ``budget`` tokens; the batch that this completes, if any."""
        fitting = [batch for batch in self._open if batch.room >= length]
        closed = None
        if fitting:
            best = min(fitting, key=lambda batch: batch.room)
        else:
            if len(self._open) == self._most:
                closed = self._close(min(self._open, key=lambda batch: batch.room))
            best = _Open[Item](self.budget)
            self._open.append(best)
        best.items.append(item)
        best.room -= length
        return self._close(best) if not best.room and closed is None else closed

    def flush(self) -> list[list[Item]]:
        """What is in the open batches, the fullest first; they are closed."""
        rest = sorted(self._open, key=lambda batch: batch.room)
        self._open = []
        return [batch.items for batch in rest]

    def state(self) -> list[tuple[int, list[Item]]]:
        """The open batches: room and items."""
        return [(batch.room, list(batch.items)) for batch in self._open]

    def restore(self, state: list[tuple[int, list[Item]]]) -> None:
        """Continue with the open batches of ``state()``."""
        self._open = [_Open(room, list(items)) for room, items in state]

    def _close(self, batch: _Open[Item]) -> list[Item]:
        self._open.remove(batch)
        return batch.items
