"""Each wrong call raises the leaf of the exception tree that says what its caller can do about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatcoat import Document, Retriever
from flatcoat.errors import ConflictError, DataError, FlatcoatError, NotFoundError, UsageError
from flatcoat.indexing.fusion import Fusion
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def retriever(make_dense: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    retriever = Retriever.create(tmp_path_factory.mktemp("errors") / "index", load_encoder(make_dense()))
    retriever.add([Document("a", "a cat")])
    return retriever


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda it, empty: it.search(""), UsageError),
        (lambda it, empty: it.search("cat", 0), UsageError),
        (lambda it, empty: it.search("cat", recall=2), UsageError),
        (lambda it, empty: it.search("cat", mode="magic"), UsageError),
        (lambda it, empty: it.search("cat", rerank=3), UsageError),
        (lambda it, empty: Fusion("rrf", constant=-1), UsageError),
        (lambda it, empty: it.add(3), UsageError),
        (lambda it, empty: it.remove(3), UsageError),
        (lambda it, empty: Retriever.create(empty / "new", it.encoder, passage_tokens=1), UsageError),
        (lambda it, empty: Retriever.create(empty / "new", it.encoder, overlap=-1), UsageError),
        (lambda it, empty: Retriever.create(empty / "new", it.encoder, precision="fp2"), UsageError),
        (lambda it, empty: Retriever.create(empty / "new", it.encoder, precision="int8"), ConflictError),
        (lambda it, empty: it.add_files(empty / "nowhere"), NotFoundError),
        (lambda it, empty: it.add_files(), NotFoundError),
        (lambda it, empty: it.add_files(empty), DataError),
    ],
)
def test_errors_say_what_to_do(
    retriever: Retriever, tmp_path: Path, call: Callable[[Any, Path], Any], error: type[FlatcoatError]
) -> None:
    with pytest.raises(FlatcoatError) as raised:
        call(retriever, tmp_path)
    assert type(raised.value) is error
