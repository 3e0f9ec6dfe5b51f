"""Conditions: how they read, and what they match in a store."""

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.filters import Condition, parse_condition
from flatcoat.indexing.store import Store

METADATA = [
    {"lang": "python", "year": 2019, "path": "src/a.py", "done": True},
    {"lang": "markdown", "year": 2020.5, "path": "docs/a_b.md", "done": False},
    {"lang": "Python", "year": "2021", "path": "docs/aXb.md"},
    {"odd'\"] key": "o'clock", "n": -3, "version": "10"},
    {},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with Store.create(tmp_path_factory.mktemp("filters") / "index", {}) as store:
        with store.writer() as writer:
            passages = [Passage(str(i), "text", metadata=dict(m)) for i, m in enumerate(METADATA)]
            writer.add(passages, np.ones((len(passages), 2), np.float32))
        yield store


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("lang=python", [0]),
        ("lang!=python", [1, 2]),
        ("year>=2020", [1, 2]),
        ("year<2020.5", [0]),
        ("year=2021", [2]),
        ("year=2.019e3", [0]),
        ("year<=9", [2]),  # "2021" is text there, and compares as text
        ("n>-10", [3]),
        ("version<9", [3]),
        ("path^=docs/a_", [1]),
        ("path^=docs/", [1, 2]),
        ("path^=", [0, 1, 2]),
        ("done=true", [0]),
        ("done!=true", [1]),
        ("done=1", []),
        ("nobody=x", []),
        ("nobody!=x", []),
        ("odd'\"] key=o'clock", [3]),
        ("lang=x' OR 1=1 --", []),
        ("n>99999999999999999999999", []),
        (" lang = python ", [0]),
        ("lang in python,markdown", [0, 1]),
        (" lang in python , , nobody", [0]),
        ("lang=x in python", []),
        ("year in 2019,2021", [0, 2]),
        ("year in 2.019e3,2020.50", [0, 1]),
        ("year in 9e999,99999999999999999999999", []),
        ("year in python", []),
        ("version in 10.0", []),
        ("done in true,1", [0]),
        ("nobody in x", []),
        ("path in src/a.py,x=y", [0]),
        ("n in -3,0", [3]),
    ],
)
def test_a_condition_matches(store: Store, text: str, matches: list[int]) -> None:
    rows = store.rows_where([parse_condition(text)])
    assert rows.dtype == np.int64
    assert [int(passage.document_id) for passage in store.passages(rows)] == matches


def test_conditions_are_all_to_be_met(store: Store) -> None:
    rows = store.rows_where([parse_condition("lang!=x"), parse_condition("year>2019")])
    assert [passage.document_id for passage in store.passages(rows)] == ["1", "2"]
    assert len(store.rows_where([])) == len(METADATA)


def test_values_in_code_keep_their_type(store: Store) -> None:
    assert len(store.rows_where([Condition("done", "=", True)])) == 1
    assert len(store.rows_where([Condition("year", ">", 2020)])) == 2
    assert len(store.rows_where([Condition("year", "in", (2019, 2020.5))])) == 2
    assert len(store.rows_where([Condition("done", "in", (True, False))])) == 2
    assert len(store.rows_where([Condition("year", "in", tuple(range(50_000)))])) == 2
    assert len(store.rows_where([Condition("year", "in", ())])) == 0


def test_in_takes_several_values_and_nothing_else_does(store: Store) -> None:
    for operator, value in (("in", "python"), ("=", ("python",))):
        with pytest.raises(FlatcoatError, match="'in' takes a tuple"):
            store.rows_where([Condition("lang", operator, value)])


@pytest.mark.parametrize(
    "text",
    ["lang", "", "=x", "  !=x", "lang==x", "lang=~x", "lang~x", "a<>b", "lang in", "lang in ,", " in x"],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(FlatcoatError, match="filter"):
        parse_condition(text)


def test_an_unknown_operator_is_refused(store: Store) -> None:
    with pytest.raises(FlatcoatError, match="unknown operator"):
        store.rows_where([Condition("a", "; DROP TABLE documents", "b")])
