"""The structure of a document: its named parts, and how good a place to break each line is."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

LONGEST_LABEL = 60  # characters

# Ranks of a break before a line, lowest outermost. Headings and syntax are below PARAGRAPH, or are it.
PARAGRAPH, SENTENCE, LINE, WORST = 100, 190, 200, 1000
DEEPEST = 40  # greater indents and syntax depths rank alike, which bounds the recursion


class Part(NamedTuple):
    """Lines ``first`` to ``last`` (0-based, inclusive) under a label that begins with the outermost name."""

    first: int
    last: int
    label: str


class Structure:
    """The ``ranks`` of a break before each line, and ``parts``, each part before the parts inside it.

    Lines of code that are inside no common part are labelled by the parts they contain, which are small.

    >>> lines = Structure([1, 200, 200], [Part(0, 2, "class Store"), Part(1, 2, "Store.open")])
    >>> lines.parts[lines.around(1, 2)].label
    'Store.open'
    """

    def __init__(self, ranks: list[int], parts: Sequence[Part] = (), *, is_code: bool = False) -> None:
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
        """The index of the innermost part that contains lines ``first`` to ``last``; -1 is the document."""
        index = self.innermost[first]
        while index >= 0 and self.parts[index].last < last:
            index = self._parents[index]
        return index

    def section(self, first: int, last: int) -> list[int]:
        """Indices of the parts whose labels, joined, are the section of lines ``first`` to ``last``."""
        index = self.around(first, last)
        if index >= 0:
            return [index]
        return self._contained(first, last) if self.is_code else []

    def _contained(self, first: int, last: int) -> list[int]:
        contained, size = [], 0
        for place in range(bisect_left(self._outermost_first, first), len(self._outermost)):
            part = self.parts[self._outermost[place]]
            size += len(part.label) + 2
            if part.first > last or size > LONGEST_LABEL + 2:
                break
            contained.append(self._outermost[place])
        return contained


def label(names: Sequence[str], separator: str) -> str:
    """``names`` joined, without outer names while that is too long; a too long last name is cut.

    >>> label(["Store", "open"], ".")
    'Store.open'
    """
    start = 0
    while start < len(names) - 1 and len(separator.join(names[start:])) > LONGEST_LABEL:
        start += 1
    joined = separator.join(names[start:])
    return joined if len(joined) <= LONGEST_LABEL else joined[: LONGEST_LABEL - 1].rstrip() + "…"
