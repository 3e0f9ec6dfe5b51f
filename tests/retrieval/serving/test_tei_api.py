"""The API of text-embeddings-inference, and Jina's vectors per token."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat.retrieval.encoders.load import load_encoder

TEXTS = ["Cats purr.", "Dogs bark at strangers, retrieve birds."]


@pytest.fixture(scope="module")
def dense_server(start: Callable[..., Any], folders: dict[str, Path]) -> Any:
    return start("--index", f"dense={folders['dense']}")


def test_embed(dense_server: Any, make_dense: Callable[..., Path]) -> None:
    expected = load_encoder(make_dense()).encode_documents(TEXTS)
    np.testing.assert_allclose(dense_server.post("/embed", {"inputs": TEXTS}).json(), expected, atol=1e-5)
    one = dense_server.post("/embed", {"inputs": TEXTS[0]}).json()
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)


def test_embed_all(server: Any) -> None:
    for name, encode in (
        ("query", load_encoder().encode_queries),
        (None, load_encoder().encode_documents),
    ):
        found = server.post("/embed_all", {"inputs": TEXTS, "prompt_name": name}).json()
        for matrix_TD, expected_TD in zip(found, encode(TEXTS), strict=True):
            np.testing.assert_allclose(matrix_TD, expected_TD, atol=1e-4)


def test_jina_multi_vector(server: Any) -> None:
    body = {"model": "late", "input": [TEXTS[0], {"text": TEXTS[1]}]}
    found = server.post("/v1/multi-vector", body).json()
    packed = server.post("/v1/multi-vector", body | {"embedding_type": "base64"}).json()
    for one, other, expected_TD in zip(
        found["data"], packed["data"], load_encoder().encode_documents(TEXTS), strict=True
    ):
        np.testing.assert_allclose(one["embeddings"], expected_TD, atol=1e-4)
        flat = np.frombuffer(base64.b64decode(other["embeddings"]), "<f4")
        np.testing.assert_allclose(flat.reshape(-1, 128), expected_TD, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {"inputs": ["a"]}, 424, "Backend"),
        ("/embed_sparse", {"inputs": ["a"]}, 424, "Backend"),
        ("/embed_all", {"inputs": 7}, 422, "Validation"),
        ("/embed_all", {"inputs": []}, 400, "Validation"),
        ("/embed_all", {"inputs": ["a"] * 2049}, 413, "Validation"),
        ("/embed_all", {"inputs": ["cats purr " * 400], "truncate": False}, 413, "Validation"),
        ("/rerank", {"query": "a"}, 400, "Validation"),
    ],
)
def test_errors_have_its_form(server: Any, path: str, body: Any, status: int, kind: str) -> None:
    answer = server.post(path, body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert answer.json()["error"]


def test_info(server: Any) -> None:
    info = server.client.get("/info").json()
    assert info["model_id"] == "flatcoat-minilm"
    assert (info["model_dtype"], info["max_client_batch_size"]) == ("float32", 2048)
