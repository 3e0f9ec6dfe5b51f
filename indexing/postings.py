"""Postings: which passages have a term and how often, at rest in one immutable file per segment.

    000012.postings.npy     lengths of passages, terms in their order, postings of each

A file is one array of bytes, its parts laid end to end, and is memory-mapped: a search reads the postings of
its own terms. What leads beyond a part is found where it is used, so that opening reads next to nothing.

Axes: N passages of a segment, V terms, P postings, B bytes of all terms.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatcoat.atomic_files import sync_folder

from .array_checks import damaged, require_below, require_offsets
from .array_files import WrittenFile, write_array
from .segments import open_file

MOST_COUNTED = 255
"""How often a term counts in one passage at most: the score of BM25 hardly grows from there."""

_LAYOUT = 1  # the first number of a file


class Range(NamedTuple):
    """The postings of a term in one segment, from ``first`` to ``last`` (exclusive)."""

    first: int
    last: int


class Part(NamedTuple):
    """Of a merge: the passages at ``positions`` go to the positions ``into`` (both int64)."""

    postings: "Postings"
    positions: np.ndarray
    into: np.ndarray


@dataclass(frozen=True)
class Postings:
    """The postings of one segment.

    The terms are in the order of their UTF-8 bytes. The postings of term ``v`` are ``places_P[a:b]``, rising
    positions of passages (uint16), and ``counts_P[a:b]``, how often each has the term (uint8), for ``a, b =
    starts_V[v : v + 2]``. ``lengths_N`` (uint32) counts all terms of each passage, with repetition.

    >>> postings = Postings.build([["cat", "sat", "cat"], ["cat"]])
    >>> first, last = postings.find(["cat"])[0]
    >>> postings.places_P[first:last].tolist(), postings.counts_P[first:last].tolist()
    ([0, 1], [2, 1])
    """

    keys_V: np.ndarray
    """The first eight bytes of each term as a number (uint64), by which NumPy finds it."""
    starts_V: np.ndarray
    """Int64 [V + 1]."""
    ends_V: np.ndarray
    """Where terms begin and end in ``letters_B`` (int64 [V + 1])."""
    lengths_N: np.ndarray
    places_P: np.ndarray
    counts_P: np.ndarray
    letters_B: np.ndarray

    @staticmethod
    def build(terms_N: Iterable[Sequence[str]]) -> "Postings":
        """The postings of passages, at most ``MOST_PASSAGES``, given the terms of each with repetition."""
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        number_of = numbers.__getitem__
        rows = [np.fromiter(map(number_of, terms), np.int64, len(terms)) for terms in terms_N]
        lengths_N = np.array([len(row) for row in rows], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int64), *rows])
        words = sorted(numbers)
        rank = np.empty(len(words), np.int64)
        rank[[numbers[word] for word in words]] = np.arange(len(words))
        entries = rank[tokens] << 16 | np.repeat(np.arange(len(rows)), lengths_N)
        entries_P, counts_P = np.unique(entries, return_counts=True)
        packed_P = entries_P << 8 | np.minimum(counts_P, MOST_COUNTED)
        return _unpacked(packed_P, [word.encode() for word in words], lengths_N)

    @staticmethod
    def merge(parts: Sequence[Part], passages: int) -> "Postings":
        """What ``build`` makes of the passages of all parts at their new positions.

        There are ``passages`` positions; a passage that is in no part has no terms. StorageError where a part
        is damaged.
        """
        for part in parts:
            part.postings.require_valid()
        words = sorted({word for part in parts for word in part.postings.terms()})
        rank = {word: number for number, word in enumerate(words)}
        lengths_N = np.zeros(passages, np.int64)
        packed = [np.zeros(0, np.int64)]
        for postings, positions, into in parts:
            lengths_N[into] = postings.lengths_N[positions]
            new = np.full(len(postings), -1)
            new[positions] = into
            places_P = new[postings.places_P]
            ranks_V = np.array([rank[word] for word in postings.terms()], np.int64)
            terms_P = np.repeat(ranks_V, np.diff(postings.starts_V))
            packed.append((terms_P << 24 | places_P << 8 | postings.counts_P)[places_P >= 0])
        return _unpacked(np.sort(np.concatenate(packed)), words, lengths_N)

    def __len__(self) -> int:
        return len(self.lengths_N)

    def terms(self) -> Iterator[bytes]:
        """All terms, in order."""
        letters, ends = self.letters_B.tobytes(), self.ends_V.tolist()
        return (letters[first:last] for first, last in pairwise(ends))

    def find(self, terms: Sequence[str]) -> list[Range]:
        """Where the postings of each term are; an empty range for one that no passage has."""
        words = [term.encode() for term in terms]
        keys = _keys(words)
        lows = np.searchsorted(self.keys_V, keys).tolist()
        highs = np.searchsorted(self.keys_V, keys, side="right").tolist()
        return [self._range(*one) for one in zip(words, lows, highs, strict=True)]

    def _range(self, word: bytes, low: int, high: int) -> Range:
        number = bisect_left(range(high), word, lo=low, hi=high, key=self._term)
        if number == high or self._term(number) != word:
            return Range(0, 0)
        first, last = self.starts_V[number : number + 2].tolist()
        if not 0 <= first <= last <= len(self.places_P):
            raise damaged("the postings of a segment")
        return Range(first, last)

    def _term(self, number: int) -> bytes:
        first, last = self.ends_V[number : number + 2].tolist()
        return self.letters_B[first:last].tobytes()

    def require_valid(self) -> None:
        """Raise StorageError where one number leads beyond another part."""
        require_offsets("ends of postings", self.starts_V, end=len(self.places_P))
        require_offsets("ends of terms", self.ends_V, end=len(self.letters_B))
        require_below("postings", self.places_P, bound=len(self))

    def equals(self, other: "Postings") -> bool:
        """Whether all of it is the same."""
        return all(np.array_equal(*both) for both in zip(_parts(self), _parts(other), strict=True))


def _unpacked(packed_P: np.ndarray, words: Sequence[bytes], lengths_N: np.ndarray) -> Postings:
    """Postings of rising numbers: a term's number << 24 | a position << 8 | a count; other terms go."""
    used, firsts = np.unique(packed_P >> 24, return_index=True)
    words = [words[number] for number in used.tolist()]
    return Postings(
        keys_V=_keys(words),
        starts_V=np.append(firsts, len(packed_P)),
        ends_V=np.cumsum([0, *map(len, words)]),
        lengths_N=lengths_N.astype(np.uint32),
        places_P=(packed_P >> 8 & 0xFFFF).astype(np.uint16),
        counts_P=(packed_P & 0xFF).astype(np.uint8),
        letters_B=np.frombuffer(b"".join(words), np.uint8),
    )


def _keys(words: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join([word[:8].ljust(8, b"\0") for word in words]), ">u8").astype(np.uint64)


def _parts(postings: Postings) -> tuple[np.ndarray, ...]:
    return tuple(vars(postings).values())


def write_postings(folder: Path, number: int, postings: Postings) -> WrittenFile:
    """Write and fsync the file of a segment's postings: an orphan until the database names it."""
    sizes = len(postings), len(postings.keys_V), len(postings.places_P), len(postings.letters_B)
    parts = [np.array([_LAYOUT, *sizes], np.int64), *_parts(postings)]
    whole = np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])
    written = write_array(folder / f"{number:06d}.postings.npy", whole)
    sync_folder(folder)
    return written


def open_postings(path: Path, size: int) -> Postings:
    """Map a file that ``write_postings`` wrote, ``size`` bytes; StorageError where it is no such file."""
    array = np.asarray(open_file(path, size))
    if array.dtype != np.uint8 or array.ndim != 1 or len(array) < 40:
        raise damaged(f"index file {path}")
    array.flags.writeable = False  # Kernels are compiled for arrays that are read only.
    layout, passages, terms, entries, letters = array[:40].view(np.int64).tolist()
    parts = (
        (np.uint64, terms),
        (np.int64, terms + 1),
        (np.int64, terms + 1),
        (np.uint32, passages),
        (np.uint16, entries),
        (np.uint8, entries),
        (np.uint8, letters),
    )
    ends = np.cumsum([40, *(np.dtype(dtype).itemsize * count for dtype, count in parts)], dtype=object)
    if layout != _LAYOUT or min(passages, terms, entries, letters) < 0 or ends[-1] != len(array):
        raise damaged(f"index file {path}")
    pieces = zip(parts, ends[:-1], ends[1:], strict=True)
    return Postings(*(array[first:last].view(dtype) for (dtype, _), first, last in pieces))
