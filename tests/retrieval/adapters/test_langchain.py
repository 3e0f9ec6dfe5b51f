"""LangChain's own suites over a real index, and what they do not ask."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("langchain_tests", reason="pip install -c constraints.txt flatcoat[langchain,test]")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from flatcoat import ConflictError, Retriever, UsageError
from flatcoat.retrieval.adapters.langchain import (
    FlatcoatCompressor,
    FlatcoatEmbeddings,
    FlatcoatRetriever,
    FlatcoatVectorStore,
)

from ...conftest import MakeFolder


class TestRetriever(RetrieversIntegrationTests):
    made: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _index(self, index: Retriever) -> None:
        self.made["index"] = index

    @property
    def retriever_constructor(self) -> type[FlatcoatRetriever]:
        return FlatcoatRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self.made["index"]}

    @property
    def retriever_query_example(self) -> str:
        return "why is the sky blue?"


class _OfADenseModel:
    made: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _model(self, make_dense: MakeFolder) -> None:
        self.made["model"] = make_dense()

    @property
    def embeddings_class(self) -> type[FlatcoatEmbeddings]:
        return FlatcoatEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return self.made


class TestEmbeddings(_OfADenseModel, EmbeddingsIntegrationTests):
    pass


class TestEmbeddingsUnit(_OfADenseModel, EmbeddingsUnitTests):
    pass


class TestVectorStoreByEmbeddings(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[FlatcoatVectorStore]:
        store = FlatcoatVectorStore(tmp_path / "my.index", self.get_embeddings())
        yield store
        store.retriever.close()


class TestVectorStore(VectorStoreIntegrationTests):
    """By the model in the package."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[FlatcoatVectorStore]:
        store = FlatcoatVectorStore(tmp_path / "my.index")
        yield store
        store.retriever.close()


def test_results_say_where_they_are(index: Retriever) -> None:
    (found,) = FlatcoatRetriever(index=index.store.path, k=1).invoke("why do cats purr?")
    assert found.id == "cat:1"
    assert found.metadata["source"] == "cat" and found.metadata["year"] == 2001
    assert found.metadata["lines"] == [1, 1] and found.metadata["score"] > 0


def test_a_retriever_filters_and_reranks(index: Retriever) -> None:
    retriever = FlatcoatRetriever(index=index, where={"year": {"$gte": 2002}}, rerank="flatcoat-minilm")
    assert {found.metadata["source"] for found in retriever.invoke("blue sky")} == {"bread", "bridge"}
    assert retriever.invoke("blue sky", where="year=2000")[0].metadata["source"] == "sky"


async def test_options_of_a_call_hold_in_asyncio_too(index: Retriever) -> None:
    retriever = FlatcoatRetriever(index=index, k=4)
    options: dict[str, Any] = {"k": 1, "where": "year=2000"}
    (found,) = await retriever.ainvoke("blue sky", **options)
    assert found == retriever.invoke("blue sky", **options)[0] and found.metadata["source"] == "sky"


def test_a_store_gives_back_what_it_got(tmp_path: Path) -> None:
    store = FlatcoatVectorStore(tmp_path / "my.index")
    metadata = {"tags": ["a", "b"], "loc": {"page": 3}, "none": None, "year": 2020, "draft": True}
    long = "\n\n".join(f"Paragraph {number} is about birds and their nests." for number in range(200))
    store.add_documents([Document(long, id="long", metadata=metadata), Document("Cats purr.", id="cat")])
    (found,) = store.get_by_ids(["long"])
    assert found.page_content == long
    assert found.metadata == metadata
    (best,) = store.similarity_search("paragraph 150", k=1, filter={"year": 2020})
    assert best.id == "long" and best.metadata == metadata and "150" in best.page_content
    assert store.delete() and store.similarity_search("cats") == []


def test_a_store_is_a_retriever_and_comes_from_texts(tmp_path: Path) -> None:
    embedding = DeterministicFakeEmbedding(size=6)
    texts = ["one", "two", "three"]
    store = FlatcoatVectorStore.from_texts(
        texts, embedding, [{"number": n} for n in range(3)], index=tmp_path / "a", mode="vectors"
    )
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("two")[0].metadata == {"number": 1}
    again = FlatcoatVectorStore(tmp_path / "a", embedding)
    assert [found.page_content for found in again.similarity_search("three", k=1)] == ["three"]
    with pytest.raises(ConflictError, match="width"):
        FlatcoatVectorStore(tmp_path / "a", DeterministicFakeEmbedding(size=7))


def test_a_compressor_keeps_the_best(index: Retriever) -> None:
    documents = FlatcoatRetriever(index=index, k=4).invoke("bread")
    kept = FlatcoatCompressor(top_n=2).compress_documents(documents, "why do cats purr?")
    assert len(kept) == 2 and kept[0].metadata["source"] == "cat"
    assert kept[0].metadata["relevance_score"] > kept[1].metadata["relevance_score"]
    assert "relevance_score" not in documents[0].metadata
    assert FlatcoatCompressor().compress_documents([], "cats") == []


def test_filters_are_those_of_langchains_stores(tmp_path: Path) -> None:
    store = FlatcoatVectorStore(tmp_path / "my.index")
    years = [{"year": 2000, "tags": ["a"]}, {"year": 2005, "tags": ["b"]}, {"year": 2010}]
    store.add_texts(["cat one", "cat two", "cat three"], years, ids=["1", "2", "3"])

    def found(filter: Any) -> set[str | None]:
        return {one.id for one in store.similarity_search("cat", filter=filter)}

    assert found({"year": {"$gte": 2000, "$lt": 2010}}) == {"1", "2"}
    assert found({"$or": [{"year": 2000}, {"year": {"$in": [2010]}}]}) == {"1", "3"}
    assert found({"tags": "b"}) == found("year=2005") == {"2"}
    assert found({"$not": {"year": {"$nin": [2000]}}}) == {"1"}
    with pytest.raises(UsageError, match="regex"):
        found({"year": {"$regex": "x"}})


def test_a_late_interaction_model_has_no_embeddings() -> None:
    with pytest.raises(UsageError, match="one vector per token"):
        FlatcoatEmbeddings("flatcoat-minilm")
