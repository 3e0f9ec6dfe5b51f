"""What search engines are measured on: passages' token vectors in a file, queries', and who judged what.

Vectors lie in float16, as flatcoat's own indexes keep them; every engine gets the same numbers. They are
written block by block and mapped when read, so that a collection may be larger than memory.

Axes: T tokens of all passages together, D width.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from ..indexing.types import TokenVectors


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
