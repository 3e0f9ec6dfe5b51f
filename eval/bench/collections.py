"""What search engines are measured on: passages' token vectors in a file, queries', and who judged what.

Vectors lie in float16, as flatcoat's own indexes keep them; every engine gets the same numbers. They are
written block by block and mapped when read, so that a collection may be larger than memory.

Axes: N passages, T tokens of all passages together, D width, W words, Q queries, U tokens of all queries.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.eval.datasets import RetrievalDataset, load_beir
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.vectors import TokenVectors

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder


@dataclass(frozen=True)
class Collection:
    """``passages`` passages in ``folder``, and queries to them.

    ``grades`` is query -> passage -> grade, both by position, and empty where nobody judged.
    """

    folder: Path
    passages: int
    queries: TokenVectors
    grades: dict[int, dict[int, int]] = field(default_factory=dict)

    def vectors(self, passages: int) -> TokenVectors:
        """The first so many passages."""
        return read_vectors(self.folder, passages)


def write_vectors(folder: Path, blocks: Iterable[TokenVectors]) -> int:
    """Write passages into ``folder`` in order; how many."""
    sizes: list[int] = []
    width = 0
    with (folder / "values.f16").open("wb") as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block.values_TD, dtype=np.float16).data)
            sizes += np.diff(block.offsets).tolist()
            width = block.width
    (folder / "shape.json").write_text(json.dumps({"width": width, "sizes": sizes}))
    return len(sizes)


def read_vectors(folder: Path, passages: int) -> TokenVectors:
    """Map the first ``passages`` of a folder that ``write_vectors`` filled."""
    shape = json.loads((folder / "shape.json").read_text())
    offsets = np.fromiter(accumulate(shape["sizes"][:passages], initial=0), dtype=np.int64)
    # Copy on write: torch wants arrays that it may write to.
    values_TD = np.memmap(
        folder / "values.f16", dtype=np.float16, mode="c", shape=(int(offsets[-1]), shape["width"])
    )
    return TokenVectors(values_TD, offsets)


_CHUNK = 1_000  # documents encoded together


@dataclass(frozen=True)
class Encoded:
    """The first ``limit`` documents (None: all) of the folder ``data``, encoded by ``model``.

    Queries are those with a relevant document among the first ``judged_within`` (None: ``limit``).
    """

    data: Path
    model: str | None = None
    limit: int | None = None
    judged_within: int | None = None

    def collection(
        self, folder: Path, queries: int, on_progress: Callable[[str], None] = lambda what: None
    ) -> Collection:
        """Encode into ``folder``, with so many queries at most, drawn by chance.

        Raises FlatcoatError where no query is left, where the model gives no token vectors, and as
        ``load_beir`` and ``load_encoder`` do.
        """
        from flatcoat.retrieval.encoders.load import load_encoder

        dataset = load_beir(self.data)
        documents = list(islice(dataset.documents, self.limit))
        asked = _draw_queries(dataset, documents, queries, self.judged_within or len(documents))
        encoder = load_encoder(self.model)
        vectors = encoder.encode_queries([dataset.queries[query] for query in asked])
        if not isinstance(vectors, TokenVectors):
            raise FlatcoatError(f"{encoder.name} makes one vector a text: name a late-interaction model")
        count = write_vectors(folder, _encode(encoder, documents, on_progress))
        return Collection(folder, count, vectors, dict(enumerate(asked.values())))


def _draw_queries(
    dataset: RetrievalDataset, documents: Sequence[Document], count: int, judged_within: int
) -> dict[str, dict[int, int]]:
    """Query id to grades of documents by position."""
    positions = {document.id: position for position, document in enumerate(documents)}
    askable: dict[str, dict[int, int]] = {}
    for query, judged in dataset.qrels.items():
        grades = {positions[document]: grade for document, grade in judged.items() if document in positions}
        if any(grade > 0 and position < judged_within for position, grade in grades.items()):
            askable[query] = grades
    if not askable:
        raise FlatcoatError(
            f"no query of {dataset.name} is answered by its first {judged_within:,} documents: take more"
        )
    drawn = np.random.default_rng(0).permutation(list(askable))[:count].tolist()
    return {query: askable[query] for query in drawn}


def _encode(
    encoder: "Encoder", documents: Sequence[Document], on_progress: Callable[[str], None]
) -> Iterator[TokenVectors]:
    for first in range(0, len(documents), _CHUNK):
        on_progress(f"encoding documents: {first:,} of {len(documents):,}")
        chunk = documents[first : first + _CHUNK]
        texts = [Passage(document.id, document.text, document.title).searchable for document in chunk]
        vectors = encoder.encode_documents(texts)
        assert isinstance(vectors, TokenVectors)
        yield vectors


QUERY_TOKENS = 32
_BLOCK = 1_000  # passages drawn together
_TOPICS = 256
_WORDS = 32  # of each topic
_COMMON = 256  # words of no topic, in every passage
_COMMON_SHARE = 0.3  # of a passage's tokens
_MIXTURE = (0.7, 0.2, 0.1)  # of a passage's topics among its other tokens
_TOPIC = 1.0  # how far a topic moves its words, which have length 1; likewise below
_SPREAD = (0.1, 1.1)  # how far context and noise move a token, from the steadiest word to the loosest
_CONTEXT = 0.4  # the part of that which all tokens of a passage share
_QUERY_NOISE = 1.5
_QUERY_PULL = 1.5  # how far a query's token goes back towards its word


@dataclass(frozen=True)
class Synthetic:
    """Token vectors as late-interaction encoders make them, drawn instead of encoded.

    Words have directions; those of a topic lean the same way, so that their clusters overlap. A passage mixes
    a few topics, popular ones more often, with words that every passage has. Each token is its word's
    direction, moved by the passage (its context) and by noise, for some words little and for others a lot,
    and scaled to length 1. A query is a handful of tokens of one passage, drawn back towards their words and
    moved by noise.

    The constants were set by eye against 6,000 encoded SQuAD passages: how near tokens lie to the centroid of
    their cluster, how alike the tokens of a passage are, and how scores fall with rank.

    Passage i is the same in every collection that differs only in ``passages``. ``tokens`` is a passage's
    mean length: lengths are normal around it, a quarter aside, from 1 to twice it.
    """

    passages: int
    tokens: int
    width: int
    seed: int = 0

    def collection(
        self, folder: Path, queries: int, on_progress: Callable[[str], None] = lambda what: None
    ) -> Collection:
        """Draw into ``folder``, with so many queries."""
        on_progress("drawing passages")
        return Collection(folder, write_vectors(folder, self.blocks()), self.queries(queries))

    def blocks(self) -> Iterator[TokenVectors]:
        """The passages, float16, a thousand at a time: memory holds one block, whatever their number."""
        words = self._words()
        for first in range(0, self.passages, _BLOCK):
            block, _ = self._block(words, first)
            last = min(_BLOCK, self.passages - first)
            yield TokenVectors(block.values_TD[: block.offsets[last]], block.offsets[: last + 1])

    def queries(self, count: int) -> TokenVectors:
        """Queries of 32 tokens, float32; query i is made of tokens of passage i (modulo a block)."""
        rng = np.random.default_rng([self.seed, 2])
        words = self._words()
        block, word_T = self._block(words, 0)
        source_Q = np.arange(count) % len(block)
        starts_Q, sizes_Q = block.offsets[source_Q], np.diff(block.offsets)[source_Q]
        picked_QU = starts_Q[:, None] + (rng.random((count, QUERY_TOKENS)) * sizes_Q[:, None]).astype(int)
        picked_U = picked_QU.ravel()
        values_UD = _QUERY_NOISE * _directions(len(picked_U), self.width, rng)
        values_UD += _QUERY_PULL * words.directions_WD[word_T[picked_U]]
        values_UD += block.values_TD[picked_U]
        return TokenVectors(_unit(values_UD), np.arange(count + 1) * QUERY_TOKENS)

    def _words(self) -> "_Words":
        return _Words.draw(self.width, np.random.default_rng([self.seed, 0]))

    def _block(self, words: "_Words", first: int) -> tuple[TokenVectors, np.ndarray]:
        """The thousand passages from ``first`` on, and each token's word."""
        return _passages(words, self.tokens, np.random.default_rng([self.seed, 1, first]))


@dataclass(frozen=True)
class _Words:
    """Directions and looseness of all words: those of the topics in order, then the common ones."""

    directions_WD: np.ndarray
    spread_W: np.ndarray

    @staticmethod
    def draw(width: int, rng: np.random.Generator) -> "_Words":
        count = _TOPICS * _WORDS + _COMMON
        directions_WD = _directions(count, width, rng)
        topical_WD = directions_WD[: _TOPICS * _WORDS]
        topical_WD += _TOPIC * np.repeat(_directions(_TOPICS, width, rng), _WORDS, axis=0)
        return _Words(_unit(directions_WD), rng.uniform(*_SPREAD, count).astype(np.float32))


def _passages(words: _Words, tokens: int, rng: np.random.Generator) -> tuple[TokenVectors, np.ndarray]:
    lengths_N = rng.normal(tokens, tokens / 4, _BLOCK).round().astype(int).clip(1, 2 * tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths_N)])
    passage_T = np.repeat(np.arange(_BLOCK), lengths_N)
    word_T = _word_of_each_token(passage_T, rng)
    width = words.directions_WD.shape[1]
    moved_TD = _directions(len(passage_T), width, rng)
    moved_TD *= np.sqrt(1 - _CONTEXT**2)
    moved_TD += _CONTEXT * _directions(_BLOCK, width, rng)[passage_T]
    moved_TD *= words.spread_W[word_T, None]
    moved_TD += words.directions_WD[word_T]
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
