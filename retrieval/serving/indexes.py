"""The indexes and models of a server, by name. Clients choose among them and can name no others."""

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import NotFoundError, UsageError
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.retriever import Retriever

from .batching import Batcher
from .settings import Settings
from .workers import giving_way

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.contract import Contract
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.encoders.tokenization import TokenSpan
    from flatcoat.retrieval.rerank import Reranker

    from .metrics import Metrics

_NAME = re.compile(r"[\w.-]{1,100}")


class ServedModel:
    """An encoder whose texts, from whatever thread they come, are encoded together with those of others.

    Queries are encoded in NumPy, each in its own thread, until torch is loaded: for the first document, or by
    ``load``.
    """

    def __init__(self, retriever: Retriever, settings: Settings, *, metrics: "Metrics") -> None:
        self._retriever = retriever
        self._encoder: Encoder | None = None
        folder = Path(self.contract.model)
        self.name = folder.name if folder.is_absolute() else self.contract.model
        """As clients name it: the path of a model is nobody's business."""
        tokens, note = settings.batch_tokens, metrics.note_batch
        self._documents = Batcher(self._encode_documents, name="documents", max_tokens=tokens, on_batch=note)
        self._queries = Batcher(self._encode_queries, name="queries", max_tokens=tokens, on_batch=note)

    @property
    def contract(self) -> "Contract":
        """The contract of the index, which the encoder is checked against when it is loaded."""
        return self._retriever.contract

    @property
    def waiting(self) -> int:
        """Texts that wait to be encoded."""
        return len(self._documents) + len(self._queries)

    def load(self) -> "Encoder":
        """The encoder in torch, loaded at the first use."""
        self._encoder = self._retriever.encoder
        return self._encoder

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, in order."""
        if self._encoder is None:
            return self._retriever.query_encoder.encode_queries(texts)
        with giving_way():
            return self._joined(self._queries.submit(texts).result())

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents, in order."""
        return self._joined(self._documents.submit(texts).result())

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens included, without truncation."""
        return self._retriever.query_encoder.token_counts(texts, is_query=is_query)

    def truncate_documents(self, length: int | None) -> None:
        """Refused: a model that is served reads what its index was made with."""
        raise UsageError(f"the length of documents is that of the index, not {length}")

    def close(self) -> None:
        """Encode what was submitted, and end the threads."""
        self._documents.close()
        self._queries.close()

    def _encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self.load().encode_documents(texts)

    def _encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.load().encode_queries(texts)

    def _joined(self, vectors: list[np.ndarray]) -> Vectors:
        if self.contract.kind == "colbert":
            return TokenVectors.from_list(vectors, self.contract.width)
        return np.stack(vectors) if vectors else np.empty((0, self.contract.width), np.float32)


class ServedLateModel(ServedModel):
    """One with a vector per token, which explains its scores."""

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> "list[list[TokenSpan]]":
        """The token behind each vector of each text."""
        from flatcoat.retrieval.explain import LateInteraction

        encoder = self._retriever.query_encoder
        assert isinstance(encoder, LateInteraction)
        return encoder.token_spans(texts, is_query=is_query)


class ServedIndex:
    """An index by the name that clients use; one without vectors has no ``model``."""

    def __init__(self, name: str, retriever: Retriever, model: ServedModel | None) -> None:
        self.name = name
        self.model = model
        self.retriever = retriever if model is None else retriever.with_model(model)


class Served:
    """All indexes and models of a server, and the reranker if it has one."""

    def __init__(
        self,
        folders: dict[str, Path | str],
        settings: Settings,
        *,
        metrics: "Metrics",
        model: str | None = None,
        reranker: str | None = None,
    ) -> None:
        """Opens the index in each folder, or the collection at each URL; those of the same model share it.

        ``model`` names the model that made them, for one that only its own library reads.
        """
        self.indexes: dict[str, ServedIndex] = {}
        self.models: list[ServedModel] = []
        self._reranker_name = reranker
        self._reranker: Reranker | None = None
        self._loading = Lock()
        for name, folder in folders.items():
            retriever = Retriever.open(folder, model)
            self.indexes[name] = ServedIndex(name, retriever, self._model_of(retriever, settings, metrics))
        self.hidden_paths = {str(index.retriever.path): name for name, index in self.indexes.items()}
        self.hidden_paths |= {str(folder): name for name, folder in folders.items()}
        self.hidden_paths |= {one.contract.model: one.name for one in self.models}
        """Paths that stand in messages, and what clients read in their place."""

    def _model_of(self, retriever: Retriever, settings: Settings, metrics: "Metrics") -> ServedModel | None:
        if not retriever.has_model:
            return None
        for model in self.models:
            if model.contract.settings == retriever.contract.settings:
                return model
        kind = ServedLateModel if retriever.contract.kind == "colbert" else ServedModel
        self.models.append(kind(retriever, settings, metrics=metrics))
        return self.models[-1]

    def index(self, name: str) -> ServedIndex:
        """The index of this name; NotFoundError where there is none."""
        if name not in self.indexes:
            raise NotFoundError(f"no index {name!r:.100} is served here: {', '.join(self.indexes)}")
        return self.indexes[name]

    def model(self, name: str | None) -> ServedModel:
        """The model of this name, or of the index of this name; without one, the first."""
        if name in self.indexes and (model := self.indexes[name].model):
            return model
        for model in self.models:
            if name in (None, model.name):
                return model
        names = ", ".join(model.name for model in self.models) or "there is none"
        raise NotFoundError(f"no model {name or ''!r:.100} is served here: {names}")

    def reranker(self, model: ServedModel | None) -> "Reranker":
        """What reranks: the model that the server was started with for that, or else the encoder."""
        from flatcoat.retrieval.rerank import EncoderReranker, load_reranker

        if self._reranker_name is None:
            if model is None:
                raise UsageError("an index without vectors reranks by nothing: start with --reranker")
            return EncoderReranker(model)
        with self._loading:
            if self._reranker is None:
                self._reranker = load_reranker(self._reranker_name)
            return self._reranker

    def load_in_background(self) -> None:
        """Load every model into torch in a thread of its own; requests are answered in the meantime."""

        def load() -> None:
            for model in self.models:
                model.load()

        Thread(target=load, name="flatcoat-load", daemon=True).start()

    def close(self) -> None:
        """End the threads of the models and close the databases."""
        for model in self.models:
            model.close()
        for index in self.indexes.values():
            index.retriever.close()


def named_folders(values: Sequence[str]) -> dict[str, Path | str]:
    """Folders by name, from ``DIR`` (named as the folder is) and ``name=DIR``; URLs of collections likewise.

    >>> named_folders(["/data/docs.index", "code=/data/other"])
    {'docs.index': PosixPath('/data/docs.index'), 'code': PosixPath('/data/other')}
    """
    folders: dict[str, Path | str] = {}
    for value in values:
        name, separator, folder = value.partition("=")
        if "://" in name or not separator or Path(value).is_dir():
            name, folder = Path(value).resolve().name.lstrip("."), value
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r:.100} is no name for an index: letters, digits, dots, - and _ are")
        if name in folders:
            raise UsageError(f"two indexes are named {name}: name one otherwise, as in other={folder}")
        folders[name] = folder if "://" in folder else Path(folder)
    return folders
