"""The model of an index: the one that its contract names or that the user gave, loaded when first needed."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from flatcoat.errors import ConflictError, UsageError
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.encoders.contract import Contract, Precision

if TYPE_CHECKING:
    from flatcoat.indexing.collection.collection import ShardCollection
    from flatcoat.retrieval.encoders.encoder import Encoder, QueryEncoder

AnyEncoder = TypeVar("AnyEncoder", bound="QueryEncoder")

_MOST_POOLING = 16
"""Token vectors of a passage for one that is left: more would leave no more than a dense model has."""

_USUAL, _LONGEST = 300, 8192
"""Tokens of a passage of an index without a model, by default (as by the shipped model) and at most."""

_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd")  # of CUDA's driver and of ROCm's


class IndexModel:
    """What encodes texts for one index; threads may share it.

    ``given`` is an encoder, or the folder or hub name of one; None is the model that the contract names.
    """

    def __init__(self, store: "Store | ShardCollection", given: "str | Path | Encoder | None" = None) -> None:
        self._store = store
        self.given = given
        encoder = store.contract["encoder"]
        self._contract = None if encoder is None else Contract.from_json(encoder)
        self._name = given if isinstance(given, str | Path) else None
        self._encoder: Encoder | None = None if isinstance(given, str | Path) else given
        self._queries: QueryEncoder | None = self._encoder
        self._loading = Lock()
        if self._encoder is not None:
            self.contract.require(self._encoder.contract)

    @property
    def exists(self) -> bool:
        """Whether the index is to have vectors."""
        return self._contract is not None

    @property
    def contract(self) -> Contract:
        """The contract of the index; ConflictError where it was made without vectors."""
        if self._contract is None:
            raise ConflictError(
                f"index {self._store.path} was made without vectors: search it by BM25 (mode bm25), or give "
                "it a model (flatcoat index --vectors)"
            )
        return self._contract

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded at the first use and checked against the contract."""
        with self._loading:
            if self._encoder is None:
                self._encoder = self._checked()
        return self._encoder

    @property
    def query_encoder(self) -> "QueryEncoder":
        """What encodes queries: an encoder that was given, else the named model in NumPy and float32.

        Importing torch would take longer than the search. Where only torch or another library can read the
        model, its encoder is loaded.
        """
        with self._loading:
            if self._queries is None:
                self._queries = self._in_numpy()
        return self.encoder if self._queries is None else self._queries

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text as a document, by which documents are cut; without a model by the shipped one's."""
        if self.exists:
            return self.query_encoder.token_counts(texts)
        from flatcoat.retrieval.encoders.load import shipped_token_counts

        return shipped_token_counts(texts)

    def _in_numpy(self) -> "QueryEncoder | None":
        from flatcoat.retrieval.encoders.load import load_query_encoder

        contract = self.contract
        queries = load_query_encoder(str(self._name or contract.model), is_trusted=self._name is not None)
        if queries is not None:
            queries = reading(queries, contract.document_length)
            contract.require(queries.contract)
        return queries

    def _checked(self) -> "Encoder":
        """The encoder; the model that the index names is read as data, since anyone may have made it."""
        from flatcoat.retrieval.encoders.load import fast_here, load_encoder, load_untrusted

        contract = self.contract
        precision = fast_here(contract.precision)
        if self._name is None:
            encoder = load_untrusted(
                contract.model, named_by=f"index {self._store.path}", precision=precision
            )
        else:
            encoder = load_encoder(self._name, precision)
        encoder = reading(encoder, contract.document_length)
        contract.require(encoder.contract)
        return encoder


def index_contract(
    model: "str | Path | Encoder | None",
    *,
    precision: Precision | None,
    passage_tokens: int | None,
    overlap: int,
    token_pooling: int,
    engine: EngineSettings,
) -> dict[str, Any]:
    """What a new index records of how its vectors are made; ``Retriever.create`` says what is what.

    UsageError for an option out of range, or that does not go with the model or the engine.
    """
    if precision not in (None, *get_args(Precision)):
        raise UsageError(f"precision {precision!r}: {', '.join(get_args(Precision))} are possible")
    if token_pooling not in range(1, _MOST_POOLING + 1):
        raise UsageError(f"token_pooling {token_pooling!r}: from 1 to {_MOST_POOLING} is possible")
    made_by = None if model is None else contract_of(model, precision, passage_tokens)
    if token_pooling != 1 and (made_by is None or made_by.kind != "colbert"):
        raise UsageError("token_pooling is for models of late interaction, with one vector per token")
    limit = made_by.document_length if made_by else _LONGEST
    usual = min(limit, 512) if made_by else _USUAL
    tokens = usual if passage_tokens is None else passage_tokens
    if not (_is_integer(tokens) and 16 <= tokens <= limit):
        raise UsageError(f"passage_tokens {tokens!r}: from 16 to {limit}, what the model reads, is possible")
    if not (_is_integer(overlap) and 0 <= overlap <= tokens // 2):
        raise UsageError(f"overlap {overlap!r}: from 0 to {tokens // 2}, half of a passage, is possible")
    if made_by:
        engine.validate_for(made_by.shape)
    contract = {
        "encoder": made_by and made_by.to_json(),
        "passage_tokens": int(tokens),
        "overlap": int(overlap),
    }
    if token_pooling != 1:  # Releases without it read an index that needs none.
        contract["token_pooling"] = int(token_pooling)
    return contract


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def contract_of(model: "str | Path | Encoder", precision: Precision | None, length: int | None) -> Contract:
    """The contract of a new index, whose model reads at least ``length`` tokens of a document if it can.

    A model given by name is read without torch, where that reads it and its precision is known without a
    look at the devices. ConflictError where a given encoder has another precision.
    """
    if not isinstance(model, str | Path):
        own = model.contract.precision
        if precision not in (None, own):
            raise ConflictError(
                f"the encoder given computes in {own}, not {precision}: load it in {precision}"
            )
        return model.contract
    from flatcoat.retrieval.encoders.load import index_precision, load_encoder, load_query_encoder, own_name

    precision = precision or index_precision(str(model))
    if not any(Path(file).exists() for file in _GPU_FILES):
        queries = load_query_encoder(own_name(model), is_trusted=True)
        if queries is not None:
            return replace(reading(queries, length).contract, precision=precision or "fp32")
    return reading(load_encoder(model, precision), length).contract


def reading(encoder: AnyEncoder, length: int | None) -> AnyEncoder:
    """The encoder, made to read at least ``length`` tokens of a document if its model can."""
    if length is not None and length > encoder.contract.document_length:
        encoder.truncate_documents(length)
    return encoder
