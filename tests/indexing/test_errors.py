"""Each error of the engines is the leaf of the exception tree that tells a caller what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat.errors import ConflictError, FlatcoatError, StorageError, UsageError
from flatcoat.indexing.array_checks import damaged, require_array, require_below, require_offsets
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.faiss.build import read_faiss, write_faiss
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.plaid.operating_points import cheapest
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import TokenVectors, require_finite

DENSE = np.eye(4, dtype=np.float32)
TOKENS = TokenVectors.from_list([DENSE])
ROWS = np.zeros(1, np.int64)
NOWHERE = Path("/nonexistent")
INDEXES: dict[str, Any] = {
    "exact": ExactIndex.from_vectors(list("abcd"), DENSE),
    "FAISS": FaissIndex.from_vectors(list("abcd"), DENSE, settings=FaissSettings("Flat")),
    "PLAID": PlaidIndex.from_vectors(["a"], TOKENS),
}


def raises(leaf: type[FlatcoatError], call: Callable[[], object]) -> None:
    with pytest.raises(FlatcoatError) as caught:
        call()
    assert type(caught.value) is leaf


@pytest.mark.parametrize("name", INDEXES)
def test_a_query_that_no_index_could_answer_is_a_usage_error(name: str) -> None:
    index, fitting = INDEXES[name], TOKENS if name == "PLAID" else DENSE
    raises(UsageError, lambda: index.search(fitting, 0))
    raises(UsageError, lambda: index.search(fitting, 1.5))
    raises(UsageError, lambda: index.search(DENSE[0], 1))
    raises(UsageError, lambda: index.search(DENSE.astype(int), 1))
    broken = TokenVectors(DENSE * np.nan, TOKENS.offsets) if name == "PLAID" else DENSE * np.nan
    raises(UsageError, lambda: index.search(broken, 1))


@pytest.mark.parametrize("name", INDEXES)
def test_vectors_of_another_model_are_a_conflict(name: str) -> None:
    index, other = INDEXES[name], DENSE if name == "PLAID" else TOKENS
    narrow = TokenVectors.from_list([DENSE[:, :3]]) if name == "PLAID" else DENSE[:, :3]
    raises(ConflictError, lambda: index.search(other, 1))
    raises(ConflictError, lambda: index.search(narrow, 1))


CALLS: dict[str, Callable[[], object]] = {
    "ids": lambda: ExactIndex.from_vectors(["a"], DENSE),
    "cosine of token vectors": lambda: ExactIndex.from_vectors(["a"], TOKENS, metric="cosine"),
    "offsets": lambda: TokenVectors(DENSE, np.array([0, 3])),
    "bits": lambda: Codec.train(DENSE, 4, bits=3),
    "centroids": lambda: Codec.train(DENSE, 4, bits=4, centroids=0),
    "sample": lambda: Codec.train(DENSE[:0], 4),
    "recall of an index never calibrated": lambda: cheapest((), 0.9),
    "recall of FAISS": lambda: INDEXES["FAISS"].search(DENSE, 1, recall=0.9),
    "n_probe": lambda: INDEXES["PLAID"].search(TOKENS, 1, n_probe=0),
    "factory": lambda: FaissSettings("HNSV32").validate(4),
    "metric": lambda: FaissSettings("Flat", "l2").validate(4),  # pyright: ignore[reportArgumentType]
    "too few vectors": lambda: FaissIndex.from_vectors(
        list("abcd"), DENSE, settings=FaissSettings("IVF64,Flat")
    ),
    "no vectors": lambda: write_faiss(
        NOWHERE, Snapshot((), *np.zeros((3, 0), np.int64)), settings=FaissSettings()
    ),
    "token vectors": lambda: write_faiss(
        NOWHERE, Snapshot((TOKENS,), ROWS, ROWS, ROWS), settings=FaissSettings()
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_a_usage_error(name: str) -> None:
    raises(UsageError, CALLS[name])


DAMAGES: dict[str, Callable[[], object]] = {
    "array": lambda: require_array("codes", DENSE, dtype=np.uint16, shape=(None,)),
    "offsets": lambda: require_offsets("offsets", np.array([0, 2, 1]), end=1),
    "bound": lambda: require_below("codes", np.array([5]), bound=5),
    "scores": lambda: require_finite(np.array([np.inf])),
    "segments that differ": lambda: ExactIndex.from_snapshot(
        Snapshot((DENSE, DENSE[:, :2]), *np.zeros((3, 0), np.int64))
    ),
    "codec": lambda: Codec.load(NOWHERE),
    "FAISS file": lambda: read_faiss(NOWHERE, FaissSettings()),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_on_disk_is_a_storage_error(name: str) -> None:
    raises(StorageError, DAMAGES[name])
    assert type(damaged("it")) is StorageError


def test_plaid_of_an_index_that_is_not_coded_is_a_conflict() -> None:
    raises(ConflictError, lambda: PlaidIndex.from_snapshot(Snapshot((TOKENS,), ROWS, ROWS, ROWS)))
