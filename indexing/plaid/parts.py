"""Passages on their way through a search, segment by segment.

Axes: N passages, T their tokens, B bytes of codes per token.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flatcoat.errors import StorageError
from flatcoat.indexing.array_checks import damaged, require_array, require_below, require_offsets
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.threads import cores, pieces
from flatcoat.indexing.top_k import reaching, top_k

from .codec import Codec
from .kernels import InvertedLists

Arrays = TypeVar("Arrays", "CodedArrays", InvertedLists)
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""``threads.spread``, or ``in_turn`` where the caller is one of many."""


class CodedArrays(NamedTuple):
    """The arrays of ``CodedTokens``, as kernels take them."""

    codes_T: np.ndarray
    residuals_TB: np.ndarray
    scales_T2: np.ndarray
    offsets: np.ndarray


class Part(NamedTuple):
    """Some passages of a segment: their positions in it, their places ``at`` in the snapshot, their rows."""

    coded: CodedArrays
    lists: InvertedLists | None
    passages: np.ndarray
    at: np.ndarray
    rows: np.ndarray

    def only(self, places: np.ndarray | slice) -> "Part":
        """The part with the passages at ``places`` of it alone."""
        return self._replace(passages=self.passages[places], at=self.at[places], rows=self.rows[places])


def in_turn(function: Callable[[Any], Any], work: Iterable[Any]) -> list[Any]:
    """``threads.spread`` on this core alone."""
    return [function(piece) for piece in work]


def score_each(
    parts: list[Part],
    dtype: type,
    *,
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


def best(parts: list[Part], scores: Sequence[np.ndarray], *, count: int) -> list[Part]:
    """The ``count`` passages with the highest scores, in their parts, and the equals of the last of them.

    Where this doubles them only those equals are taken that were added first.
    """
    together = np.concatenate(scores)
    if len(together) <= count:
        return parts
    chosen = reaching(together, count)
    if len(chosen) > 2 * count:
        chosen = np.sort(top_k(together, np.concatenate([part.rows for part in parts]), k=count))
    ends = np.cumsum([len(part.at) for part in parts])
    found = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [
        part.only(places - (end - len(part.at)))
        for part, places, end in zip(parts, found, ends, strict=True)
        if len(places)
    ]


def parts_of(snapshot: Snapshot, codec: Codec) -> Iterator[Part]:
    """Every segment with its live passages; StorageError where one is damaged or not coded."""
    bounds = np.searchsorted(snapshot.segment_of, np.arange(len(snapshot.segments) + 1))
    for segment, first, last in zip(snapshot.segments, bounds[:-1], bounds[1:], strict=True):
        if not isinstance(segment, CodedSegment):
            raise StorageError("a segment of this index is not coded: verify it")
        require_valid(segment, codec)
        tokens = segment.tokens
        coded = CodedArrays(tokens.codes_T, tokens.residuals_TB, tokens.scales_T2, tokens.offsets)
        lists = None
        if segment.lists is not None and segment.list_offsets is not None:
            lists = _plain(InvertedLists(segment.lists, segment.list_offsets))
        passages = snapshot.positions[first:last]
        yield Part(_plain(coded), lists, passages, np.arange(first, last), snapshot.rows[first:last])


def require_valid(segment: CodedSegment, codec: Codec) -> None:
    """Raise StorageError unless kernels, which check no bounds, can read this segment.

    Types and shapes take no time, bounds one pass over codes and lists: 1 ms for a million of tokens.
    """
    codec.require(segment.tokens)
    lists, ends = segment.lists, segment.list_offsets
    if lists is None and ends is None:
        return
    if lists is None or ends is None:
        raise damaged("a segment with inverted lists or their ends alone")
    require_array("inverted lists", lists, dtype=np.uint16, shape=(None,))
    require_array("ends of inverted lists", ends, dtype=np.uint32, shape=(len(codec.centroids_KP) + 1,))
    require_offsets("ends of inverted lists", ends, end=len(lists))
    require_below("inverted lists", lists, bound=len(segment))


def _plain(arrays: Arrays) -> Arrays:
    """Read-only arrays of numpy's own class: kernels are compiled once, for mapped and for other ones."""
    return type(arrays)(*(_read_only(np.asarray(array)) for array in arrays))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
