"""Kinds of FAISS index, by https://github.com/facebookresearch/faiss/wiki/The-index-factory and metric."""

import math
import re
from dataclasses import dataclass
from typing import Any, get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.metric import Metric

_IVF_OF_ANY_SIZE = re.compile(r"IVF(?=[,_]|$)")
_VECTORS_PER_LIST = 39  # FAISS warns about fewer training vectors per centroid


@dataclass(frozen=True)
class FaissSettings:
    """A ``factory`` string of FAISS, and the ``metric``: inner product, or cosine of vectors of any length.

    Beyond FAISS's own syntax, ``IVF`` without a number has a number of lists by the size of the collection,
    about 4 sqrt(N). Factories that begin with B keep one bit per component, its sign.

        Flat                      all vectors in float32, scanned
        HNSW32                    the same in a graph; HNSW32_SQfp16 in half the memory
        IVF,SQ8                   inverted lists of vectors in bytes
        OPQ32,IVF,PQ32            inverted lists of vectors in 32 bytes each
        BFlat BHNSW32 BIVF        sign bits: scanned, in a graph, in inverted lists

    >>> FaissSettings("BHNSW32", metric="cosine").is_binary
    True
    """

    factory: str = "HNSW32"
    metric: Metric = "ip"

    @property
    def is_binary(self) -> bool:
        """Whether vectors are kept as sign bits."""
        return self.factory.startswith("B")

    @property
    def is_cosine(self) -> bool:
        """Whether vectors and queries are divided by their lengths."""
        return self.metric == "cosine"

    def validate(self, width: int) -> None:
        """Raise UsageError where FAISS has no such index for vectors of this ``width``."""
        if self.metric not in get_args(Metric):
            raise UsageError(f"FAISS metric is {self.metric!r}: {' or '.join(get_args(Metric))} is needed")
        self.create(width, 0)

    def create(self, width: int, vectors: int) -> Any:
        """An empty FAISS index for this number of ``vectors``; UsageError where FAISS has none."""
        faiss = load_faiss()
        lists = max(1, min(round(4 * math.sqrt(vectors)), vectors // _VECTORS_PER_LIST))
        factory = _IVF_OF_ANY_SIZE.sub(f"IVF{lists}", self.factory)
        try:
            if self.is_binary:
                return faiss.index_binary_factory(width, factory)
            index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise self._unusable(width, reason(error)) from error
        if isinstance(index, faiss.IndexIDMap):
            raise self._unusable(width, "passage rows are the ids of every index here, leave IDMap out")
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise self._unusable(width, "FAISS has it for Euclidean distances only")
        return index

    def _unusable(self, width: int, why: str) -> UsageError:
        return UsageError(
            f"FAISS factory {self.factory!r} does not suit vectors of width {width} ({why}): "
            "choose for example HNSW32, IVF,SQ8 or, for one bit per component, BHNSW32"
        )


def load_faiss() -> Any:
    """The faiss module: loaded on first use, and untyped, as its stubs lack half of its names."""
    import faiss

    return faiss


def reason(error: Exception) -> str:
    """FAISS's message, without the place in its sources."""
    message = re.sub(r"^Error in .* at \S+:\d+: (Error: )?", "", str(error), flags=re.DOTALL)
    return message or type(error).__name__
