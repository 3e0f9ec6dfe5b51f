"""Packing: a text split at its best places into spans that fit a passage, for prose and code alike.

A span that is too long is split at the lowest rank inside it, its parts are merged while they fit, and parts
that are still too long are split again. Atoms are never split: a line, or a sentence of a line that is too
long by itself, or one of the small parts of a sentence that is too long by itself.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

from .prose import sentences
from .structure import LINE, WORST, Structure

CountTokens: TypeAlias = Callable[[list[str]], list[int]]
"""The token counts of a list of texts."""

_WORD = re.compile(r"\w")
_INSIDE = WORST // 2  # the rank inside a line: it is split after all lines that may be
_WORD_LENGTH = 30  # characters: few words are longer
_FINE = 8  # parts per passage of a sentence that is too long: enough for passages of similar size


class Span(NamedTuple):
    """Atoms ``first`` to ``last``, inclusive."""

    first: int
    last: int


class Packer:
    """The atoms of one text with their token costs and ranks as places to break.

    ``count_tokens`` counts no special tokens. ``room`` is the token budget of a passage's text and section
    together, ``section_room`` of a section alone: names beyond it are left out.

    >>> def count_words(texts):
    ...     return [len(text.split()) for text in texts]
    >>> text = "one two\\nthree four\\nfive"
    >>> packer = Packer(text, Structure([200] * 3), count_tokens=count_words, room=4, section_room=1)
    >>> [packer.text(span) for span in packer.spans()]
    ['one two', 'three four\\nfive']
    """

    def __init__(
        self,
        text: str,
        structure: Structure,
        *,
        count_tokens: CountTokens,
        room: int,
        section_room: int,
    ) -> None:
        self.room = room
        self._text = text
        self._structure = structure
        self._section_room = section_room
        lines = text.split("\n")
        names = [part.label for part in structure.parts]
        costs = _counted(count_tokens, [f"{name}, " for name in names] + [f"{line}\n" for line in lines])
        self._name_costs, line_costs = costs[: len(names)], costs[len(names) :]
        atoms = _atoms(lines, line_costs, count_tokens, room)
        self._set_atoms(atoms)
        self._set_costs(atoms, line_costs, count_tokens)

    def _set_atoms(self, atoms: list[list[str]]) -> None:
        """Number the atoms, which come per line, with their lines, ranks and places in the text."""
        self._lines = [number for number, parts in enumerate(atoms) for _ in parts]
        self._ranks = [
            _INSIDE if index else rank
            for parts, rank in zip(atoms, self._structure.ranks, strict=True)
            for index in range(len(parts))
        ]
        sizes = (
            len(part) + (index == len(parts))  # the line's end
            for parts in atoms
            for index, part in enumerate(parts, 1)
        )
        self._starts = [0, *accumulate(sizes)]
        flat = (part for parts in atoms for part in parts)
        self._filled = [number for number, part in enumerate(flat) if part.strip()]

    def _set_costs(self, atoms: list[list[str]], line_costs: list[int], count_tokens: CountTokens) -> None:
        long = [part for parts in atoms if len(parts) > 1 for part in parts]
        long_costs = iter(_counted(count_tokens, long) if long else [])
        costs = [
            cost if len(parts) == 1 else next(long_costs)
            for parts, cost in zip(atoms, line_costs, strict=True)
            for _ in parts
        ]
        self._cost_before = [0, *accumulate(costs)]

    @property
    def size(self) -> int:
        """Estimated tokens of the whole text."""
        return self._cost_before[-1]

    def text(self, span: Span) -> str:
        """The text of ``span`` without the end of its last line."""
        return self._text[self._starts[span.first] : self._starts[span.last + 1]].removesuffix("\n")

    def lines(self, span: Span) -> tuple[int, int]:
        """The first and last line, 1-based."""
        return self._lines[span.first] + 1, self._lines[span.last] + 1

    def section(self, span: Span) -> str:
        """The names of the parts that ``span`` is in, outermost first."""
        return ", ".join(dict.fromkeys(self._structure.parts[index].label for index in self._named(span)))

    def spans(self, spare: int = 0) -> list[Span]:
        """The whole text in spans that should fit a passage; merged spans leave ``spare`` tokens free.

        Remainders of longer spans that were split join a neighbour in the same part.
        """
        spans: list[Span] = []
        for span in self._split(Span(0, len(self._lines) - 1), self.room, spare):
            if spans and self._belongs(spans[-1], span, self.room - spare):
                span = Span(spans.pop().first, span.last)
            spans.append(span)
        return spans

    def halve(self, span: Span) -> list[Span]:
        """Split a span that turned out too long in two or more."""
        half = self._section_cost(span) + self._cost(span) // 2
        return list(self._split(span, max(1, half), spare=0))

    def _split(self, within: Span, room: int, spare: int) -> Iterator[Span]:
        """Spanes of about ``room`` tokens without blank lines at their ends."""
        span = self._trimmed(within)
        if span is None:
            return
        first, last = span
        room_for_text = max(1, room - self._section_cost(span))
        if first == last or self._cost(span) <= room_for_text:
            yield span
            return
        inner = self._ranks[first + 1 : last + 1]
        best = min(inner)
        starts = [first, *(number for number, rank in enumerate(inner, first + 1) if rank == best), last + 1]
        edges = [self._cost_before[start] for start in starts]
        groups = [starts[index] for index in _even_groups(edges, max(1, room_for_text - spare))]
        for start, end in zip(groups, [*groups[1:], last + 1], strict=True):
            yield from self._split(Span(start, end - 1), room, spare)

    def _belongs(self, before: Span, span: Span, room: int) -> bool:
        """Whether both fit together and the same part is around each of them."""
        both = Span(before.first, span.last)
        return (
            self._cost(both) + self._section_cost(both) <= room
            and self._around(before) == self._around(span) == self._around(both)
            and self._is_of_whole_lines(before)
            and self._is_of_whole_lines(span)
        )

    def _around(self, span: Span) -> int:
        return self._structure.around(self._lines[span.first], self._lines[span.last])

    def _is_of_whole_lines(self, span: Span) -> bool:
        return _INSIDE not in (self._ranks[span.first], *self._ranks[span.last + 1 : span.last + 2])

    def overlapped(self, before: Span, span: Span, *, overlap: int) -> Span:
        """``span`` extended by the last lines or sentences of the span ``before``, up to ``overlap`` tokens.

        As many as fit, from the same section, beginning with a sentence where a line begins one.
        """
        spare = self.room - self._section_cost(span) - self._cost(span)
        parts, first = self._structure.innermost, span.first
        starts = []
        for start in range(first - 1, before.first - 1, -1):
            if self._cost(Span(start, first - 1)) > min(overlap, spare):
                break
            if parts[self._lines[start]] != parts[self._lines[first]]:
                break
            begins = self._ranks[start] != _INSIDE or self._ranks[first] == _INSIDE
            if begins and _WORD.search(self.text(Span(start, start))):
                starts.append(start)
        starts = [start for start in starts if self._ranks[start] < LINE] or starts
        return span._replace(first=starts[-1]) if starts else span

    def _trimmed(self, span: Span) -> Span | None:
        start = bisect_left(self._filled, span.first)
        end = bisect_right(self._filled, span.last)
        return Span(self._filled[start], self._filled[end - 1]) if start < end else None

    def _cost(self, span: Span) -> int:
        return self._cost_before[span.last + 1] - self._cost_before[span.first]

    def _named(self, span: Span) -> list[int]:
        indices = self._structure.section(self._lines[span.first], self._lines[span.last])
        costs = accumulate(self._name_costs[index] for index in indices)
        return [index for index, cost in zip(indices, costs, strict=True) if cost <= self._section_room]

    def _section_cost(self, span: Span) -> int:
        return sum(self._name_costs[index] for index in self._named(span))


def _atoms(lines: list[str], costs: list[int], count_tokens: CountTokens, room: int) -> list[list[str]]:
    """The atoms per line: lines that cost more than ``room`` split into sentences, those into fine parts."""
    atoms = [
        sentences(line) if cost > room and line.strip() else [line]
        for line, cost in zip(lines, costs, strict=True)
    ]
    split = [part for parts, cost in zip(atoms, costs, strict=True) if cost > room for part in parts]
    cost_of = dict(zip(split, _counted(count_tokens, split), strict=True)) if split else {}

    def fine(part: str) -> list[str]:
        cost = cost_of[part]
        parts = -(-_FINE * cost // room)
        return even_parts(part, parts, near=_WORD_LENGTH) if cost > room and part.strip() else [part]

    return [
        [fine_part for part in parts for fine_part in fine(part)] if cost > room else parts
        for parts, cost in zip(atoms, costs, strict=True)
    ]


def even_parts(text: str, parts: int, *, near: int = 0) -> list[str]:
    """Split ``text`` into about ``parts`` parts of similar length.

    Each part ends with the nearest space within ``near`` characters, or half a part if that is more.

    >>> even_parts("split me at a space", 2)
    ['split me ', 'at a space']
    """
    near = max(near, len(text) // max(1, parts) // 2)
    places = (len(text) * number // parts for number in range(1, parts))
    cuts = dict.fromkeys(_after_space(text, place, near) for place in places)
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)]) if start < end]


def _after_space(text: str, place: int, near: int) -> int:
    """The place behind the space nearest to ``place``, or ``place`` where no space is ``near``."""
    before = text.rfind(" ", max(0, place - 1 - near), place) + 1
    after = text.find(" ", place, place + near) + 1
    found = [cut for cut in (before, after) if cut]
    return min(found, key=lambda cut: abs(cut - place), default=place)


def _counted(count_tokens: CountTokens, texts: list[str]) -> list[int]:
    distinct = list(dict.fromkeys(texts))
    counts = dict(zip(distinct, count_tokens(distinct), strict=True))
    return [counts[text] for text in texts]


def _even_groups(edges: list[int], most: int) -> list[int]:
    """The first blocks of groups of whole blocks: as few groups as ``most`` per group allows, then as even as
    possible.

    Block i costs edges[i + 1] - edges[i]; a block that costs more than ``most`` is a group by itself.
    """
    fewest = len(_groups(edges, most))
    mean = min((edges[-1] - edges[0]) // fewest, most)
    caps = range(mean, most)
    return _groups(edges, mean + bisect_left(caps, True, key=lambda cap: len(_groups(edges, cap)) <= fewest))


def _groups(edges: list[int], most: int) -> list[int]:
    starts, end = [], 0
    while end < len(edges) - 1:
        starts.append(end)
        end = max(bisect_right(edges, edges[end] + most) - 1, end + 1)
    return starts
