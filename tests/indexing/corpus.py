"""Small passages and vectors, the same every time, for the tests of the store."""

import numpy as np

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors

WIDTH = 4


def passages(document_id: str, count: int = 1, content: int = 0, title: str = "") -> list[Passage]:
    """``count`` passages of one document; ``content`` makes versions differ."""
    return [
        Passage(
            document_id,
            f"word{content} of {document_id} part {part}",
            title,
            (part + 1, part + 1),
            {"n": content},
        )
        for part in range(count)
    ]


def vectors(texts: list[Passage]) -> TokenVectors:
    """Token vectors that only the text decides; whole numbers, so float16 keeps them exactly."""
    matrices = [
        np.random.default_rng(list(text.text.encode())).integers(-9, 9, (len(text.text) % 3 + 1, WIDTH))
        for text in texts
    ]
    return TokenVectors.from_list([matrix.astype(np.float32) for matrix in matrices], WIDTH)


def dense(texts: list[Passage]) -> np.ndarray:
    """The first token vector of each text."""
    return np.stack([matrix[0] for matrix in vectors(texts)])


def held(snapshot: Snapshot) -> list[np.ndarray]:
    """The vectors of each passage, decoded where they are coded."""
    segments = []
    for segment in snapshot.segments:
        assert snapshot.codec or not isinstance(segment, CodedSegment)
        segments.append(
            snapshot.codec.decode(segment.tokens)
            if snapshot.codec and isinstance(segment, CodedSegment)
            else segment
        )
    return [segments[s][p] for s, p in zip(snapshot.segment_of, snapshot.positions, strict=True)]


def contents(store: Store) -> dict[str, list[Passage]]:
    """The passages of each document, in their order."""
    found: dict[str, list[Passage]] = {}
    for passage in store.passages(store.rows_where([])):
        found.setdefault(passage.document_id, []).append(passage)
    return found


def error(store: Store) -> float:
    """How far the vectors are from those of ``vectors`` or ``dense``: mean square over theirs."""
    snapshot = store.snapshot()
    texts = store.passages(snapshot.rows)
    if not texts:
        return 0.0
    wanted = dense(texts) if store.stats().kind == "dense" else vectors(texts).values_TD
    came = np.vstack(held(snapshot))
    assert came.shape == wanted.shape
    return float(((came - wanted) ** 2).mean() / (wanted**2).mean())
