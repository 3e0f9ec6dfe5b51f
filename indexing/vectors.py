"""Arrays that travel between encoders, indexes and metrics.

Axes: N texts, T tokens of all texts together, D width, B bytes of packed codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from flatcoat.errors import ConflictError, UsageError

from .array_checks import damaged

Id = TypeVar("Id", str, int)
"""What an index calls a text: a user's id (str), or a passage row of a store (int)."""


class Hits(NamedTuple, Generic[Id]):
    """Ranked results of one query: ids, and their scores (float32) in falling order."""

    ids: list[Id]
    scores: np.ndarray


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of N texts laid end to end, nothing padded.

    ``values_TD`` is float16 or float32 [T, D]; text ``i`` owns rows ``offsets[i]:offsets[i + 1]``,
    ``offsets`` int64 [N + 1]. Raises UsageError where the two do not fit together.
    """

    values_TD: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if self.values_TD.ndim != 2:
            raise UsageError(f"token vectors have shape {self.values_TD.shape}: two axes [T, D] are needed")
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.values_TD):
            raise UsageError(f"offsets must run from 0 to {len(self.values_TD)}, the number of token vectors")
        if np.any(np.diff(self.offsets) < 0):
            raise UsageError("offsets must never fall: text i owns rows offsets[i] to offsets[i + 1]")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        index %= len(self)
        return self.values_TD[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def width(self) -> int:
        """Components of one token vector."""
        return self.values_TD.shape[1]

    @staticmethod
    def from_list(matrices: Sequence[np.ndarray], width: int | None = None) -> "TokenVectors":
        """Lay per-text matrices [tokens, D] end to end; ``width`` is needed only for an empty list."""
        offsets = np.zeros(len(matrices) + 1, dtype=np.int64)
        np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
        if not len(matrices):
            return TokenVectors(np.zeros((0, width or 0), dtype=np.float32), offsets)
        return TokenVectors(np.concatenate(list(matrices)), offsets)


@dataclass(frozen=True)
class CodedTokens:
    """The token vectors of N texts as a codec wrote them, end to end.

    ``codes_T`` uint16, centroids; ``residuals_TB`` uint8, packed codes, the first in the lowest bits;
    ``scales_T2`` uint8, places of scale and norm in ``Codec.scales``; ``offsets`` int64 [N + 1], as in
    TokenVectors.
    """

    codes_T: np.ndarray
    residuals_TB: np.ndarray
    scales_T2: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


Vectors: TypeAlias = np.ndarray | TokenVectors
"""What an encoder returns: one vector per text [N, D], or one per token."""


class Shape(NamedTuple):
    """What two sets of vectors must share to be compared: ``kind`` is "dense" or "token"."""

    kind: str
    width: int

    @staticmethod
    def of(vectors: Vectors) -> "Shape":
        """The shape of ``vectors``; UsageError unless they are floating-point vectors [N, D] or [T, D]."""
        values = values_of(vectors)
        if not isinstance(values, np.ndarray):
            raise UsageError(f"vectors are a {type(values).__name__}: a numpy array [N, D] is needed")
        if values.ndim != 2:
            raise UsageError(f"vectors have shape {values.shape}: two axes [N, D] are needed")
        if not np.issubdtype(values.dtype, np.floating):
            raise UsageError(f"vectors are {values.dtype}: float16 or float32 is needed")
        return Shape("token" if isinstance(vectors, TokenVectors) else "dense", values.shape[1])

    def require(self, came: "Shape", what: str) -> None:
        """Raise ConflictError, naming ``what`` came, where it does not fit what the index holds."""
        advice = "encode both with the model that the index was made with"
        if came.kind != self.kind:
            raise ConflictError(f"{what} vectors are {came.kind}, index vectors are {self.kind}: {advice}")
        if came.width != self.width:
            raise ConflictError(f"{what} width {came.width} != index width {self.width}: {advice}")


def values_of(vectors: Vectors) -> np.ndarray:
    """The vectors of all texts, one after another [N or T, D]."""
    return vectors.values_TD if isinstance(vectors, TokenVectors) else vectors


def require_queries(queries: Vectors, k: int, *, shape: Shape | None) -> None:
    """Raise UsageError unless an index of this ``shape`` (None: an empty one) can look for ``k`` of each.

    A component beyond float16 is refused as one of a passage is: products of larger ones leave float32.
    Raises ConflictError where the queries are of another kind or width than the index.
    """
    require_count("k", k)
    came = Shape.of(queries)
    if shape:
        shape.require(came, "query")
    if not (np.abs(values_of(queries)) <= np.finfo(np.float16).max).all():
        raise UsageError("a query vector holds NaN, infinity or a number beyond float16 (65504)")


def require_count(name: str, value: int, *, least: int = 1) -> None:
    """Raise UsageError unless ``value`` is a whole number from ``least`` up."""
    if not isinstance(value, Integral):
        raise UsageError(f"{name} is {value!r}: a whole number is needed")
    if value < least:
        raise UsageError(f"{name} is {value}: at least {least} is needed")


def require_finite(scores: np.ndarray) -> None:
    """Raise StorageError where stored vectors gave a score of NaN or infinity, as damaged ones do."""
    if not np.isfinite(scores).all():
        raise damaged("a vector of the index")


class VectorIndex(Protocol[Id]):
    """The seam of every index: vectors in, the k best ids out."""

    @property
    def width(self) -> int:
        """Components of one vector; 0 while the index is empty."""
        ...

    def __len__(self) -> int: ...

    def search(
        self, queries: Vectors, k: int, *, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> list[Hits[Id]]:
        """The best ``k`` of the ``allowed`` rows (int64; None: all), best first, for each query.

        Of equals the one added first, which has the lowest row, comes first.
        ``recall`` is the share of the truly best ten that is to be found; UsageError where it cannot be.
        """
        ...
