"""Searches by meaning among what filters and patterns let through, and lists of that without a query."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat import Document, Retriever
from flatcoat.errors import UsageError
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]

WORDS = ["cat", "dog", "river", "bridge", "bread", "yeast", "sky", "light", "wave", "forest"]


def documents() -> list[Document]:
    random = np.random.default_rng(5)
    return [
        Document(
            f"d{number:02}",
            f"{' '.join(random.choice(WORDS, 6))}\nitem{number} def f{number % 7}()",
            metadata={"part": number % 3, "tags": ["even" if number % 2 == 0 else "odd", "all"]},
        )
        for number in range(60)
    ]


@pytest.fixture(scope="module", params=["exact", "plaid", "faiss"])
def retriever(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_colbert: MakeFolder,
    make_dense: MakeFolder,
) -> Iterator[Retriever]:
    folder = make_dense() if request.param == "faiss" else make_colbert()
    engine = EngineSettings(request.param, factory="Flat")
    path = tmp_path_factory.mktemp("patterns") / "index"
    retriever = Retriever.create(path, load_encoder(folder, device="cpu"), index=engine)
    retriever.add(documents())
    retriever.compact()
    yield retriever
    retriever.close()


@pytest.mark.parametrize("mode", ["vectors", "bm25", "hybrid"])
@pytest.mark.parametrize(
    ("narrow", "holds"),
    [
        (
            {"where": "part=1 and tags=odd"},
            lambda one: one.metadata["part"] == 1 and "odd" in one.metadata["tags"],
        ),
        (
            {"where": {"$or": [{"part": 0}, {"tags": "odd"}]}},
            lambda one: one.metadata["part"] == 0 or "odd" in one.metadata["tags"],
        ),
        ({"regex": r"def f[12]\("}, lambda one: re.search(r"def f[12]\(", one.text)),
        ({"fixed": "RIVER", "case": "ignore"}, lambda one: "river" in one.text),
        (
            {"regex": "^item1", "fixed": "cat", "where": "not part=2"},
            lambda one: "\nitem1" in one.text and "cat" in one.text and one.metadata["part"] != 2,
        ),
        ({"fixed": "zebra"}, lambda one: False),
    ],
)
def test_all_and_only_what_is_let_through_is_ranked(
    retriever: Retriever, mode: Any, narrow: dict[str, Any], holds: Callable[[Document], Any]
) -> None:
    wanted = {one.id for one in documents() if holds(one) and (mode != "bm25" or "cat" in one.text.split())}
    found = [result.document_id for result in retriever.search("cat", 100, mode=mode, signals=(), **narrow)]
    assert set(found) <= {one.id for one in documents() if holds(one)}
    every = [result.document_id for result in retriever.search("cat", 100, mode=mode, signals=())]
    assert len(found) == len(set(found))
    if mode == "bm25" or retriever.store.engine.name == "exact":
        assert set(found) == wanted
        assert found == [id for id in every if id in wanted] or mode == "hybrid"


def test_without_a_query_all_is_listed_in_order(retriever: Retriever) -> None:
    ids = [one.id for one in documents() if " def f3" in one.text]
    results = retriever.search(regex=r"def f3\(", k=100, best_lines=True)
    assert [result.document_id for result in results] == ids
    assert {result.text[slice(*result.best_span)].split()[-1] for result in results} == {"f3()"}  # type: ignore[misc]
    assert [result.rank for result in results] == list(range(1, len(ids) + 1))
    assert [result.document_id for result in retriever.search(fixed="def F3(", case="ignore", k=3)] == ids[:3]
    listed = retriever.search(None, 100, where="part=1", group=True)
    assert [result.document_id for result in listed] == [
        one.id for one in documents() if one.metadata["part"] == 1
    ]
    assert retriever.search(where="tags=none") == []


def test_nothing_to_look_for_is_refused(retriever: Retriever) -> None:
    for ask, message in (
        (lambda: retriever.search(), "say what to look for"),
        (lambda: retriever.search(" ", regex="x"), "the query is empty"),
        (lambda: retriever.search(where=[]), "say what to look for"),
        (lambda: retriever.search(regex="x", rerank="any"), "nothing to rerank by"),
        (lambda: retriever.search("cat", regex="("), "malformed"),
        (lambda: retriever.search("cat", where="prat=1"), "did you mean 'part'"),
        (lambda: retriever.search("cat", case="upper"), "smart, sensitive, ignore"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=message):
            ask()


def test_the_content_asked_for_may_be_missing(retriever: Retriever) -> None:
    assert retriever.search("cat", content="code") == []
