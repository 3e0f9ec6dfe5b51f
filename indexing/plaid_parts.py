"""Passages on their way through a search, segment by segment. Axes: N passages."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import FlatcoatError
from .parallel import cores, pieces
from .segments import CodedSegment, Snapshot

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""``parallel.spread``, or ``in_turn`` where the caller is one of many."""


class Part(NamedTuple):
    """Some passages of a segment: their positions in it, and their places ``at`` in the snapshot."""

    coded: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    lists: tuple[np.ndarray, np.ndarray] | None
    passages: np.ndarray
    at: np.ndarray

    def only(self, places: np.ndarray | slice) -> "Part":
        """The part with the passages at ``places`` of it alone."""
        return self._replace(passages=self.passages[places], at=self.at[places])


def in_turn(function: Callable[[Any], Any], work: Iterable[Any]) -> list[Any]:
    """``parallel.spread`` on this core alone."""
    return [function(piece) for piece in work]


def score_each(
    parts: list[Part],
    dtype: type,
    kernel: Callable[[Part, np.ndarray], None],
    spread: Spread,
    at_least: int,
) -> list[np.ndarray]:
    """A score for each passage of each part, on every core in pieces of a size, ``at_least`` so large."""
    scores = [np.empty(len(part.at), dtype) for part in parts]
    step = max(at_least, -(-sum(map(len, scores)) // (4 * cores())))
    work = [
        (part.only(here), out[here])
        for part, out in zip(parts, scores, strict=True)
        for here in pieces(len(out), step)
    ]
    spread(lambda piece: kernel(*piece), work)
    return scores


def best(parts: list[Part], scores: Sequence[np.ndarray], count: int) -> list[Part]:
    """The ``count`` passages with the highest scores, in their parts."""
    together = np.concatenate(scores)
    if len(together) <= count:
        return parts
    chosen = np.sort(np.argpartition(-together, count - 1)[:count])
    ends = np.cumsum([len(part.at) for part in parts])
    found = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [
        part.only(places - (end - len(part.at)))
        for part, places, end in zip(parts, found, ends, strict=True)
        if len(places)
    ]


def parts_of(snapshot: Snapshot, centroids: int) -> Iterator[Part]:
    """Every segment with its live passages; FlatcoatError where one is damaged or not coded."""
    bounds = np.searchsorted(snapshot.segment_of, np.arange(len(snapshot.segments) + 1))
    for segment, first, last in zip(snapshot.segments, bounds[:-1], bounds[1:], strict=True):
        if not isinstance(segment, CodedSegment):
            raise FlatcoatError("a segment of this index is not coded: verify it")
        tokens = segment.tokens
        arrays = tokens.codes_T, tokens.residuals_TB, tokens.scales_T2, tokens.offsets
        _require_within(segment, centroids)
        lists = None
        if segment.lists is not None and segment.list_offsets is not None:
            lists = _plain(segment.lists, segment.list_offsets)
        yield Part(_plain(*arrays), lists, snapshot.positions[first:last], np.arange(first, last))


def _require_within(segment: CodedSegment, centroids: int) -> None:
    """Kernels check no bounds: a damaged number would have them read what is not theirs."""
    tokens, lists, ends = segment.tokens, segment.lists, segment.list_offsets
    whole = _rising(tokens.offsets, len(tokens.codes_T)) and _below(tokens.codes_T, centroids)
    if lists is not None and ends is not None:
        whole = (
            whole and len(ends) == centroids + 1 and _rising(ends, len(lists)) and _below(lists, len(segment))
        )
    if not whole:
        raise FlatcoatError("a segment of this index is damaged: verify it, restore it or index again")


def _rising(offsets: np.ndarray, end: int) -> bool:
    return offsets[0] == 0 and offsets[-1] == end and bool((offsets[1:] >= offsets[:-1]).all())


def _below(numbers: np.ndarray, bound: int) -> bool:
    return not len(numbers) or int(numbers.max()) < bound


def _plain(*arrays: np.ndarray) -> Any:
    """Read-only arrays of numpy's own class: kernels are compiled once, for mapped and for other ones."""
    return tuple(_read_only(np.asarray(array)) for array in arrays)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
