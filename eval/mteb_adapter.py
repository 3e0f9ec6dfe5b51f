"""The mteb adapter: systems of ours in mteb's runner, ``mteb.evaluate(Searcher(encoder, engine), tasks)``.

Source: mteb.models.models_protocols.SearchProtocol, mteb 2.26.
"""

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.errors import UsageError
from flatcoat.eval.systems.system import EXACT, EncoderSystem, System
from flatcoat.indexing.store.engines import EngineSettings

from .datasets import Corpus, RetrievalDataset
from .mteb_tasks import HubCorpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta

    from flatcoat.retrieval.encoders.encoder import Encoder


class SystemSearcher:
    """Any system as mteb's search protocol; ``folder`` keeps its indexes, one sub-folder per data set.

    >>> from flatcoat.eval.systems.system import Bm25System
    >>> searcher = SystemSearcher(Bm25System())
    >>> mteb.evaluate(searcher, mteb.get_task("NFCorpus"))  # doctest: +SKIP
    """

    def __init__(self, system: System, folder: Path | None = None) -> None:
        self.system = system
        self._folder = folder
        self._corpus: Corpus | None = None

    @cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        """A name and a revision, the key of mteb's cache: different wherever results may differ."""
        from mteb.models.model_meta import ModelMeta

        described = json.dumps(self.system.describe(), sort_keys=True).encode()
        name = re.sub(r"[^\w.+-]+", "-", Path(self.system.name).name).strip("-")
        revision = hashlib.sha256(described).hexdigest()[:16]
        return ModelMeta.create_empty({"name": f"flatcoat/{name}", "revision": revision})

    def index(self, corpus: "Dataset", **_: Any) -> None:
        """Remember a corpus with columns id, text and optionally title; ``search`` reads it."""
        self._corpus = HubCorpus(corpus)

    def search(
        self,
        queries: "Dataset",
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: "Mapping[str, list[str]] | None" = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """The run, with self-hits, which mteb leaves out. UsageError for a reranking task."""
        name = f"{task_metadata.name}.{hf_subset}.{hf_split}"
        if top_ranked:
            raise UsageError(f"{name} gives the documents to rank: only whole corpora are searched here")
        if self._corpus is None:
            raise UsageError(f"{name} is searched before it is indexed: call index(corpus) first")
        texts = {str(row["id"]): _query_text(row) for row in queries.to_list()}
        dataset = RetrievalDataset(name, hf_split, self._corpus, texts, {})
        folder = self._folder / str(self.mteb_model_meta.revision) / name if self._folder else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        return self.system.search(dataset, top_k, folder=folder).run


class Searcher(SystemSearcher):
    """An encoder with an engine (``EncoderSystem``) as mteb's search protocol."""

    def __init__(
        self, encoder: "Encoder", engine: EngineSettings = EXACT, *, folder: Path | None = None
    ) -> None:
        super().__init__(EncoderSystem(encoder, engine), folder)


def _query_text(row: dict[str, Any]) -> str:
    """The query and its instruction, as mteb joins them for every encoder."""
    instruction = row.get("instruction")
    return f"{row['text']} {instruction}" if instruction else row["text"]
