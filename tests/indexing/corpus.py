"""Small passages and vectors, the same every time, for the tests of the store."""

import numpy as np

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.types import TokenVectors

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
