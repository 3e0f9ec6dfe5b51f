"""What a document shows of its own structure: named parts, and how good a place to break each line is."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

LONGEST_LABEL = 60  # characters

# Ranks of a break before a line, lowest outermost. Headings and syntax are below PARAGRAPH, or are it.
PARAGRAPH, SENTENCE, LINE, WORST = 100, 190, 200, 1000
DEEPEST = 40  # indents and syntax beyond this rank alike, which bounds the recursion


class Part(NamedTuple):
    """Lines ``first`` to ``last`` (0-based, inclusive) with a name that is told from the outside in."""

    first: int
    last: int
    label: str


class Structure:
    """The ``ranks`` of a break before each line, and ``parts``, each before those inside it.

    Lines that share no part of code are called by the parts they hold: such neighbours are small.
    """

    def __init__(self, ranks: list[int], parts: Sequence[Part] = (), is_code: bool = False) -> None:
        self.ranks = ranks
        self.parts = parts
        self.is_code = is_code
        self.innermost = [-1] * len(ranks)
        """The index of the innermost part of each line; -1 is the document."""
        self._parents: list[int] = []
        around: list[int] = []
        for index, part in enumerate(parts):
            while around and parts[around[-1]].last < part.last:
                around.pop()
            self._parents.append(around[-1] if around else -1)
            around.append(index)
            self.innermost[part.first : part.last + 1] = [index] * (part.last + 1 - part.first)
        self._outermost = [index for index, parent in enumerate(self._parents) if parent < 0]
        self._outermost_first = [parts[index].first for index in self._outermost]

    def around(self, first: int, last: int) -> int:
        """The index of the innermost part that holds lines ``first`` to ``last``; -1 is the document."""
        index = self.innermost[first]
        while index >= 0 and self.parts[index].last < last:
            index = self._parents[index]
        return index

    def section(self, first: int, last: int) -> list[int]:
        """The parts whose labels, joined, say where lines ``first`` to ``last`` are."""
        index = self.around(first, last)
        if index >= 0:
            return [index]
        return self._held(first, last) if self.is_code else []

    def _held(self, first: int, last: int) -> list[int]:
        held, size = [], 0
        for place in range(bisect_left(self._outermost_first, first), len(self._outermost)):
            part = self.parts[self._outermost[place]]
            size += len(part.label) + 2
            if part.first > last or size > LONGEST_LABEL + 2:
                break
            held.append(self._outermost[place])
        return held


def label(names: Sequence[str], separator: str) -> str:
    """``names`` joined, outer ones left out while that is too long; an endless last one is cut."""
    start = 0
    while start < len(names) - 1 and len(separator.join(names[start:])) > LONGEST_LABEL:
        start += 1
    joined = separator.join(names[start:])
    return joined if len(joined) <= LONGEST_LABEL else joined[: LONGEST_LABEL - 1].rstrip() + "…"
