"""A text cut at its best places into stretches that fit: one packing for prose and code.

A stretch that is too long is cut at the lowest rank inside it, neighbours are merged while they fit, and
what is still too long is cut again. What is never cut is an atom: a line, or a sentence of a line that is
too long alone, or one of the small parts of a sentence that is.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

from .prose import sentences
from .structure import LINE, WORST, Structure

CountTokens: TypeAlias = Callable[[list[str]], list[int]]

_WORD = re.compile(r"\w")
_INSIDE = WORST // 2  # the rank inside a line: it comes apart after all lines that may have
_WORD_LENGTH = 30  # characters; few words are longer
_FINE = 8  # parts of a sentence that would fill a passage: enough for passages of about one size


class Stretch(NamedTuple):
    """Atoms ``first`` to ``last``, inclusive."""

    first: int
    last: int


class Cutter:
    """The atoms of one text with their token costs and ranks as places to break.

    ``count_tokens`` counts no special tokens. ``room`` is what the text of a passage and its section may
    cost together, ``section_room`` what a section may: names that cost more are left out.
    """

    def __init__(
        self, text: str, structure: Structure, count_tokens: CountTokens, room: int, section_room: int
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
        """``atoms`` are those of each line."""
        self._lines, self._ranks, self._starts, self._filled = list[int](), list[int](), [0], list[int]()
        for number, parts in enumerate(atoms):
            for index, part in enumerate(parts):
                if part.strip():
                    self._filled.append(len(self._lines))
                self._lines.append(number)
                self._ranks.append(_INSIDE if index else self._structure.ranks[number])
                self._starts.append(self._starts[-1] + len(part))
            self._starts[-1] += 1  # the line's end

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
        """About how many tokens all the text has."""
        return self._cost_before[-1]

    def text(self, stretch: Stretch) -> str:
        """The lines or sentences of ``stretch`` without the last line's end."""
        return self._text[self._starts[stretch.first] : self._starts[stretch.last + 1]].removesuffix("\n")

    def lines(self, stretch: Stretch) -> tuple[int, int]:
        """The first and last line, 1-based."""
        return self._lines[stretch.first] + 1, self._lines[stretch.last] + 1

    def section(self, stretch: Stretch) -> str:
        """The names of the parts that say where ``stretch`` is."""
        return ", ".join(dict.fromkeys(self._structure.parts[index].label for index in self._named(stretch)))

    def stretches(self, spare: int = 0) -> list[Stretch]:
        """All the text in stretches that should fit a passage; merged ones leave ``spare`` tokens free.

        What is left over where longer ones were cut apart joins a neighbour in the same part.
        """
        stretches: list[Stretch] = []
        for stretch in self._cut(Stretch(0, len(self._lines) - 1), self.room, spare):
            if stretches and self._belongs(stretches[-1], stretch, self.room - spare):
                stretch = Stretch(stretches.pop().first, stretch.last)
            stretches.append(stretch)
        return stretches

    def halve(self, stretch: Stretch) -> list[Stretch]:
        """Cut a stretch that turned out too long in two or more."""
        half = self._section_cost(stretch) + self._cost(stretch) // 2
        return list(self._cut(stretch, max(1, half), spare=0))

    def _cut(self, within: Stretch, room: int, spare: int) -> Iterator[Stretch]:
        """Stretches of about ``room`` tokens without blank lines at their ends."""
        stretch = self._trimmed(within)
        if stretch is None:
            return
        first, last = stretch
        room_for_text = max(1, room - self._section_cost(stretch))
        if first == last or self._cost(stretch) <= room_for_text:
            yield stretch
            return
        inner = self._ranks[first + 1 : last + 1]
        best = min(inner)
        starts = [first, *(number for number, rank in enumerate(inner, first + 1) if rank == best), last + 1]
        edges = [self._cost_before[start] for start in starts]
        groups = [starts[index] for index in _even_groups(edges, max(1, room_for_text - spare))]
        for start, end in zip(groups, [*groups[1:], last + 1], strict=True):
            yield from self._cut(Stretch(start, end - 1), room, spare)

    def _belongs(self, before: Stretch, stretch: Stretch, room: int) -> bool:
        """True where both fit together and nothing but the same part is around either of them."""
        both = Stretch(before.first, stretch.last)
        return (
            self._cost(both) + self._section_cost(both) <= room
            and self._around(before) == self._around(stretch) == self._around(both)
            and self._is_of_whole_lines(before)
            and self._is_of_whole_lines(stretch)
        )

    def _around(self, stretch: Stretch) -> int:
        return self._structure.around(self._lines[stretch.first], self._lines[stretch.last])

    def _is_of_whole_lines(self, stretch: Stretch) -> bool:
        return _INSIDE not in (self._ranks[stretch.first], *self._ranks[stretch.last + 1 : stretch.last + 2])

    def overlapped(self, before: Stretch, stretch: Stretch, overlap: int) -> Stretch:
        """``stretch`` with the last lines or sentences of the one ``before``, up to ``overlap`` tokens.

        As many as fit of the same section; they begin with a sentence where lines do.
        """
        spare = self.room - self._section_cost(stretch) - self._cost(stretch)
        parts, first = self._structure.innermost, stretch.first
        starts = []
        for start in range(first - 1, before.first - 1, -1):
            if self._cost(Stretch(start, first - 1)) > min(overlap, spare):
                break
            if parts[self._lines[start]] != parts[self._lines[first]]:
                break
            begins = self._ranks[start] != _INSIDE or self._ranks[first] == _INSIDE
            if begins and _WORD.search(self.text(Stretch(start, start))):
                starts.append(start)
        starts = [start for start in starts if self._ranks[start] < LINE] or starts
        return stretch._replace(first=starts[-1]) if starts else stretch

    def _trimmed(self, stretch: Stretch) -> Stretch | None:
        start = bisect_left(self._filled, stretch.first)
        end = bisect_right(self._filled, stretch.last)
        return Stretch(self._filled[start], self._filled[end - 1]) if start < end else None

    def _cost(self, stretch: Stretch) -> int:
        return self._cost_before[stretch.last + 1] - self._cost_before[stretch.first]

    def _named(self, stretch: Stretch) -> list[int]:
        indices = self._structure.section(self._lines[stretch.first], self._lines[stretch.last])
        costs = accumulate(self._name_costs[index] for index in indices)
        return [index for index, cost in zip(indices, costs, strict=True) if cost <= self._section_room]

    def _section_cost(self, stretch: Stretch) -> int:
        return sum(self._name_costs[index] for index in self._named(stretch))


def _atoms(lines: list[str], costs: list[int], count_tokens: CountTokens, room: int) -> list[list[str]]:
    """The atoms of each line: what costs more than ``room`` is cut into sentences, those into fine parts."""
    atoms = [
        sentences(line) if cost > room and line.strip() else [line]
        for line, cost in zip(lines, costs, strict=True)
    ]
    cut = [part for parts, cost in zip(atoms, costs, strict=True) if cost > room for part in parts]
    cost_of = dict(zip(cut, _counted(count_tokens, cut), strict=True)) if cut else {}

    def fine(part: str) -> list[str]:
        cost = cost_of.get(part, 0)
        parts = -(-_FINE * cost // room)
        return even_parts(part, parts, _WORD_LENGTH) if cost > room and part.strip() else [part]

    return [[fine_part for part in parts for fine_part in fine(part)] for parts in atoms]


def even_parts(text: str, parts: int, near: int = 0) -> list[str]:
    """Cut ``text`` into about ``parts`` of one length.

    Each ends with the space that is nearest, where one is in reach: ``near`` characters, or half a part.
    """
    near = max(near, len(text) // max(1, parts) // 2)
    places = (len(text) * number // parts for number in range(1, parts))
    cuts = dict.fromkeys(_after_space(text, place, near) for place in places)
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)]) if start < end]


def _after_space(text: str, place: int, near: int) -> int:
    """The place behind the space that is nearest to ``place``, or ``place`` where none is ``near``."""
    before = text.rfind(" ", max(0, place - 1 - near), place) + 1
    after = text.find(" ", place, place + near) + 1
    found = [cut for cut in (before, after) if cut]
    return min(found, key=lambda cut: abs(cut - place), default=place)


def _counted(count_tokens: CountTokens, texts: list[str]) -> list[int]:
    distinct = list(dict.fromkeys(texts))
    counts = dict(zip(distinct, count_tokens(distinct), strict=True))
    return [counts[text] for text in texts]


def _even_groups(edges: list[int], most: int) -> list[int]:
    """Where to start groups of whole blocks: as few as ``most`` a group allows, then as even as can be.

    Block i costs edges[i + 1] - edges[i]; one of more than ``most`` stands alone.
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
