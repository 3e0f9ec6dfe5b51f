"""Which engine searches an index: chosen when it is made, and by its size where it is to choose by itself."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.metric import Metric

if TYPE_CHECKING:
    from flatcoat.indexing.snapshot import Snapshot
    from flatcoat.indexing.vectors import Shape, VectorIndex

Name = Literal["auto", "exact", "plaid", "faiss"]

PLAID_FROM = 1 << 17
"""Token vectors from which "auto" codes them: fewer are searched exactly in no more time."""

FAISS_FROM = 50_000
"""Dense vectors from which "auto" gives them a FAISS index."""


@dataclass(frozen=True)
class EngineSettings:
    """``exact`` scores every vector, ``plaid`` codes token vectors, ``faiss`` indexes dense ones.

    ``auto`` is exact while the index is small, then whichever of the two fits the vectors. ``bits`` (1, 2 or
    4 per dimension) and ``centroids`` (None: by the number of tokens) are PLAID's; ``factory`` (what
    faiss.index_factory takes) is FAISS's; ``metric`` is how dense vectors are compared.
    """

    name: Name = "auto"
    bits: int = 4
    centroids: int | None = None
    factory: str = "HNSW32"
    metric: Metric = "ip"

    def validate(self) -> None:
        """Raise FlatcoatError where a value is none of those possible."""
        _require("engine", self.name, get_args(Name))
        _require("bits", self.bits, (1, 2, 4))
        _require("metric", self.metric, get_args(Metric))
        if not isinstance(self.factory, str):
            raise FlatcoatError(f"factory is {self.factory!r}: a text as faiss.index_factory takes is needed")
        if self.centroids is not None and not (
            type(self.centroids) is int and 1 <= self.centroids <= 1 << 16
        ):
            raise FlatcoatError(f"centroids is {self.centroids!r}: from 1 to {1 << 16:,} are possible")

    def validate_for(self, shape: "Shape") -> None:
        """Raise FlatcoatError where vectors of this ``shape`` cannot be searched so."""
        if (self.name, shape.kind) in (("plaid", "dense"), ("faiss", "token")):
            fits = "faiss" if shape.kind == "dense" else "plaid"
            raise FlatcoatError(
                f"engine {self.name!r} does not search {shape.kind} vectors: "
                f"make the index with engine {fits!r}, 'exact' or 'auto'"
            )
        if shape.kind == "token" and self.metric != AUTO.metric:
            raise FlatcoatError(f"metric {self.metric!r} is of dense vectors, token vectors take 'ip'")
        if shape.kind == "dense" and self.factory != AUTO.factory:
            self.faiss().validate(shape.width)

    def faiss(self) -> FaissSettings:
        """What FAISS is to build."""
        return FaissSettings(self.factory, self.metric)

    def wanted(self, kind: str, vectors: int) -> Name:
        """The engine for so many vectors of this ``kind`` ("dense" or "token"); never "auto"."""
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
        """What ``to_json`` gave; FlatcoatError where it is anything else."""
        try:
            settings = EngineSettings(**values)
            settings.validate()
        except (TypeError, FlatcoatError) as error:
            raise FlatcoatError(f"the engine of the index is none that is known ({error})") from error
        return settings


AUTO = EngineSettings()


def _require(what: str, came: object, possible: tuple[object, ...]) -> None:
    if came not in possible:
        raise FlatcoatError(f"{what} is {came!r}: {', '.join(map(str, possible))} are possible")


def open_index(snapshot: "Snapshot", settings: EngineSettings) -> "VectorIndex[int]":
    """The engine that the snapshot is ready for: PLAID with a codec, FAISS with its file, exact otherwise."""
    if snapshot.codec:
        from flatcoat.indexing.plaid.index import PlaidIndex

        return PlaidIndex.from_snapshot(snapshot)
    if snapshot.faiss:
        from flatcoat.indexing.faiss.index import FaissIndex

        return FaissIndex.from_snapshot(snapshot, snapshot.faiss, settings=settings.faiss())
    from flatcoat.indexing.exact import ExactIndex

    return ExactIndex.from_snapshot(snapshot, metric=settings.metric)
