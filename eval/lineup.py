"""Which systems one command measures: every model over every index, BM25, and what is made of these."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import FlatcoatError
from ..indexing.engines import EngineSettings, Name

if TYPE_CHECKING:
    from .costs import Searched
    from .datasets import RetrievalDataset
    from .systems import Progress, System

_INDEX = re.compile(r"(exact|auto|plaid|faiss)(?::(.+))?")


@dataclass(frozen=True)
class Lineup:
    """What to measure. ``models`` are names or folders (None: the shipped one).

    ``indexes`` are engines as ``parse_index`` reads them; ``hybrid`` adds the fusion of every model with
    BM25, ``reranker`` the model that scores the ``k`` best of every system again.
    """

    models: tuple[str | None, ...] = (None,)
    indexes: tuple[str, ...] = ("exact",)
    recall: float | None = None
    bm25: bool = True
    hybrid: bool = False
    reranker: str | None = None
    k: int = 100

    def systems(self) -> "Iterator[System]":
        """Load each model, and yield the systems in the order of a table."""
        from ..retrieval.load import load_encoder
        from .systems import Bm25System, EncoderSystem, HybridSystem

        engines = [parse_index(text) for text in self.indexes]
        reranker = self._load_reranker()
        lexical = Once(Bm25System())
        if self.bm25:
            yield from self._with_reranked(lexical, reranker)
        for model in self.models:
            encoder = load_encoder(model)
            for engine in engines:
                recall = self.recall if engine.name == "plaid" else None
                # As the user named it: the last folders of two paths may well be the same.
                system = Once(EncoderSystem(encoder, engine, recall, label=model or ""))
                yield from self._with_reranked(system, reranker)
                if self.hybrid:
                    yield from self._with_reranked(HybridSystem(system, lexical), reranker)

    def _load_reranker(self) -> Any:
        from ..retrieval.rerank import load_reranker

        return self.reranker and load_reranker(self.reranker)

    def _with_reranked(self, system: "System", reranker: Any) -> "Iterator[System]":
        from .systems import RerankSystem

        yield system
        if reranker:
            yield RerankSystem(system, reranker, self.k)


@dataclass
class Once:
    """A system that answers for itself, and for what is fused or reranked from it, by one search."""

    system: "System"
    _last: "tuple[Any, Searched] | None" = field(default=None, init=False)

    @property
    def name(self) -> str:
        """The system's own."""
        return self.system.name

    def describe(self) -> dict[str, Any]:
        """The system's own."""
        return self.system.describe()

    def search(
        self, dataset: "RetrievalDataset", k: int, folder: Path | None, on_progress: "Progress"
    ) -> "Searched":
        """What was found before, if the same was the last to be asked."""
        asked = (dataset.name, dataset.split, dataset.revision, k)
        if self._last is None or self._last[0] != asked:
            self._last = asked, self.system.search(dataset, k, folder, on_progress)
        return self._last[1]


def parse_index(text: str) -> EngineSettings:
    """``exact``, ``auto``, ``plaid``, ``plaid:BITS``, ``faiss`` or ``faiss:FACTORY`` as settings.

    Raises FlatcoatError for anything else.
    """
    match = _INDEX.fullmatch(text)
    name, detail = match.groups() if match else ("exact", None)
    settings = EngineSettings(cast(Name, name))
    if detail and name == "plaid" and detail.isdigit():
        settings = replace(settings, bits=int(detail))
    elif detail and name == "faiss":
        settings = replace(settings, factory=detail)
    elif detail or not match:
        raise FlatcoatError(
            f"no index {text!r}: exact, auto, plaid, plaid:BITS, faiss, faiss:FACTORY are known"
        )
    settings.validate()
    return settings
