"""Candidates of a first search scored again, by a cross-encoder or by an encoder's own vectors.

Axes: N documents, Q queries, P pairs of both, U tokens of queries, T tokens of one document, D width.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.encoders.encoder import loading, taking_turns
from flatcoat.retrieval.encoders.load import architectures, load_encoder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from flatcoat.retrieval.encoders.encoder import Encoder

Score: TypeAlias = Callable[[Sequence[str], np.ndarray], np.ndarray]
"""Documents and pairs (int64 [P, 2]: positions of query and document) to scores (float32 [P])."""

_AT_ONCE = 128  # documents encoded together


class Reranker(Protocol):
    """What scores pairs of a query and a document."""

    @property
    def name(self) -> str:
        """The folder or hub name it was loaded from."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON values: everything that decides a score."""
        ...

    def scorer(self, queries: Sequence[str]) -> Score:
        """What scores documents for these queries."""
        ...


def load_reranker(name_or_path: str | Path, **options: Any) -> Reranker:
    """Load a cross-encoder, or any encoder, by folder or hub name.

    Raises FlatcoatError where there is no such model, or a cross-encoder gives other than one score a pair.
    """
    if not any(kind.endswith("ForSequenceClassification") for kind in architectures(name_or_path)):
        return EncoderReranker(load_encoder(name_or_path, **options))
    return CrossEncoderReranker(load_cross_encoder(name_or_path, **options), str(name_or_path))


def load_cross_encoder(name_or_path: str | Path, **options: Any) -> "CrossEncoder":
    """A model that reads query and document together; ``options`` go to sentence-transformers' CrossEncoder.

    Raises FlatcoatError where there is no such model, or it gives other than one score a pair.
    """
    from sentence_transformers import CrossEncoder

    with loading(name_or_path):
        model = CrossEncoder(str(name_or_path), **options)
    if model.num_labels != 1:
        count = model.num_labels
        raise FlatcoatError(
            f"cross-encoder {name_or_path} gives {count} scores a pair: one that gives one is needed"
        )
    return model


class CrossEncoderReranker:
    """Reads query and document together: a ``sentence_transformers.CrossEncoder`` of one score."""

    def __init__(self, model: "CrossEncoder", name: str) -> None:
        self.model, self.name = model, name

    def describe(self) -> dict[str, Any]:
        """Weights and length."""
        from flatcoat.retrieval.encoders.contract import weights_hash

        weights = weights_hash(self.model.model)
        return {"kind": "cross-encoder", "weights": weights, "length": self.model.max_length}

    def scorer(self, queries: Sequence[str]) -> Score:
        """Logits: a sigmoid would make the best scores equal in float32."""
        from torch.nn import Identity

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            texts = [(queries[int(query)], documents[int(place)]) for query, place in pairs_P2]
            with taking_turns(self.model.tokenizer):
                scores_P = self.model.predict(texts, activation_fn=Identity(), show_progress_bar=False)
            return np.asarray(scores_P, dtype=np.float32)

        return score


class EncoderReranker:
    """Scores by MaxSim, or by the inner product of a dense encoder: exact search among the candidates."""

    def __init__(self, encoder: "Encoder") -> None:
        self.encoder = encoder

    @property
    def name(self) -> str:
        """The encoder's."""
        return self.encoder.name

    def describe(self) -> dict[str, Any]:
        """The encoder's contract, less its name."""
        contract = self.encoder.contract.to_json()
        del contract["model"]
        return contract

    def scorer(self, queries: Sequence[str]) -> Score:
        """Queries are encoded once, here."""
        asked = _token_vectors(self.encoder.encode_queries(queries))

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            scores_P = np.zeros(len(pairs_P2), dtype=np.float32)
            by_document = np.argsort(pairs_P2[:, 1], kind="stable")
            for _, group in groupby(by_document.tolist(), lambda pair: pairs_P2[pair, 1] // _AT_ONCE):
                pairs = np.array(list(group))
                first = int(pairs_P2[pairs[0], 1]) // _AT_ONCE * _AT_ONCE
                vectors = _token_vectors(self.encoder.encode_documents(documents[first : first + _AT_ONCE]))
                for pair in pairs.tolist():
                    query, document = pairs_P2[pair]
                    scores_P[pair] = maxsim(asked[query], vectors[document - first])
            return scores_P

        return score


def maxsim(query_UD: np.ndarray, document_TD: np.ndarray) -> float:
    """For each query token the best inner product with a document token, summed; 0 where either has none."""
    if not len(query_UD) or not len(document_TD):
        return 0.0
    return float((query_UD @ document_TD.T).max(axis=1).sum())


def _token_vectors(vectors: Vectors) -> TokenVectors:
    if isinstance(vectors, TokenVectors):
        return vectors
    return TokenVectors(vectors, np.arange(len(vectors) + 1))
