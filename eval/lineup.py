"""Which systems one command measures: every model over every index, BM25, and what is made of these."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.store.engines import EngineSettings, Name

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.rerank import Reranker

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

    def systems(self, document_length: int | None = None) -> "Iterator[System]":
        """The systems in the order of a table, encoders cutting documents at so many tokens.

        Loads each model when it is first asked.
        """
        from .systems import Bm25System, EncoderSystem, HybridSystem

        engines = [parse_index(text) for text in self.indexes]
        lexical = Once(Bm25System())
        if self.bm25:
            yield from self._with_reranked(lexical)
        for model, encoder in zip(self.models, self._encoders, strict=True):
            encoder.read_documents(document_length)
            for engine in engines:
                recall = self.recall if engine.name == "plaid" else None
                # As the user named it: the last folders of two paths may well be the same.
                system = Once(EncoderSystem(encoder, engine, recall, label=model or ""))
                yield from self._with_reranked(system)
                if self.hybrid:
                    yield from self._with_reranked(HybridSystem(system, lexical))

    @cached_property
    def _encoders(self) -> "list[Encoder]":
        from flatcoat.retrieval.encoders.load import load_encoder

        return [load_encoder(model) for model in self.models]

    @cached_property
    def _reranker(self) -> "Reranker | None":
        from flatcoat.retrieval.rerank import load_reranker

        return load_reranker(self.reranker) if self.reranker else None

    def _with_reranked(self, system: "System") -> "Iterator[System]":
        from .systems import RerankSystem

        yield system
        if self._reranker:
            yield RerankSystem(system, self._reranker, self.k)


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
