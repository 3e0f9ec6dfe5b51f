"""One contract suite over every encoder: what flatcoat's other parts rely on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]
Encode = Callable[[list[str]], Vectors]


@pytest.fixture(
    scope="module",
    params=["colbert", "colbert-bert", "colbert-deberta", "dense", "dense-bert", "dense-deberta"],
)
def encoder(
    request: pytest.FixtureRequest,
    make_colbert: MakeFolder,
    make_dense: MakeFolder,
    bert_folder: Path,
    foreign_folder: Path,
) -> Encoder:
    kind, _, backbone = request.param.partition("-")
    bases = {"": {}, "bert": {"base": bert_folder}, "deberta": {"base": foreign_folder}}
    options: dict[str, Any] = dict(bases[backbone])
    if kind == "dense":
        options["prompts"] = {"query": "q: ", "document": "d: "}
    return load_encoder((make_colbert if kind == "colbert" else make_dense)(**options), device="cpu")


@pytest.fixture(params=["queries", "documents"])
def encode(request: pytest.FixtureRequest, encoder: Encoder) -> Encode:
    return encoder.encode_queries if request.param == "queries" else encoder.encode_documents


def rows(vectors: Vectors) -> list[np.ndarray]:
    """The matrix [tokens, D] of each text."""
    return list(vectors) if isinstance(vectors, TokenVectors) else [vector[None] for vector in vectors]


def assert_same(came: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [len(matrix) for matrix in came] == [len(matrix) for matrix in expected]
    assert max(np.abs(one - other).max() for one, other in zip(came, expected, strict=True)) <= 1e-5


def test_one_matrix_a_text_of_length_one_vectors(encoder: Encoder, encode: Encode, texts: list[str]) -> None:
    matrices = rows(encode(texts))
    assert len(matrices) == len(texts)
    for matrix in matrices:
        assert matrix.dtype == np.float32
        assert matrix.shape[1] == encoder.contract.width
        assert len(matrix) > 0
        assert np.abs(np.linalg.norm(matrix, axis=1) - 1).max() <= 1e-5


def test_the_order_of_the_texts_is_kept(encode: Encode, texts: list[str]) -> None:
    assert_same(rows(encode(texts[::-1]))[::-1], rows(encode(texts)))


def test_a_text_does_not_depend_on_the_others(encode: Encode, texts: list[str]) -> None:
    assert_same([matrix for text in texts for matrix in rows(encode([text]))], rows(encode(texts)))


def test_the_same_texts_get_the_same_vectors(encode: Encode, texts: list[str]) -> None:
    for first, second in zip(rows(encode(texts)), rows(encode(texts)), strict=True):
        assert np.array_equal(first, second)


def test_different_texts_get_different_vectors(encode: Encode) -> None:
    first, second = rows(encode(["cats purr softly", "bread rises at dawn"]))
    assert not np.allclose(first[-1], second[-1], atol=1e-3)


def test_blanks_around_a_text_do_not_count(encode: Encode) -> None:
    assert_same(rows(encode(["cats purr \n\t"])), rows(encode(["cats purr"])))


def test_no_texts_give_no_vectors_of_the_right_width(encoder: Encoder, encode: Encode) -> None:
    vectors = encode([])
    assert len(vectors) == 0
    width = vectors.width if isinstance(vectors, TokenVectors) else vectors.shape[1]
    assert width == encoder.contract.width


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("one text", "one text came where a list of texts is wanted"),
        (["a", None], "a text is NoneType None"),
        (["a", b"bytes"], "a text is bytes"),
        ([3], "a text is int 3: strings are wanted"),
        (None, "the texts are NoneType None: a list of strings is wanted"),
        (b"bytes", "the texts are bytes"),
        ({"a": "text"}, "the texts are dict"),
        ({"a"}, "the texts are set"),
        (7, "the texts are int 7"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(encode: Encode, wrong: Any, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        encode(wrong)


def test_token_counts_are_of_whole_texts(encoder: Encoder, texts: list[str]) -> None:
    counts = encoder.token_counts(texts)
    assert counts == [encoder.token_counts([text])[0] for text in texts]
    assert min(counts) == counts[0] > 0
    assert max(counts) > encoder.contract.document_length
    assert encoder.token_counts([]) == []
    assert encoder.token_counts(["cat " * 5_000])[0] > 5_000
    assert encoder.token_counts(texts, is_query=True) == counts, "without prompts they are the same"


def test_the_contract_does_not_change(encoder: Encoder) -> None:
    again = load_encoder(encoder.name, device="cpu")
    assert again.contract == encoder.contract
    assert again.name == encoder.name
    assert len(encoder.contract.weights) == 64


def test_documents_are_read_as_far_as_is_said(encoder: Encoder) -> None:
    own, text = encoder.contract.document_length, "cats purr " * 200
    whole = rows(encoder.encode_documents([text]))
    encoder.truncate_documents(12)
    assert encoder.contract.document_length == 12
    (cut,) = rows(encoder.encode_documents([text]))
    assert len(cut) != len(whole[0]) or not np.allclose(cut, whole[0], atol=1e-3)
    encoder.truncate_documents(1_000_000)
    assert own <= encoder.contract.document_length < 1_000_000
    encoder.truncate_documents(None)
    assert encoder.contract.document_length == own
    assert_same(rows(encoder.encode_documents([text])), whole)


def test_half_a_surrogate_pair_is_mended_and_any_iterable_of_texts_taken(encoder: Encoder) -> None:
    texts = ["cat \ud83e", "\ud83e\udda6", "re\u0301sume\u0301"]
    mended = [normalized(texts[0]), "🦦", texts[2]]
    for encode in (encoder.encode_queries, encoder.encode_documents):
        expected = encode(mended)
        many: list[Any] = [texts, iter(texts), np.array(texts), tuple(texts)]
        for given in many:
            found = encode(given)
            assert len(found) == 3
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    assert encoder.token_counts(texts) == encoder.token_counts(mended)
