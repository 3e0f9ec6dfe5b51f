"""Haystack's own suite over a real index, and components inside a pipeline."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack.testing", reason="pip install -c constraints.txt flatcoat[haystack]")

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import DocumentStoreBaseTests
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    DeleteDocumentsAsyncTest,
    WriteDocumentsAsyncTest,
)

from flatcoat.retrieval.adapters.haystack import (
    FlatcoatDocumentRetriever,
    FlatcoatDocumentStore,
    FlatcoatRanker,
    as_where,
)


@pytest.fixture
def document_store(tmp_path: Path) -> Iterator[FlatcoatDocumentStore]:
    store = FlatcoatDocumentStore(str(tmp_path / "my.index"))
    yield store
    store.retriever.close()


class _OwnEmbeddings:
    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """But for the embeddings: an index has its own."""
        assert received == [replace(one, embedding=None) for one in expected]


class TestDocumentStore(_OwnEmbeddings, DocumentStoreBaseTests):
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[FlatcoatDocumentStore]:
        store = FlatcoatDocumentStore(str(tmp_path / "my.index"))
        yield store
        store.retriever.close()

    def test_write_documents(self, document_store: FlatcoatDocumentStore) -> None:
        first, second = Document("1", content="first"), Document("1", content="second")
        assert document_store.write_documents([first]) == 1
        assert document_store.write_documents([second, second]) == 1
        self.assert_documents_are_equal(document_store.filter_documents(), [second])


class TestDocumentStoreInAsyncio(
    _OwnEmbeddings, CountDocumentsAsyncTest, DeleteDocumentsAsyncTest, WriteDocumentsAsyncTest
):
    async def test_write_documents_async(self, document_store: FlatcoatDocumentStore) -> None:
        first, second = Document("1", content="first"), Document("1", content="second")
        assert await document_store.write_documents_async([first]) == 1
        assert await document_store.write_documents_async([second, second]) == 1
        self.assert_documents_are_equal(await document_store.filter_documents_async(), [second])


async def test_a_pipeline_writes_and_retrieves_in_asyncio(document_store: FlatcoatDocumentStore) -> None:
    writing = Pipeline()
    writing.add_component("writer", DocumentWriter(document_store))
    written = await writing.run_async({"writer": {"documents": [Document(content="Cats purr.")]}})
    assert written["writer"]["documents_written"] == 1
    reading = Pipeline()
    reading.add_component("retriever", FlatcoatDocumentRetriever(document_store))
    found = await reading.run_async({"retriever": {"query": "why do cats purr?"}})
    assert found["retriever"]["documents"][0].content == "Cats purr."


def test_metadata_come_back_as_they_were(document_store: FlatcoatDocumentStore) -> None:
    one = Document(content="Cats purr.", meta={"tags": ["a"], "page": 3, "none": None, "nested": {"a": [1]}})
    document_store.write_documents([one])
    assert document_store.filter_documents({"field": "meta.page", "operator": "==", "value": 3}) == [one]


def test_policies_within_one_call(document_store: FlatcoatDocumentStore) -> None:
    first, second = Document("1", content="first"), Document("1", content="second")
    with pytest.raises(DuplicateDocumentError):
        document_store.write_documents([first, second], DuplicatePolicy.FAIL)
    assert document_store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert document_store.filter_documents() == [first]


def test_a_document_without_text_is_refused(document_store: FlatcoatDocumentStore) -> None:
    with pytest.raises(ValueError, match="no text"):
        document_store.write_documents([Document(content="text"), Document(meta={"page": 1})])
    assert document_store.count_documents() == 0


def test_a_pipeline_retrieves_and_ranks(document_store: FlatcoatDocumentStore) -> None:
    texts = ["Dogs bark at strangers.", "The sky is blue.", "Cats purr when they are content."]
    document_store.write_documents(
        [Document(str(n), content=text, meta={"n": n}) for n, text in enumerate(texts)]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", FlatcoatDocumentRetriever(document_store, top_k=3))
    pipeline.add_component("ranker", FlatcoatRanker(top_k=1))
    pipeline.connect("retriever", "ranker")
    question: dict[str, Any] = {"query": "why do cats purr?"}
    (best,) = pipeline.run({"retriever": question, "ranker": question})["ranker"]["documents"]
    assert best.content == texts[2] and best.meta["source"] == "2" and best.score
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["flatcoat.*"])
    early = {"field": "meta.n", "operator": "<", "value": 2}
    answer = again.run({"retriever": question | {"filters": early, "top_k": 1}, "ranker": question})
    assert answer["ranker"]["documents"][0].meta["n"] < 2


@pytest.mark.parametrize("operator", ["XOR", "or"])
def test_another_logic_is_refused(operator: str) -> None:
    with pytest.raises(FilterError, match=operator):
        as_where({"operator": operator, "conditions": []})


def test_lists_are_looked_into(document_store: FlatcoatDocumentStore) -> None:
    one, other = Document(content="one", meta={"tags": ["a", "b"]}), Document(content="other")
    document_store.write_documents([one, other])
    for operator, value, expected in [
        ("==", "a", [one]),
        ("in", ["b", "c"], [one]),
        ("not in", ["b"], [other]),
        ("!=", "c", [one, other]),
        ("==", None, [other]),
    ]:
        filters = {"field": "meta.tags", "operator": operator, "value": value}
        assert document_store.filter_documents(filters) == expected
