"""Rerank the candidates of a first search, by a cross-encoder or by the vectors of an encoder.

Axes: P pairs of a query and a document, Q query tokens, T document tokens, D width.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from flatcoat.errors import DataError
from flatcoat.hub import hub_is_reachable
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.encoders.checkpoint_files import in_folder_or_hub, loading
from flatcoat.retrieval.encoders.load import SHIPPED_NAME, architectures, load_encoder
from flatcoat.retrieval.encoders.tokenization import taking_turns

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from flatcoat.retrieval.encoders.contract import Precision
    from flatcoat.retrieval.encoders.encoder import Encoder

Score: TypeAlias = Callable[[Sequence[str], np.ndarray], np.ndarray]
"""Documents and pairs (int64 [P, 2]: positions of query and document) to scores (float32 [P])."""

_BATCH = 128  # documents encoded together


class Reranker(Protocol):
    """A model that scores pairs of a query and a document."""

    @property
    def name(self) -> str:
        """The folder or hub name of the model."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides a score, as JSON values."""
        ...

    def scorer(self, queries: Sequence[str]) -> Score:
        """A function that scores documents for these queries."""
        ...


def load_reranker(name_or_path: str | Path, precision: "Precision | None" = None, **options: Any) -> Reranker:
    """Load a cross-encoder, or any encoder, by folder or hub name; ``precision`` is that of its backbone.

    A cross-encoder of the backbone's families is read from its files, any other by sentence-transformers,
    to which ``options`` go.

    Raises NotFoundError if there is no such model, DataError if a cross-encoder has several outputs, and
    UsageError for a precision that the model does not have.

    >>> load_reranker("cross-encoder/ms-marco-MiniLM-L6-v2").name  # doctest: +SKIP
    'cross-encoder/ms-marco-MiniLM-L6-v2'
    """
    if not any(kind.endswith("ForSequenceClassification") for kind in architectures(name_or_path)):
        return EncoderReranker(load_encoder(name_or_path, precision, **options))
    if options.keys() <= {"device", "max_length", "local_files_only"}:
        from flatcoat.retrieval.encoders.cross_encoder import try_load_cross_encoder

        local = options.pop("local_files_only", not (Path(name_or_path).is_dir() or hub_is_reachable()))
        find = in_folder_or_hub(name_or_path, local_files_only=local)
        packed = try_load_cross_encoder(find, str(name_or_path), precision=precision, **options)
        if packed is not None:
            return packed
        options["local_files_only"] = local
    model = load_cross_encoder(name_or_path, **options)
    return CrossEncoderReranker(model, str(name_or_path), precision=precision)


def as_reranker(model: "str | Path | Reranker | None") -> Reranker:
    """The reranker, loaded where it is a name; None is the late-interaction model shipped with flatcoat."""
    if model is None or isinstance(model, str | Path):
        return load_reranker(SHIPPED_NAME if model is None else model)
    return model


class Ranked(NamedTuple):
    """The place of a text in the list that came, and its score."""

    place: int
    score: float


def order(reranker: Reranker, query: str, *, texts: Sequence[str]) -> list[Ranked]:
    """The texts by how well they answer the query, best first.

    >>> [text.place for text in order(as_reranker(None), "cats purr", texts=["dogs bark", "a cat purrs"])]
    [1, 0]
    """
    if not texts:
        return []
    pairs_P2 = np.stack([np.zeros(len(texts), np.int64), np.arange(len(texts))], axis=1)
    scores_P = reranker.scorer([query])(texts, pairs_P2)
    best_first = np.argsort(-scores_P, kind="stable").tolist()
    return [Ranked(place, float(scores_P[place])) for place in best_first]


def load_cross_encoder(name_or_path: str | Path, **options: Any) -> "CrossEncoder":
    """A model that reads query and document together; ``options`` go to sentence-transformers' CrossEncoder.

    Raises NotFoundError if there is no such model, and DataError if it has several outputs.
    """
    from sentence_transformers import CrossEncoder

    from flatcoat.retrieval.encoders.backbone import unpad_classifier

    with loading(name_or_path):
        model = CrossEncoder(str(name_or_path), **options)
    if model.num_labels != 1:
        count = model.num_labels
        raise DataError(
            f"cross-encoder {name_or_path} gives {count} scores per pair: a model with one score is needed"
        )
    unpad_classifier(model.model)
    return model


class CrossEncoderReranker:
    """Reads query and document together: a ``sentence_transformers.CrossEncoder`` with one output.

    Its encoder runs packed where the backbone can express it, and there in any precision; the default is the
    dtype of the weights.
    """

    def __init__(self, model: "CrossEncoder", name: str, *, precision: "Precision | None" = None) -> None:
        from flatcoat.retrieval.encoders.backbone import classify_in_precision

        self.model, self.name, self._precision = model, name, precision
        if precision is not None:
            classify_in_precision(model.model, precision)

    def describe(self) -> dict[str, Any]:
        """Weights and length, and the precision where one was named."""
        from flatcoat.retrieval.encoders.contract import weights_hash

        weights = weights_hash(self.model.model)
        length = self.model.tokenizer.model_max_length
        described = {"kind": "cross-encoder", "weights": weights, "length": length}
        return described | ({"precision": self._precision} if self._precision else {})

    def scorer(self, queries: Sequence[str]) -> Score:
        """Scores are logits: a sigmoid would make the best ones equal in float32."""
        from torch.nn import Identity

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            texts = [(queries[int(query)], documents[int(place)]) for query, place in pairs_P2]
            with taking_turns(self.model.tokenizer):
                scores_P = self.model.predict(texts, activation_fn=Identity(), show_progress_bar=False)
            return np.asarray(scores_P, dtype=np.float32)

        return score


class EncoderReranker:
    """Scores by MaxSim, or by the inner product for a dense encoder, exactly."""

    def __init__(self, encoder: "Encoder") -> None:
        self.encoder = encoder

    @property
    def name(self) -> str:
        """The name of the encoder."""
        return self.encoder.name

    def describe(self) -> dict[str, Any]:
        """The contract of the encoder, without its name."""
        contract = self.encoder.contract.to_json()
        del contract["model"]
        return contract

    def scorer(self, queries: Sequence[str]) -> Score:
        """Scores from vectors; the queries are encoded once, here."""
        query_vectors = _token_vectors(self.encoder.encode_queries(queries))

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            scores_P = np.zeros(len(pairs_P2), dtype=np.float32)
            by_document = np.argsort(pairs_P2[:, 1], kind="stable")
            for _, group in groupby(by_document.tolist(), lambda pair: pairs_P2[pair, 1] // _BATCH):
                pairs = np.array(list(group))
                first = int(pairs_P2[pairs[0], 1]) // _BATCH * _BATCH
                vectors = _token_vectors(self.encoder.encode_documents(documents[first : first + _BATCH]))
                for pair in pairs.tolist():
                    query, document = pairs_P2[pair]
                    scores_P[pair] = maxsim(query_vectors[query], vectors[document - first])
            return scores_P

        return score


def maxsim(query_QD: np.ndarray, document_TD: np.ndarray) -> float:
    """For each query token the best inner product with a document token, summed; 0 if either has none.

    >>> maxsim(np.eye(2), np.array([[1.0, 0.0], [0.5, 0.5]]))
    1.5
    """
    if not len(query_QD) or not len(document_TD):
        return 0.0
    return float((query_QD @ document_TD.T).max(axis=1).sum())


def _token_vectors(vectors: Vectors) -> TokenVectors:
    if isinstance(vectors, TokenVectors):
        return vectors
    return TokenVectors(vectors, np.arange(len(vectors) + 1))
