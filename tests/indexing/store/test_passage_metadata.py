"""Metadata that are a passage's own: stored, filtered by, kept through every change, and verified."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document, Metadata, Passage
from flatcoat.indexing.filters.condition import Condition
from flatcoat.indexing.filters.forms import as_filters
from flatcoat.indexing.filters.sql import where
from flatcoat.indexing.store.store import Store

from ..corpus import contents, vectors

STORE = {"symbol": "Store, Store.open", "kind": "class", "exported": True}
CLOSE = {"symbol": "Store.close", "kind": "function", "exported": True}
HELPER = {"symbol": 'operator", x', "kind": "function", "exported": False}
HEADER = {"kind": "header"}


def passage(id: str, line: int, own: dict[str, Any], metadata: dict[str, Any] | None = None) -> Passage:
    document = {"lang": "python"} if metadata is None else metadata
    own = {name: value for name, value in own.items() if name not in document}
    return Passage(id, f"text {id} {line}", "", (line, line), document | own, own=tuple(own))


def texts() -> list[Passage]:
    user = {"lang": "python", "kind": "snippet", "symbol": "a, b"}
    return [
        *[passage("code", line, own) for line, own in enumerate([HEADER, STORE, CLOSE, HELPER], 1)],
        passage("user", 1, STORE, user),
        passage("prose", 1, {}, {"lang": "markdown"}),
    ]


@pytest.fixture
def store(tmp_path: Path):
    with Store.create(tmp_path / "my.index", {}) as store:
        with store.writer() as writer:
            writer.add(texts(), vectors(texts()))
        yield store


def found(store: Store, *conditions: str | Condition) -> list[str]:
    return [f"{one.document_id}:{one.lines[0]}" for one in store.passages(store.rows_where(conditions))]


def test_passages_come_back_as_they_were_added(store: Store) -> None:
    assert [passage for passages in contents(store).values() for passage in passages] == texts()
    assert store.verify() == []


@pytest.mark.parametrize(
    ("condition", "places"),
    [
        ("symbol=Store.open", ["code:2"]),
        ("symbol=Store", ["code:2"]),
        ("symbol^=Store", ["code:2", "code:3"]),
        ("symbol in Store.close,x", ["code:3", "code:4"]),
        ('symbol="operator"""', ["code:4"]),
        ("symbol=open", []),
        ("kind=function", ["code:3", "code:4"]),
        ("kind=header", ["code:1"]),
        ("kind!=function", ["code:1", "code:2", "user:1"]),
        ("exported=true", ["code:2", "code:3", "user:1"]),
        ("exported=false", ["code:4"]),
        (Condition("exported", "=", False), ["code:4"]),
        ("kind=snippet", ["user:1"]),
        ('symbol="a, b"', ["user:1"]),
        ("symbol=a", []),
    ],
)
def test_a_condition_matches_passages_by_what_is_theirs(
    store: Store, condition: str | Condition, places: list[str]
) -> None:
    assert found(store, condition) == places


def test_conditions_on_documents_and_passages_are_all_to_be_met(store: Store) -> None:
    assert found(store, "exported=true", "lang=python", "kind=class") == ["code:2"]
    assert found(store, "exported=true", "lang=markdown") == []


def test_conditions_on_documents_alone_look_at_no_passage(store: Store) -> None:
    with closing(sqlite3.connect(store.path / "index.sqlite")) as connection:
        for condition, reads in (("lang=python", False), ("kind=class", True)):
            clause, values = where(as_filters(condition))
            query = f"SELECT row FROM documents CROSS JOIN passages ON document = key WHERE {clause}"
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
            assert ("passages USING COVERING INDEX" not in plan) == reads


def test_own_metadata_outlast_rename_merge_and_compaction(store: Store) -> None:
    with store.writer() as writer:
        writer.rename("code", Document("new", "", "Title", {"lang": "python", "path": "new"}), hash="h")
        more = [passage("more", 1, CLOSE)]
        writer.add(more, vectors(more))
        writer.remove("prose")
    store.compact()
    assert found(store, "symbol=Store.close") == ["new:3", "more:1"]
    named = contents(store)["new"]
    assert [{field: one.metadata[field] for field in one.own} for one in named] == [
        HEADER,
        STORE,
        CLOSE,
        HELPER,
    ]
    assert {one.metadata["path"] for one in named} == {"new"}
    assert store.verify() == []


def test_a_document_that_gets_a_field_of_that_name_hides_its_passages(store: Store) -> None:
    with store.writer() as writer:
        writer.rename("code", Document("code", "", "", {"lang": "python", "kind": "mine"}), hash="h")
    assert found(store, "kind=mine") == ["code:1", "code:2", "code:3", "code:4"]
    assert found(store, "kind=function") == []
    first, second, *_ = contents(store)["code"]
    assert (first.metadata, first.own) == ({"lang": "python", "kind": "mine"}, ())
    assert second.own == ("symbol", "exported")


def test_passages_of_one_document_share_all_other_metadata(store: Store) -> None:
    unlike = [Passage("x", "a", metadata={"kind": "a"}), Passage("x", "b", metadata={"kind": "b"})]
    with store.writer() as writer, pytest.raises(FlatcoatError, match="differ in title or metadata"):
        writer.add(unlike, vectors(unlike))
    wrong_fields: list[tuple[tuple[str, ...], Metadata]] = [(("other",), {"other": 1}), (("kind",), {})]
    for own, metadata in wrong_fields:
        wrong = [Passage("x", "a", metadata=metadata, own=own)]
        with store.writer() as writer, pytest.raises(FlatcoatError, match="symbol, kind, exported"):
            writer.add(wrong, vectors(wrong))


@pytest.mark.parametrize("written", ['{"kind": "test"}', '{"symbol": [7]}', '{"x": 1}', "[]", "{", "7"])
def test_changed_metadata_of_a_passage_are_found_by_verify(store: Store, written: str) -> None:
    with closing(sqlite3.connect(store.path / "index.sqlite")) as connection:
        connection.execute("UPDATE passages SET metadata = ? WHERE row = 2", [written])
        connection.commit()
    assert any("'code' is not what was written" in problem for problem in store.verify())
    if written != '{"kind": "test"}':
        with pytest.raises(FlatcoatError, match="passage 2 of the index"):
            store.passages([2])
