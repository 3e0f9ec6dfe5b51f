"""The structure of a document: its named parts, and how good a place to break each line is."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence, Set
from typing import NamedTuple

from flatcoat.indexing.documents import Metadata

LONGEST_LABEL = 60  # characters
LONGEST_SYMBOL = 1_000  # characters, of all names in a passage

# Ranks of a break before a line, lowest outermost. Headings and syntax are below PARAGRAPH, or are it.
PREAMBLE, PARAGRAPH, SENTENCE, LINE, WORST = 1, 100, 190, 200, 1000
DEEPEST = 40  # greater indents and syntax depths rank alike, which bounds the recursion


class Part(NamedTuple):
    """Lines ``first`` to ``last`` (0-based, inclusive) under a label that begins with the outermost name.

    A part of code has a ``kind``, and is ``exported`` if it can be used from elsewhere. The part of imports
    at the beginning of a file has no label.
    """

    first: int
    last: int
    label: str
    kind: str = ""
    exported: bool = False


class Structure:
    """The ``ranks`` of a break before each line, and ``parts``, each part before the parts inside it.

    Lines of code that are inside no common part are labelled by the parts they contain, which are small.
    ``comments`` are lines of code that say something to people alone.

    >>> lines = Structure([1, 200, 200], [Part(0, 2, "class Store"), Part(1, 2, "Store.open")])
    >>> lines.parts[lines.around(1, 2)].label
    'Store.open'
    """

    def __init__(
        self,
        ranks: list[int],
        parts: Sequence[Part] = (),
        *,
        is_code: bool = False,
        comments: Set[int] = frozenset(),
    ) -> None:
        self.ranks = ranks
        self.parts = parts
        self.is_code = is_code
        self._comments = comments
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
        self._firsts = [part.first for part in parts]
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
            return [index] if self.parts[index].label else []
        return self._contained(first, last) if self.is_code else []

    def metadata(self, first: int, last: int) -> Metadata:
        """What lines ``first`` to ``last`` of code define; nothing for a text that is no code.

        ``symbol`` is the qualified names of the definitions that begin there, such as "Store, Store.open", or
        else of the innermost one that the lines continue; a search for any one of them finds it. ``kind`` is
        that of the longest of them (function, class, module, value, test), or else "header" for imports and
        licences, "docs" for other comments, "code" for other statements. ``exported`` tells
        whether one of them can be used from elsewhere, by the rules of the language.
        """
        if not self.is_code:
            return {}
        begun = self.parts[bisect_left(self._firsts, first) : bisect_right(self._firsts, last)]
        named = [part for part in begun if part.label]
        around = self.around(first, last)
        if not named and around >= 0:
            named = [part for part in (self.parts[around],) if part.label]
        if not named and around >= 0:
            return {"kind": self.parts[around].kind}
        if not named:
            comments = sum(line in self._comments for line in range(first, last + 1))
            return {"kind": "docs" if 2 * comments > last + 1 - first else "code"}
        names, size = [], 0
        for name in dict.fromkeys(part.label for part in named):
            size += len(name) + 2
            if size <= LONGEST_SYMBOL:
                names.append(name)
        longest = max(named, key=lambda part: min(part.last, last) - part.first)
        exported = any(part.exported for part in named)
        return {"symbol": ", ".join(names), "kind": longest.kind, "exported": exported}

    def _contained(self, first: int, last: int) -> list[int]:
        contained, size = [], 0
        for place in range(bisect_left(self._outermost_first, first), len(self._outermost)):
            part = self.parts[self._outermost[place]]
            size += len(part.label) + 2
            if part.first > last or size > LONGEST_LABEL + 2:
                break
            if part.label:
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
