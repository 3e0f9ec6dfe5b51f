"""The passages that take part in a search, segment by segment.

Axes: N passages, T passage tokens, B bytes of codes per token.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flatcoat.errors import StorageError
from flatcoat.indexing.array_checks import damaged, require_array, require_below, require_offsets
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.top_k import reaching, top_k
from flatcoat.indexing.vectors import InvertedLists
from flatcoat.threads import cores, pieces

from .codec import Codec

Arrays = TypeVar("Arrays", "CodedArrays", InvertedLists)
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""``threads.spread``, or ``in_turn`` where other threads search for other queries."""


class CodedArrays(NamedTuple):
    """The arrays of ``CodedTokens`` as arguments of kernels."""

    codes_T: np.ndarray
    residuals_TB: np.ndarray
    scales_T2: np.ndarray
    offsets: np.ndarray


class Part(NamedTuple):
    """Some passages of a segment: ``passages`` are their numbers in it, ``positions`` those in the snapshot.

    ``rows`` are their rows of the store.
    """

    coded: CodedArrays
    lists: InvertedLists | None
    passages: np.ndarray
    positions: np.ndarray
    rows: np.ndarray

    def only(self, chosen: np.ndarray | slice) -> "Part":
        """The part restricted to some of its passages, by their indices in it."""
        return self._replace(
            passages=self.passages[chosen], positions=self.positions[chosen], rows=self.rows[chosen]
        )


def in_turn(function: Callable[[Any], Any], work: Iterable[Any]) -> list[Any]:
    """``threads.spread`` on one core."""
    return [function(piece) for piece in work]


def score_each(
    parts: list[Part],
    dtype: type,
    *,
    kernel: Callable[[Part, np.ndarray], None],
    spread: Spread,
    min_chunk: int,
) -> list[np.ndarray]:
    """The scores of all passages, part by part, in parallel chunks of ``min_chunk`` passages or more."""
    scores = [np.empty(len(part.positions), dtype) for part in parts]
    step = max(min_chunk, -(-sum(map(len, scores)) // (4 * cores())))
    work = [
        (part.only(here), out[here])
        for part, out in zip(parts, scores, strict=True)
        for here in pieces(len(out), step)
    ]
    spread(lambda piece: kernel(*piece), work)
    return scores


def best_passages(parts: list[Part], scores: Sequence[np.ndarray], *, count: int) -> list[Part]:
    """The ``count`` passages with the highest scores, by part, and all ties of the last of them.

    Where ties more than double the number, the passages added first are taken instead.
    """
    scores_N = np.concatenate(scores)
    if len(scores_N) <= count:
        return parts
    chosen = reaching(scores_N, count)
    if len(chosen) > 2 * count:
        chosen = np.sort(top_k(scores_N, np.concatenate([part.rows for part in parts]), k=count))
    ends = np.cumsum([len(part.positions) for part in parts])
    by_part = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [
        part.only(indices - (end - len(part.positions)))
        for part, indices, end in zip(parts, by_part, ends, strict=True)
        if len(indices)
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

    Bounds take one pass over codes and lists: 1 ms per million tokens.
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
    """Read-only arrays of class ndarray: kernels compile once for memory-mapped and other arrays."""
    return type(arrays)(*(_read_only(np.asarray(array)) for array in arrays))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
