"""Arrays that encoders, indexes and metrics exchange.

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
"""The name of a text in an index: a user's id (str), or a passage row of a store (int)."""


class Hits(NamedTuple, Generic[Id]):
    """Ranked results of one query: ids, and their scores (float32) in falling order.

    >>> hits = Hits(["sky", "sea"], np.array([0.75, 0.5], np.float32))
    >>> list(zip(hits.ids, hits.scores.tolist()))
    [('sky', 0.75), ('sea', 0.5)]
    """

    ids: list[Id]
    scores: np.ndarray


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of N texts laid end to end, nothing padded.

    ``values_TD`` is float16 or float32 [T, D]; text ``i`` owns rows ``offsets[i]:offsets[i + 1]``,
    ``offsets`` int64 [N + 1]. Raises UsageError where the two do not fit together.

    >>> vectors = TokenVectors.from_list([np.zeros((3, 128), np.float32), np.zeros((2, 128), np.float32)])
    >>> len(vectors), vectors.width, vectors.offsets.tolist()
    (2, 128, [0, 3, 5])
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
    """The token vectors of N texts as coded by a ``Codec``, laid end to end.

    ``codes_T`` uint16, centroids; ``residuals_TB`` uint8, packed codes, the first in the lowest bits;
    ``scales_T2`` uint8, indices of scale and norm in ``Codec.scales``; ``offsets`` int64 [N + 1], as in
    TokenVectors.
    """

    codes_T: np.ndarray
    residuals_TB: np.ndarray
    scales_T2: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


class InvertedLists(NamedTuple):
    """The list of centroid ``k`` is ``passages[offsets[k]:offsets[k + 1]]``.

    ``passages`` (uint16) are positions in a segment, ``offsets`` uint32 [K + 1].
    """

    passages: np.ndarray
    offsets: np.ndarray


Vectors: TypeAlias = np.ndarray | TokenVectors
"""The output of an encoder: one vector per text [N, D], or one per token."""


class Shape(NamedTuple):
    """The kind of vectors, "dense" or "token", and their width: vectors of equal shape can be compared.

    >>> Shape.of(np.zeros((3, 384), np.float32))
    Shape(kind='dense', width=384)
    """

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

    def require(self, other: "Shape", what: str) -> None:
        """Raise ConflictError unless ``what`` vectors of shape ``other`` fit an index of this shape."""
        advice = "encode both with the model that the index was made with"
        if other.kind != self.kind:
            raise ConflictError(f"{what} vectors are {other.kind}, index vectors are {self.kind}: {advice}")
        if other.width != self.width:
            raise ConflictError(f"{what} width {other.width} != index width {self.width}: {advice}")


def values_of(vectors: Vectors) -> np.ndarray:
    """The vectors of all texts, laid end to end [N or T, D]."""
    return vectors.values_TD if isinstance(vectors, TokenVectors) else vectors


def concatenated(chunks: Sequence[Vectors]) -> Vectors:
    """The vectors of several batches as one: at least one, all of the same kind."""
    tokens = [chunk for chunk in chunks if isinstance(chunk, TokenVectors)]
    if not tokens:
        return np.concatenate([chunk for chunk in chunks if not isinstance(chunk, TokenVectors)])
    sizes_N = np.concatenate([np.diff(chunk.offsets) for chunk in tokens])
    offsets = np.concatenate([[0], np.cumsum(sizes_N)])
    return TokenVectors(np.concatenate([chunk.values_TD for chunk in tokens]), offsets)


def require_ids(ids: Sequence[str], vectors: Vectors) -> None:
    """Raise UsageError unless there is one id per vector or token matrix."""
    if len(ids) != len(vectors):
        raise UsageError(f"{len(ids)} ids for {len(vectors)} vectors: one id per vector is needed")


def require_queries(queries: Vectors, k: int, *, shape: Shape | None) -> None:
    """Raise UsageError unless ``queries`` and ``k`` are valid for an index of this ``shape`` (None: empty).

    Components beyond float16 are refused as in passages: their products would overflow float32. Raises
    ConflictError where the queries are of another kind or width than the index.
    """
    require_count("k", k)
    query_shape = Shape.of(queries)
    if shape:
        shape.require(query_shape, "query")
    if not (np.abs(values_of(queries)) <= np.finfo(np.float16).max).all():
        raise UsageError("a query vector holds NaN, infinity or a number beyond float16 (65504)")


def require_count(name: str, value: int, *, least: int = 1) -> None:
    """Raise UsageError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, Integral):
        raise UsageError(f"{name} is {value!r}: a whole number is needed")
    if value < least:
        raise UsageError(f"{name} is {value}: at least {least} is needed")


def require_finite(scores: np.ndarray) -> None:
    """Raise StorageError for scores of NaN or infinity, the scores of damaged vectors."""
    if not np.isfinite(scores).all():
        raise damaged("a vector of the index")


class VectorIndex(Protocol[Id]):
    """The interface of every index: query vectors in, the k best ids per query out."""

    @property
    def width(self) -> int:
        """Components of one vector; 0 while the index is empty."""
        ...

    def __len__(self) -> int: ...

    def search(
        self, queries: Vectors, k: int, *, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> list[Hits[Id]]:
        """The ``k`` best of the ``allowed`` rows (int64; None: all) per query, best first.

        Equal scores are in the order of their rows, the order of adding. ``recall`` is the target recall@10
        against exact search; UsageError where it is out of reach.
        """
        ...
