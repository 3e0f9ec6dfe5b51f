"""The systems that one ``flatcoat eval`` command measures: BM25, models x engines, search, rerankings."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.store.engines import EngineSettings, Name
from flatcoat.retrieval.results import Mode

if TYPE_CHECKING:
    from flatcoat.eval.costs import OnProgress
    from flatcoat.eval.datasets import RetrievalDataset
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.rerank import Reranker

    from .search import SearchIndex
    from .system import MeasuredRun, System

_ENGINE = re.compile(r"(exact|auto|plaid|faiss)(?::(.+))?")


@dataclass(frozen=True, kw_only=True)
class SystemSelection:
    """Which systems to measure. ``models`` are names or folders (None: the shipped model).

    ``alone`` measures models over whole documents with ``engines``. These are written as ``parse_engine``
    reads them, or are folders or URLs of indexes that exist: flatcoat's search is measured on these, and on
    one of its own where there are none. ``recall`` is PLAID's target recall; ``modes`` are those of
    flatcoat's search; ``ablation`` leaves this search alone, with each ranking signal alone and with each
    left out; ``reranker`` names a model that scores the ``k`` best of every system again.
    Where several systems read a model's vectors these are kept in ``folder`` until ``forget``.

    >>> [system.name for system in SystemSelection(models=()).systems()]
    ['BM25']
    """

    models: tuple[str | None, ...] = (None,)
    engines: tuple[str, ...] = ("exact",)
    recall: float | None = None
    bm25: bool = True
    alone: bool = True
    modes: tuple[str, ...] = ("hybrid",)
    ablation: bool = False
    reranker: str | None = None
    k: int = 100
    folder: Path | None = None

    def systems(self, document_length: int | None = None) -> "Iterator[System]":
        """The systems in the order of the table; encoders read ``document_length`` tokens per document.

        A model is loaded on first use, and kept.
        """
        from flatcoat.eval.ablation import ablated_systems

        from .search import ExistingIndex, SearchSystem
        from .system import Bm25System, EncoderSystem

        modes: list[Mode] = [_mode(text) for text in self.modes]
        if self.bm25 and not self.ablation:
            yield from self._with_reranked(Bm25System())
        for label, index in zip(self.labels, self.indexes, strict=True):
            index.encoder.truncate_documents(document_length)
            if self.ablation:
                yield from ablated_systems(index, modes, label=label)
                continue
            for engine in self._engines:
                recall = self.recall if engine.name == "plaid" else None
                yield from self._with_reranked(EncoderSystem(index.encoder, engine, recall, label=label))
            for mode in modes:
                places = list(filter(is_place, self.engines))
                for place in places:
                    existing = ExistingIndex(index.encoder, place)
                    yield from self._with_reranked(SearchSystem(existing, mode, label=place))
                if not places:
                    yield from self._with_reranked(SearchSystem(index, mode, label=label))

    @property
    def _engines(self) -> list[EngineSettings]:
        """The engines that search whole documents."""
        return [parse_engine(one) for one in self.engines if self.alone and not is_place(one)]

    @cached_property
    def labels(self) -> list[str]:
        """The name of each model in tables: a hub name as it is, of a folder the end of its path."""
        return labels(self.models)

    @cached_property
    def indexes(self) -> "list[SearchIndex]":
        """An index for flatcoat's search by model, with the encoder that all systems of the model share."""
        from .cached_encoder import CachedEncoder
        from .search import SearchIndex

        readers = 1 if self.ablation else len(self._engines) + bool(self.modes)
        folder = self.folder if readers > 1 else None
        return [SearchIndex(CachedEncoder(_load(model), folder)) for model in self.models]

    def forget(self) -> None:
        """Delete indexes and kept vectors: the next data set has other texts."""
        for index in self.indexes:
            index.close()
            index.encoder.forget()

    @cached_property
    def _reranker(self) -> "Reranker | None":
        from flatcoat.retrieval.rerank import load_reranker

        return load_reranker(self.reranker) if self.reranker else None

    def _with_reranked(self, system: "System") -> "Iterator[System]":
        from .rerank import RerankSystem

        if not self._reranker:
            yield system
            return
        first = CachedSystem(system)
        yield first
        yield RerankSystem(first, self._reranker, self.k, label=labels([self.reranker])[0])


class _Query(NamedTuple):
    """Whatever a cached run depends on, beside the system."""

    dataset: str
    split: str
    revision: str
    k: int


@dataclass
class CachedSystem:
    """A system that remembers its last run: to rerank it searches no second time."""

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


def _load(model: str | None) -> "Encoder":
    """The encoder, in the precision in which an index by it is computed here."""
    from flatcoat.retrieval.encoders.load import fast_here, index_precision, load_encoder

    precision = index_precision(model)
    return load_encoder(model, fast_here(precision) if precision else None)


def is_place(text: str) -> bool:
    """Whether this is the URL or folder of an index that exists, and no engine.

    >>> is_place("s3://bucket/wiki"), is_place("plaid:2")
    (True, False)
    """
    return "://" in text or (_ENGINE.fullmatch(text) is None and Path(text).is_dir())


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


def labels(models: Sequence[str | None]) -> list[str]:
    """Names to tell models apart by: of a folder as much of the end of its path as no other one shares."""
    folders = [Path(model).resolve().parts if model and Path(model).is_dir() else () for model in models]
    return [
        _end_of(folder, [*folders[:place], *folders[place + 1 :]]) if folder else model or ""
        for place, (model, folder) in enumerate(zip(models, folders, strict=True))
    ]


def _end_of(folder: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    lengths = range(1, len(folder))
    alone = (n for n in lengths if all(other[-n:] != folder[-n:] for other in others))
    return "/".join(folder[-next(alone, len(folder)) :])


def _mode(text: str) -> Mode:
    if text not in (known := get_args(Mode)):
        raise UsageError(f"no mode {text!r}: {', '.join(known)} are known")
    return cast(Mode, text)
