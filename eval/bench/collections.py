"""Collections for the search benchmark: token vectors of passages in a file, of queries in memory, grades.

Vectors are stored in float16, as in flatcoat's indexes; every engine gets the same numbers. They are written
block by block and memory-mapped when read, so that a collection may be larger than memory.

Axes: T tokens of all passages together, D width.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import DataError, UsageError
from flatcoat.eval.datasets import RetrievalDataset, load_beir
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.vectors import TokenVectors

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

_CHUNK = 1_000  # documents encoded together


@dataclass(frozen=True)
class Collection:
    """``passages`` passages in ``folder``, and queries.

    ``grades`` is query -> passage -> grade, both by position; empty without judgements.

    >>> from tempfile import TemporaryDirectory
    >>> from flatcoat.eval.bench.synthetic import Synthetic
    >>> with TemporaryDirectory() as folder:
    ...     len(Synthetic(20, 9, 16).collection(Path(folder), 5).vectors(7))
    7
    """

    folder: Path
    passages: int
    queries: TokenVectors
    grades: dict[int, dict[int, int]] = field(default_factory=dict)

    def vectors(self, passages: int) -> TokenVectors:
        """The vectors of the first ``passages``."""
        return read_vectors(self.folder, passages)


def write_vectors(folder: Path, blocks: Iterable[TokenVectors]) -> int:
    """Write passages to ``folder`` in order, and return their number."""
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
    """Memory-map the first ``passages`` in a folder of ``write_vectors``."""
    shape = json.loads((folder / "shape.json").read_text())
    offsets = np.fromiter(accumulate(shape["sizes"][:passages], initial=0), dtype=np.int64)
    # Copy on write: torch wants arrays that it may write to.
    values_TD = np.memmap(
        folder / "values.f16", dtype=np.float16, mode="c", shape=(int(offsets[-1]), shape["width"])
    )
    return TokenVectors(values_TD, offsets)


@dataclass(frozen=True)
class EncodedFolder:
    """The first ``limit`` documents (None: all) of the folder ``data``, encoded by ``model``.

    Its queries have a relevant document among the first ``judged_within`` (None: ``limit``).
    """

    data: Path
    model: str | None = None
    limit: int | None = None
    judged_within: int | None = None

    def collection(
        self, folder: Path, queries: int, *, on_progress: Callable[[str], None] = lambda what: None
    ) -> Collection:
        """Encode into ``folder``, with at most ``queries`` random queries.

        Raises DataError where no query is left, UsageError for a model without token vectors, and as
        ``load_beir`` and ``load_encoder`` do.
        """
        from flatcoat.retrieval.encoders.load import load_encoder

        dataset = load_beir(self.data)
        documents = list(islice(dataset.documents, self.limit))
        grades = _draw_queries(dataset, documents, queries, self.judged_within or len(documents))
        encoder = load_encoder(self.model)
        vectors = encoder.encode_queries([dataset.queries[query] for query in grades])
        if not isinstance(vectors, TokenVectors):
            raise UsageError(f"{encoder.name} makes one vector per text: name a late-interaction model")
        count = write_vectors(folder, _encode(encoder, documents, on_progress))
        return Collection(folder, count, vectors, dict(enumerate(grades.values())))


def _draw_queries(
    dataset: RetrievalDataset, documents: Sequence[Document], count: int, judged_within: int
) -> dict[str, dict[int, int]]:
    """Query id -> position of a document -> grade."""
    positions = {document.id: position for position, document in enumerate(documents)}
    judged_queries: dict[str, dict[int, int]] = {}
    for query, judged in dataset.qrels.items():
        grades = {positions[document]: grade for document, grade in judged.items() if document in positions}
        if any(grade > 0 and position < judged_within for position, grade in grades.items()):
            judged_queries[query] = grades
    if not judged_queries:
        raise DataError(
            f"no query of {dataset.name} is answered by its first {judged_within:,} documents: take more"
        )
    drawn = np.random.default_rng(0).permutation(list(judged_queries))[:count].tolist()
    return {query: judged_queries[query] for query in drawn}


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
