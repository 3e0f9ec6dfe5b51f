"""The engine that searches an index: named when the index is made, or chosen by its size ("auto")."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from flatcoat.errors import ConflictError, StorageError, UsageError
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.metric import Metric

if TYPE_CHECKING:
    from flatcoat.indexing.snapshot import Snapshot
    from flatcoat.indexing.vectors import Shape, VectorIndex

Name = Literal["auto", "exact", "plaid", "faiss"]

PLAID_FROM = 1 << 17
"""Token vectors from which "auto" takes PLAID: fewer are searched exactly in no more time."""

FAISS_FROM = 50_000
"""Dense vectors from which "auto" takes FAISS."""


@dataclass(frozen=True)
class EngineSettings:
    """Name and settings of an engine.

    ``exact`` scores every vector, ``plaid`` encodes token vectors, ``faiss`` indexes dense ones; ``auto`` is
    exact while the index is small, then PLAID or FAISS as fits the vectors. PLAID takes ``bits`` (1, 2 or 4
    per dimension) and ``centroids`` (None: by the number of tokens), FAISS ``factory`` (a string for
    faiss.index_factory). ``metric`` is the similarity of dense vectors.

    >>> EngineSettings().engine_for("dense", vectors=10**6)
    'faiss'
    """

    name: Name = "auto"
    bits: int = 4
    centroids: int | None = None
    factory: str = "HNSW32"
    metric: Metric = "ip"

    def validate(self) -> None:
        """Raise UsageError where a value is not among the possible ones."""
        _require("engine", self.name, get_args(Name))
        _require("bits", self.bits, (1, 2, 4))
        _require("metric", self.metric, get_args(Metric))
        if not isinstance(self.factory, str):
            raise UsageError(f"factory is {self.factory!r}: a text as faiss.index_factory takes is needed")
        if self.centroids is not None and not (
            type(self.centroids) is int and 1 <= self.centroids <= 1 << 16
        ):
            raise UsageError(f"centroids is {self.centroids!r}: from 1 to {1 << 16:,} are possible")

    def validate_for(self, shape: "Shape") -> None:
        """Raise ConflictError where the engine does not search vectors of this ``shape``."""
        if (self.name, shape.kind) in (("plaid", "dense"), ("faiss", "token")):
            fits = "faiss" if shape.kind == "dense" else "plaid"
            raise ConflictError(
                f"engine {self.name!r} does not search {shape.kind} vectors: "
                f"make the index with engine {fits!r}, 'exact' or 'auto'"
            )
        if shape.kind == "token" and self.metric != AUTO.metric:
            raise ConflictError(f"metric {self.metric!r} is of dense vectors, token vectors take 'ip'")
        if shape.kind == "dense" and self.factory != AUTO.factory:
            self.faiss().validate(shape.width)

    def faiss(self) -> FaissSettings:
        """The settings of FAISS."""
        return FaissSettings(self.factory, self.metric)

    def engine_for(self, kind: str, vectors: int) -> Name:
        """The engine for a number of vectors of this ``kind`` ("dense" or "token"); never "auto"."""
        if self.name != "auto":
            return self.name
        if kind == "token":
            return "plaid" if vectors >= PLAID_FROM else "exact"
        return "faiss" if vectors >= FAISS_FROM else "exact"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Any) -> "EngineSettings":
        """The inverse of ``to_json``; StorageError where ``values`` has another form."""
        try:
            settings = EngineSettings(**values)
            settings.validate()
        except (TypeError, UsageError) as error:
            raise StorageError(f"the engine of the index is none that is known ({error})") from error
        return settings


AUTO = EngineSettings()


def _require(name: str, value: object, possible: tuple[object, ...]) -> None:
    if value not in possible:
        raise UsageError(f"{name} is {value!r}: {', '.join(map(str, possible))} are possible")


_are_few: ContextVar[bool] = ContextVar("few_searches", default=False)


@contextmanager
def few_searches() -> Iterator[None]:
    """In this block an index is searched once or twice, which is to begin at once: as from the shell."""
    token = _are_few.set(True)
    try:
        yield
    finally:
        _are_few.reset(token)


def open_index(snapshot: "Snapshot", settings: EngineSettings) -> "VectorIndex[int]":
    """The engine that the snapshot is for: PLAID with a codec, FAISS with its file, exact otherwise."""
    if snapshot.codec:
        from flatcoat.indexing.plaid.index import PlaidIndex
        from flatcoat.indexing.plaid.numpy_index import NumpyPlaidIndex

        if _are_few.get() and NumpyPlaidIndex.can_search(snapshot):
            return NumpyPlaidIndex(snapshot)
        return PlaidIndex.from_snapshot(snapshot)
    if snapshot.faiss:
        from flatcoat.indexing.faiss.index import FaissIndex

        return FaissIndex.from_snapshot(snapshot, snapshot.faiss, settings=settings.faiss())
    from flatcoat.indexing.exact import ExactIndex

    return ExactIndex.from_snapshot(snapshot, metric=settings.metric)
