"""The real clients of OpenAI and Cohere against a running server."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat.retrieval.encoders.load import load_encoder

openai = pytest.importorskip("openai")
cohere = pytest.importorskip("cohere")

TEXTS = ["Cats purr.", "Dogs bark at strangers.", "東京 is blue 😀"]


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    key = server.client.headers["authorization"].removeprefix("Bearer ")
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def cohere_client(server: Any) -> Any:
    key = server.client.headers["authorization"].removeprefix("Bearer ")
    return cohere.ClientV2(api_key=key, base_url=server.address)


@pytest.fixture(scope="module")
def expected(make_dense: Callable[..., Path]) -> np.ndarray:
    return np.asarray(load_encoder(make_dense()).encode_documents(TEXTS))


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openai_embeddings(client: Any, expected: np.ndarray, options: dict[str, Any]) -> None:
    answer = client.embeddings.create(input=TEXTS, model="dense", **options)
    assert [one.index for one in answer.data] == [0, 1, 2]
    vectors = [
        np.frombuffer(base64.b64decode(one.embedding), "<f4")
        if isinstance(one.embedding, str)
        else one.embedding
        for one in answer.data
    ]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_openai_embeddings_of_one_text_in_fewer_dimensions(client: Any, expected: np.ndarray) -> None:
    (one,) = client.embeddings.create(input=TEXTS[0], model="dense", dimensions=16).data
    short = expected[0, :16] / np.linalg.norm(expected[0, :16])
    np.testing.assert_allclose(one.embedding, short, atol=1e-5)


def test_the_async_openai_client(server: Any, expected: np.ndarray) -> None:
    key = server.client.headers["authorization"].removeprefix("Bearer ")

    async def embed() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=key) as client:
            return await asyncio.gather(
                *(client.embeddings.create(input=[text], model="dense") for text in TEXTS * 10)
            )

    answers = asyncio.run(embed())
    vectors = [answer.data[0].embedding for answer in answers]
    np.testing.assert_allclose(vectors, np.concatenate([expected] * 10), atol=1e-5)


def test_openai_models(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "flatcoat-minilm"
    assert "/" not in names[1]
    assert client.models.retrieve(names[0]).id == names[0]


def test_openai_errors(client: Any, server: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="is served here: flatcoat-minilm"):
        client.embeddings.create(input="a", model="../../etc/passwd")
    with pytest.raises(openai.BadRequestError, match="token ids"):
        client.embeddings.create(input=[1, 2, 3], model="dense")
    with pytest.raises(openai.BadRequestError, match="not empty"):
        client.embeddings.create(input=["a", ""], model="dense")
    with pytest.raises(openai.BadRequestError, match="512 dimensions"):
        client.embeddings.create(input="a", model="dense", dimensions=512)
    with pytest.raises(openai.APIStatusError, match="multi-vector") as raised:
        client.embeddings.create(input="a", model="late")
    assert raised.value.status_code == 424
    stranger = openai.OpenAI(base_url=f"{server.address}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_openai_vector_store_search(client: Any) -> None:
    found = client.vector_stores.search("late", query="purring cats", max_num_results=3).data
    assert found[0].file_id == "cats.md"
    assert found[0].content[0].text.startswith("How does a cat purr?")
    assert found[0].attributes["year"] == 2021


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"key": "year", "type": "gte", "value": 2020}, {"dogs.md", "cats.md"}),
        ({"key": "year", "type": "nin", "value": [2020, 2021]}, {"sky.md"}),
        ({"key": "lang", "type": "in", "value": ["python", "go"]}, {"store.py"}),
        (
            {
                "type": "or",
                "filters": [
                    {"key": "lang", "type": "eq", "value": "python"},
                    {
                        "type": "and",
                        "filters": [
                            {"key": "year", "type": "gt", "value": 1900},
                            {"key": "year", "type": "ne", "value": 2021},
                        ],
                    },
                ],
            },
            {"store.py", "dogs.md"},
        ),
    ],
)
def test_openai_filters(client: Any, filters: dict[str, Any], ids: set[str]) -> None:
    found = client.vector_stores.search("late", query="anything", filters=filters, max_num_results=50).data
    assert {one.file_id for one in found} == ids


def test_cohere_embeddings(cohere_client: Any, expected: np.ndarray) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary"]
    answer = cohere_client.embed(
        model="dense", texts=TEXTS, input_type="search_document", embedding_types=kinds
    )
    np.testing.assert_allclose(answer.embeddings.float_, expected, atol=1e-5)
    signs = np.unpackbits(np.array(answer.embeddings.ubinary, np.uint8), axis=1)
    np.testing.assert_array_equal(signs, expected > 0)
    np.testing.assert_array_equal(
        np.array(answer.embeddings.binary) + 128, np.array(answer.embeddings.ubinary)
    )
    np.testing.assert_array_equal(np.array(answer.embeddings.uint8) - 128, answer.embeddings.int8)
    cosines = np.sum(np.array(answer.embeddings.int8) * expected, axis=1) / np.linalg.norm(
        answer.embeddings.int8, axis=1
    )
    assert cosines.min() > 0.999


def test_cohere_queries_have_the_prompt_of_queries(
    start: Callable[..., Any], make_dense: Callable[..., Path], tmp_path: Path
) -> None:
    from flatcoat import Retriever

    folder = make_dense(prompts={"query": "query: ", "document": "document: "})
    Retriever.create(tmp_path / "prompted", folder).close()
    server = start("--index", str(tmp_path / "prompted"))
    encoder = load_encoder(folder)
    client = cohere.ClientV2(api_key="any", base_url=server.address)
    for input_type, encode in (
        ("search_query", encoder.encode_queries),
        ("search_document", encoder.encode_documents),
    ):
        answer = client.embed(
            model="prompted", texts=["cats"], input_type=input_type, embedding_types=["float"]
        )
        np.testing.assert_allclose(answer.embeddings.float_, encode(["cats"]), atol=1e-5)
    server.close()


def test_cohere_rerank(cohere_client: Any) -> None:
    documents = ["Bread rises.", "The sky is blue.\nDogs bark.", "Blue cats."]
    answer = cohere_client.rerank(model="late", query="blue sky", documents=documents, top_n=2)
    assert [one.index for one in answer.results] == [1, 2]
    scores = [one.relevance_score for one in answer.results]
    assert 1 >= scores[0] >= scores[1] >= 0
