"""The systems that one ``flatcoat eval`` command measures: models x engines, BM25, fusions, rerankings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flatcoat.errors import UsageError
from flatcoat.indexing.store.engines import EngineSettings, Name

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.rerank import Reranker

    from .costs import OnProgress
    from .datasets import RetrievalDataset
    from .systems import MeasuredRun, System

_ENGINE = re.compile(r"(exact|auto|plaid|faiss)(?::(.+))?")


@dataclass(frozen=True, kw_only=True)
class SystemSelection:
    """Which systems to measure. ``models`` are names or folders (None: the shipped model).

    ``engines`` are written as ``parse_engine`` reads them; ``recall`` is PLAID's target recall; ``hybrid``
    adds the fusion of every model with BM25; ``reranker`` names a model that scores the ``k`` best of every
    system again.

    >>> [system.name for system in SystemSelection(models=()).systems()]
    ['BM25']
    """

    models: tuple[str | None, ...] = (None,)
    engines: tuple[str, ...] = ("exact",)
    recall: float | None = None
    bm25: bool = True
    hybrid: bool = False
    reranker: str | None = None
    k: int = 100

    def systems(self, document_length: int | None = None) -> "Iterator[System]":
        """The systems in the order of the table; encoders read ``document_length`` tokens per document.

        A model is loaded on first use, and kept.
        """
        from .combined_systems import HybridSystem
        from .systems import Bm25System, EncoderSystem

        engines = [parse_engine(text) for text in self.engines]
        bm25 = CachedSystem(Bm25System())
        if self.bm25:
            yield from self._with_reranked(bm25)
        for model, encoder in zip(self.models, self._encoders, strict=True):
            encoder.truncate_documents(document_length)
            for engine in engines:
                recall = self.recall if engine.name == "plaid" else None
                # As the user named it: the last folders of two paths may well be the same.
                system = CachedSystem(EncoderSystem(encoder, engine, recall, label=model or ""))
                yield from self._with_reranked(system)
                if self.hybrid:
                    yield from self._with_reranked(HybridSystem(system, bm25))

    @cached_property
    def _encoders(self) -> "list[Encoder]":
        from flatcoat.retrieval.encoders.load import load_encoder

        return [load_encoder(model) for model in self.models]

    @cached_property
    def _reranker(self) -> "Reranker | None":
        from flatcoat.retrieval.rerank import load_reranker

        return load_reranker(self.reranker) if self.reranker else None

    def _with_reranked(self, system: "System") -> "Iterator[System]":
        from .combined_systems import RerankSystem

        yield system
        if self._reranker:
            yield RerankSystem(system, self._reranker, self.k)


class _Query(NamedTuple):
    """Whatever a cached run depends on, beside the system."""

    dataset: str
    split: str
    revision: str
    k: int


@dataclass
class CachedSystem:
    """A system that remembers its last run: its fusions and rerankings search no second time."""

    system: "System"
    _last: "tuple[_Query, MeasuredRun] | None" = field(default=None, init=False)

    @property
    def name(self) -> str:
        """The system's name."""
        return self.system.name

    def describe(self) -> dict[str, Any]:
        """The system's settings."""
        return self.system.describe()

    def search(
        self,
        dataset: "RetrievalDataset",
        k: int,
        *,
        folder: Path | None = None,
        on_progress: "OnProgress" = lambda done, total: None,
    ) -> "MeasuredRun":
        """The last run again where data set and ``k`` are the same, otherwise a new one."""
        query = _Query(dataset.name, dataset.split, dataset.revision, k)
        if self._last is None or self._last[0] != query:
            self._last = query, self.system.search(dataset, k, folder=folder, on_progress=on_progress)
        return self._last[1]


def parse_engine(text: str) -> EngineSettings:
    """``exact``, ``auto``, ``plaid``, ``plaid:BITS``, ``faiss`` or ``faiss:FACTORY`` as settings.

    Raises UsageError for anything else.

    >>> parse_engine("plaid:2").bits
    2
    """
    match = _ENGINE.fullmatch(text)
    name, detail = match.groups() if match else ("exact", None)
    settings = EngineSettings(cast(Name, name))
    if detail and name == "plaid" and detail.isdigit():
        settings = replace(settings, bits=int(detail))
    elif detail and name == "faiss":
        settings = replace(settings, factory=detail)
    elif detail or not match:
        raise UsageError(f"no index {text!r}: exact, auto, plaid, plaid:BITS, faiss, faiss:FACTORY are known")
    settings.validate()
    return settings
