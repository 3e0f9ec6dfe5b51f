"""A BEIR folder's documents and queries as token vectors, to measure search engines on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import FlatcoatError
from ..indexing.documents import Document, Passage
from ..indexing.types import TokenVectors
from .datasets import RetrievalDataset, load_beir
from .search_vectors import Collection, write_vectors

if TYPE_CHECKING:
    from ..retrieval.encoding import Encoder

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
        from ..retrieval.load import load_encoder

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
