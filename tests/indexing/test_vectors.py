"""TokenVectors: what fits together and what does not."""

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.vectors import TokenVectors


def test_from_list_and_back() -> None:
    matrices = [np.full((n, 3), n, dtype=np.float16) for n in (2, 0, 1)]
    vectors = TokenVectors.from_list(matrices)
    assert (len(vectors), vectors.width) == (3, 3)
    assert all(np.array_equal(a, b) for a, b in zip(vectors, matrices, strict=True))
    assert np.array_equal(vectors[-1], matrices[-1])
    with pytest.raises(IndexError):
        vectors[3]


def test_an_empty_list_has_the_width_it_is_given() -> None:
    assert TokenVectors.from_list([], width=5).width == 5


@pytest.mark.parametrize("offsets", [[], [0, 3], [1, 2], [0, 2, 1, 2]])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    with pytest.raises(FlatcoatError, match="offsets must"):
        TokenVectors(np.zeros((2, 4), np.float32), np.array(offsets, dtype=np.int64))
