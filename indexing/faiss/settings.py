"""Which FAISS index to make, said as FAISS says it: https://github.com/facebookresearch/faiss/wiki/The-index-factory"""

import math
import re
from dataclasses import dataclass
from typing import Any, get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.metric import Metric

_IVF_OF_ANY_SIZE = re.compile(r"IVF(?=[,_]|$)")
_POINTS_EACH = 39  # vectors that FAISS wants to place one centroid by


@dataclass(frozen=True)
class FaissSettings:
    """A ``factory`` string of FAISS, and the ``metric``: inner product, or cosine of vectors of any length.

    Beyond FAISS's own syntax, ``IVF`` without a number gets as many lists as suit the collection, about
    4 sqrt(N). Factories that begin with B keep one bit per component, its sign.

        Flat                      all vectors in float32, scanned
        HNSW32                    the same in a graph; HNSW32_SQfp16 in half the memory
        IVF,SQ8                   inverted lists of vectors in bytes
        OPQ32,IVF,PQ32            inverted lists of vectors in 32 bytes each
        BFlat BHNSW32 BIVF        sign bits: scanned, in a graph, in inverted lists
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
        """Raise UsageError where FAISS has no such index of vectors this wide."""
        if self.metric not in get_args(Metric):
            raise UsageError(f"FAISS metric is {self.metric!r}: {' or '.join(get_args(Metric))} is needed")
        self.create(width, 0)

    def create(self, width: int, vectors: int) -> Any:
        """An empty FAISS index for so many ``vectors``; UsageError where FAISS has none."""
        faiss = load_faiss()
        lists = max(1, min(round(4 * math.sqrt(vectors)), vectors // _POINTS_EACH))
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
    """The faiss module: loaded when it is needed, and of no type, as its stubs lack half of its names."""
    import faiss

    return faiss


def reason(error: Exception) -> str:
    """What FAISS says, without where in its sources it says so."""
    said = re.sub(r"^Error in .* at \S+:\d+: (Error: )?", "", str(error), flags=re.DOTALL)
    return said or type(error).__name__
