"""A sample of token vectors that depends on the vectors alone, not on the order of adding.

The key of a token is a hash of the bytes of its passage's vectors and of its index among them; the tokens
with the lowest keys are the sample, in the order of their keys (bottom-k sampling, Cohen and Kaplan 2007).
Equal passages share their keys, so that tokens of repeated passages get no more than their share.

Axes: N passages, T tokens, D width.
"""

from collections.abc import Callable, Sequence

import numpy as np

from flatcoat.threads import pieces

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 4_096  # tokens whose bytes stay in the cache
_SPARE = 1.25  # size of the buffer over the size of the sample


def content_keys(parts: Sequence[np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """A key (uint64 [T]) of each token of N passages, whose bytes are in ``parts`` (each [T] or [T, ...])."""
    tokens_T = np.empty(len(parts[0]), np.uint64)
    for here in pieces(len(tokens_T), _AT_ONCE):
        columns = [np.ascontiguousarray(part[here]).view(np.uint8) for part in parts]
        columns = [column.reshape(len(tokens_T[here]), -1) for column in columns]
        padding = np.zeros((len(columns[0]), -sum(column.shape[1] for column in columns) % 8), np.uint8)
        words = np.concatenate([*columns, padding], axis=1).view(np.uint64)
        factors = _mixed(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
        tokens_T[here] = (_mixed(words ^ factors) * factors).sum(axis=1)
    sizes = np.diff(offsets)
    places_T = np.arange(len(tokens_T)) - np.repeat(offsets[:-1], sizes)
    places_T = _mixed(places_T.astype(np.uint64) + np.uint64(1))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(tokens_T ^ places_T), dtype=np.uint64)])
    passages_N = sums[offsets[1:]] - sums[offsets[:-1]]
    return _mixed(np.repeat(passages_N, sizes) ^ places_T)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """A hash of each number: the last steps of splitmix64 (Steele et al. 2014)."""
    numbers = numbers * _GOLDEN
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


class Sample:
    """The ``count`` token vectors (float16) with the lowest keys of all tokens added."""

    def __init__(self, count: int, width: int) -> None:
        self._count, self._size = count, 0
        self._keys = np.empty(int(count * _SPARE) + 1, np.uint64)
        self._values = np.empty((len(self._keys), width), np.float16)
        self._highest = np.iinfo(np.uint64).max

    def add(self, keys_T: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]) -> None:
        """Add tokens by their keys; ``vectors`` returns the vectors [T, D] at some indices of them."""
        places = np.flatnonzero(keys_T <= self._highest)
        while len(places):
            some, places = np.split(places, [len(self._keys) - self._size])
            here = slice(self._size, self._size + len(some))
            self._keys[here], self._values[here] = keys_T[some], vectors(some)
            self._size = here.stop
            if self._size == len(self._keys):
                self._cut()
                places = places[keys_T[places] <= self._highest]

    def vectors(self) -> np.ndarray:
        """The sample [T, D], by rising keys."""
        return self._values[np.argsort(self._keys[: self._size], kind="stable")[: self._count]]

    def _cut(self) -> None:
        kept = np.argpartition(self._keys, self._count - 1)[: self._count]
        self._keys[: self._count], self._values[: self._count] = self._keys[kept], self._values[kept]
        self._size, self._highest = self._count, self._keys[: self._count].max()
