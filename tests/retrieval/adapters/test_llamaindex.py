"""LlamaIndex's base classes over a real index and a real model."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="pip install -c constraints.txt flatcoat[llamaindex]")

from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from flatcoat import Retriever, UsageError
from flatcoat.retrieval.adapters.llamaindex import (
    FlatcoatEmbedding,
    FlatcoatNodeRetriever,
    FlatcoatPostprocessor,
    as_where,
)

from ...conftest import MakeFolder


def named(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.metadata["source"] for node in nodes]


async def test_a_retriever_finds_nodes_that_say_where_they_are(index: Retriever) -> None:
    retriever = FlatcoatNodeRetriever(index.store.path, k=2)
    nodes = retriever.retrieve("why do cats purr?")
    assert named(nodes)[0] == "cat" and len(nodes) == 2 and (nodes[0].score or 0) > 0
    node = nodes[0].node
    assert node.node_id == "cat:1" and node.metadata["lines"] == [1, 1] and node.metadata["year"] == 2001
    assert node.source_node and node.source_node.node_id == "cat"
    assert NodeRelationship.SOURCE in node.relationships
    assert await retriever.aretrieve(QueryBundle("why do cats purr?")) == nodes


def test_filters_are_conditions(index: Retriever) -> None:
    later = MetadataFilter(key="year", operator=FilterOperator.GTE, value=2002)
    filters = MetadataFilters(
        filters=[MetadataFilters(filters=[later]), MetadataFilter(key="lang", value="en")]
    )
    assert set(named(FlatcoatNodeRetriever(index, filters=filters).retrieve("blue"))) == {"bread", "bridge"}
    assert named(FlatcoatNodeRetriever(index, filters="year=2000").retrieve("blue")) == ["sky"]


FILTERS = [
    ("year", FilterOperator.NE, 2000, {"cat", "bread", "bridge"}),
    ("year", FilterOperator.NIN, [2000, 2001], {"bread", "bridge"}),
    ("year", FilterOperator.IN, [2000, 2001], {"sky", "cat"}),
    ("lang", FilterOperator.ANY, ["en", "fr"], {"sky", "cat", "bread", "bridge"}),
    ("lang", FilterOperator.ALL, ["en", "fr"], set()),
    ("lang", FilterOperator.CONTAINS, "en", {"sky", "cat", "bread", "bridge"}),
    ("author", FilterOperator.IS_EMPTY, None, {"sky", "cat", "bread", "bridge"}),
    ("author", FilterOperator.EQ, "me", set()),
    ("author", FilterOperator.NE, "me", {"sky", "cat", "bread", "bridge"}),
]


@pytest.mark.parametrize(("key", "operator", "value", "expected"), FILTERS)
def test_operators_mean_what_they_mean_in_llamaindex(
    index: Retriever, key: str, operator: FilterOperator, value: Any, expected: set[str]
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
    found = FlatcoatNodeRetriever(index, filters=filters, mode="vectors").retrieve("blue")
    assert set(named(found)) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (FilterCondition.OR, {"sky", "cat"}),
        (FilterCondition.AND, set()),
        (FilterCondition.NOT, {"bread", "bridge"}),
    ],
)
def test_filters_are_joined(index: Retriever, condition: FilterCondition, expected: set[str]) -> None:
    both = [MetadataFilter(key="year", value=2000), MetadataFilter(key="year", value=2001)]
    filters = MetadataFilters(filters=[*both], condition=condition)
    found = FlatcoatNodeRetriever(index, filters=filters, mode="vectors").retrieve("blue")
    assert set(named(found)) == expected


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UsageError, match="text_match"):
        as_where(MetadataFilters(filters=[MetadataFilter(key="a", operator="text_match", value="b")]))


async def test_an_embedding_embeds(make_dense: MakeFolder) -> None:
    embedding = FlatcoatEmbedding(make_dense())
    query = embedding.get_query_embedding("cats purr")
    assert len(query) == 64 and sum(value * value for value in query) == pytest.approx(1, abs=1e-5)
    texts = ["cats purr", "dogs bark"]
    batch = embedding.get_text_embedding_batch(texts)
    assert batch[1] == pytest.approx(embedding.get_text_embedding("dogs bark"), abs=1e-5)
    assert await embedding.aget_query_embedding("cats purr") == query
    assert await embedding.aget_text_embedding_batch(texts) == [pytest.approx(one, abs=1e-5) for one in batch]
    assert embedding.to_dict()["model_name"] == embedding.model_name


async def test_embedding_leaves_the_event_loop_free(make_dense: MakeFolder) -> None:
    """The coroutine that counts goes on while documents are encoded in one batch."""
    embedding = FlatcoatEmbedding(make_dense())
    counted = 0

    async def count() -> None:
        nonlocal counted
        while True:
            counted += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await embedding.aget_text_embedding_batch(["cats purr at night"] * 200)
    await embedding.aget_text_embedding("cats purr")
    counting.cancel()
    assert counted > 100


async def test_a_postprocessor_keeps_the_best() -> None:
    texts = ["Dogs bark at strangers.", "The sky is blue.", "Cats purr when they are content."]
    nodes = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in texts]
    postprocessor = FlatcoatPostprocessor(top_n=2)
    kept = postprocessor.postprocess_nodes(nodes, query_str="why do cats purr?")
    assert len(kept) == 2 and kept[0].node.get_content() == texts[2]
    assert (kept[0].score or 0) > (kept[1].score or 0) and nodes[2].score == 1.0
    later = await postprocessor.apostprocess_nodes(nodes, query_str="why do cats purr?")
    assert [one.node for one in later] == [one.node for one in kept]
    assert [one.score for one in later] == pytest.approx([one.score for one in kept], abs=1e-4)
    with pytest.raises(UsageError, match="query"):
        postprocessor.postprocess_nodes(nodes)
