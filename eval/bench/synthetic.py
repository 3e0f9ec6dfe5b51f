"""Synthetic token vectors for the search benchmark, of any number and width.

Axes: N passages, T tokens of all passages together, D width, V words, S queries, Q query tokens, M topics per
passage.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flatcoat.indexing.vectors import TokenVectors

from .collections import Collection, write_vectors

QUERY_TOKENS = 32
"""Tokens per query."""

_BLOCK = 1_000  # passages drawn together
_TOPICS = 256
_WORDS = 32  # per topic
_COMMON = 256  # words outside topics, in every passage
_COMMON_SHARE = 0.3  # of a passage's tokens
_MIXTURE = (0.7, 0.2, 0.1)  # of a passage's topics among its other tokens
_TOPIC = 1.0  # by which a topic moves its words, whose length is 1; likewise below
_SPREAD = (0.1, 1.1)  # by which context and noise move a token, from the steadiest word to the loosest
_CONTEXT = 0.4  # the part of the spread shared by all tokens of a passage
_QUERY_NOISE = 1.5
_QUERY_PULL = 1.5  # by which a query's token moves back towards its word


@dataclass(frozen=True)
class Synthetic:
    """Token vectors like a late-interaction encoder's, drawn at random.

    Words have directions; words of one topic lean the same way, so that their clusters overlap. A passage
    mixes a few topics, popular ones more often, with common words. Each token is the direction of its word,
    moved by the passage (its context) and by noise, little for some words and far for others, and scaled to
    length 1. A query is a sample of tokens of one passage, moved back towards their words and by noise.

    The constants were set by eye against 6,000 encoded SQuAD passages: the distance of tokens from the
    centroid of their cluster, the similarity of tokens within a passage, and the fall of scores with rank.

    Passage i is the same in every collection that differs only in ``passages``. ``tokens`` is the mean length
    of passages: lengths are normal with a quarter of it as standard deviation, from 1 to twice the mean.

    >>> Synthetic(passages=100, tokens=9, width=16).queries(5).values_TD.shape
    (160, 16)
    """

    passages: int
    tokens: int
    width: int
    seed: int = 0

    def collection(
        self, folder: Path, queries: int, *, on_progress: Callable[[str], None] = lambda what: None
    ) -> Collection:
        """Draw into ``folder``, with this number of queries."""
        on_progress("drawing passages")
        return Collection(folder, write_vectors(folder, self.blocks()), self.queries(queries))

    def blocks(self) -> Iterator[TokenVectors]:
        """The passages, float16, in blocks of a thousand: memory holds one block."""
        words = self._words()
        for first in range(0, self.passages, _BLOCK):
            block, _ = self._block(words, first)
            last = min(_BLOCK, self.passages - first)
            yield TokenVectors(block.values_TD[: block.offsets[last]], block.offsets[: last + 1])

    def queries(self, count: int) -> TokenVectors:
        """Queries of 32 tokens, float32; query i samples tokens of passage i (modulo a block)."""
        rng = np.random.default_rng([self.seed, 2])
        words = self._words()
        block, word_T = self._block(words, 0)
        source_S = np.arange(count) % len(block)
        starts_S, sizes_S = block.offsets[source_S], np.diff(block.offsets)[source_S]
        picked_SQ = starts_S[:, None] + (rng.random((count, QUERY_TOKENS)) * sizes_S[:, None]).astype(int)
        picked_Q = picked_SQ.ravel()
        values_QD = _QUERY_NOISE * _directions(len(picked_Q), self.width, rng)
        values_QD += _QUERY_PULL * words.directions_VD[word_T[picked_Q]]
        values_QD += block.values_TD[picked_Q]
        return TokenVectors(_unit(values_QD), np.arange(count + 1) * QUERY_TOKENS)

    def _words(self) -> "_Words":
        return _Words.draw(self.width, np.random.default_rng([self.seed, 0]))

    def _block(self, words: "_Words", first: int) -> tuple[TokenVectors, np.ndarray]:
        """The thousand passages from ``first`` on, and the word of each token [T]."""
        return _passages(words, self.tokens, np.random.default_rng([self.seed, 1, first]))


@dataclass(frozen=True)
class _Words:
    """Directions and spread of all words: the words of each topic in order, then the common ones."""

    directions_VD: np.ndarray
    spread_V: np.ndarray

    @staticmethod
    def draw(width: int, rng: np.random.Generator) -> "_Words":
        count = _TOPICS * _WORDS + _COMMON
        directions_VD = _directions(count, width, rng)
        topical_VD = directions_VD[: _TOPICS * _WORDS]
        topical_VD += _TOPIC * np.repeat(_directions(_TOPICS, width, rng), _WORDS, axis=0)
        return _Words(_unit(directions_VD), rng.uniform(*_SPREAD, count).astype(np.float32))


def _passages(words: _Words, tokens: int, rng: np.random.Generator) -> tuple[TokenVectors, np.ndarray]:
    lengths_N = rng.normal(tokens, tokens / 4, _BLOCK).round().astype(int).clip(1, 2 * tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths_N)])
    passage_T = np.repeat(np.arange(_BLOCK), lengths_N)
    word_T = _word_of_each_token(passage_T, rng)
    width = words.directions_VD.shape[1]
    moved_TD = _directions(len(passage_T), width, rng)
    moved_TD *= np.sqrt(1 - _CONTEXT**2)
    moved_TD += _CONTEXT * _directions(_BLOCK, width, rng)[passage_T]
    moved_TD *= words.spread_V[word_T, None]
    moved_TD += words.directions_VD[word_T]
    return TokenVectors(_unit(moved_TD).astype(np.float16), offsets), word_T


def _word_of_each_token(passage_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    topic_NM = (_TOPICS * rng.random((_BLOCK, len(_MIXTURE))) ** 2).astype(int)
    topic_T = topic_NM[passage_T, rng.choice(len(_MIXTURE), len(passage_T), p=_MIXTURE)]
    word_T = topic_T * _WORDS + (_WORDS * rng.random(len(passage_T)) ** 2).astype(int)
    common_T = rng.random(len(passage_T)) < _COMMON_SHARE
    word_T[common_T] = _TOPICS * _WORDS + rng.integers(_COMMON, size=int(common_T.sum()))
    return word_T


def _directions(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random directions of length 1, nearly (in expectation), float32 [count, width]."""
    return rng.standard_normal((count, width), dtype=np.float32) / np.float32(np.sqrt(width))


def _unit(values_TD: np.ndarray) -> np.ndarray:
    return values_TD / np.linalg.norm(values_TD, axis=1, keepdims=True)
