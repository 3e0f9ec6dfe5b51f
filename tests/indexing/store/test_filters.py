"""Conditions: how they read, and what they match in a store."""

import json
import operator as operators
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage, normalized
from flatcoat.indexing.store.filters import AnyOf, Condition, parse_condition, where
from flatcoat.indexing.store.store import Store

METADATA = [
    {"lang": "python", "year": 2019, "path": "src/a.py", "done": True},
    {"lang": "markdown", "year": 2020.5, "path": "docs/a_b.md", "done": False},
    {"lang": "Python", "year": "2021", "path": "docs/aXb.md"},
    {"odd'\"] key": "o'clock", "n": -3, "version": "10"},
    {},
    {"name": "<unknown>", "a=b": 3, "big": 10**20},
    {"name": "a,b", "a.b": "dotted"},
    {"name": 'say "hi"', "Zo\u00eb": "caf\u00e9"},
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
        ("done=True", [0]),
        ("done=FALSE", [1]),
        ("done!=True", [1]),
        ("done in True,x", [0]),
        ("done^=tr", [0]),
        ("lang=PYTHON", []),  # Only booleans are written in any case.
        ('lang="python"', [0]),
        (' "lang" = "python" ', [0]),
        ('year="2021"', [2]),
        ('name="<unknown>"', [5]),
        ('name in "<unknown>",b', [5]),
        ('name!="<unknown>"', [6, 7]),
        ('name="a,b"', [6]),
        ('name in c,"a,b"', [6]),
        ('name in "a",b', []),
        ('name="say ""hi"""', [7]),
        ('name in "say ""hi""","a,b"', [6, 7]),
        ('name^="say """', [7]),
        ('name=say "hi"', [7]),
        ('"a=b">=3', [5]),
        ('"a=b" in 3,4', [5]),
        ("a.b=dotted", [6]),
        ("big>9223372036854775807", [5]),
        ("big=100000000000000000000", [5]),
        ("big<-1e300", []),
        ("big<9e999", [5]),
        ("Zoe\u0308=caf\u00e9", [7]),
        ("Zo\u00eb=cafe\u0301", [7]),
        ("\ud800=\udfff", []),
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
    with pytest.raises(FlatcoatError, match="filter") as error:
        parse_condition(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ['x="abc', 'x="a" b', 'x in "a,b', 'x in "a"b,c', '"=x', '""=x', None, 3, ["a=b"]]
)
def test_what_is_badly_quoted_or_no_text_is_refused(text: Any) -> None:
    with pytest.raises(FlatcoatError, match="filter") as error:
        parse_condition(text)
    assert "\n" not in str(error.value)


def test_an_unknown_operator_is_refused(store: Store) -> None:
    with pytest.raises(FlatcoatError, match="unknown operator"):
        store.rows_where([Condition("a", "; DROP TABLE documents", "b")])


def test_one_condition_needs_no_list(store: Store) -> None:
    for one in ("n=-3", Condition("n", "=", -3), ["n=-3"], ("n=-3",), iter(["n=-3"])):
        assert store.rows_where(one).tolist() == [4]
    assert len(store.rows_where(None)) == len(store.rows_where(())) == len(METADATA)
    for bad in (3, [3], [None], {"n": 3}, "n"):
        with pytest.raises(FlatcoatError, match="filter"):
            store.rows_where(bad)  # type: ignore[arg-type]


def test_in_takes_any_sequence(store: Store) -> None:
    several = [2019, 2020.5]
    for values in (several, tuple(several), set(several), np.array(several), dict.fromkeys(several)):
        assert store.rows_where([Condition("year", "in", values)]).tolist() == [1, 2]
    assert store.rows_where([Condition("year", "in", range(2_000, 102_000))]).tolist() == [1, 3]
    assert store.rows_where([Condition("lang", "in", map(str, range(100_000)))]).tolist() == []
    assert store.rows_where([Condition("lang", "in", ["python", "\ud800", 1, True])]).tolist() == [1]


@pytest.mark.parametrize("value", [float("nan"), None, b"python", {}, object(), [[1]], [None]])
def test_a_value_that_nothing_equals_is_refused(store: Store, value: Any) -> None:
    operator = "in" if isinstance(value, list) else "="
    with pytest.raises(FlatcoatError, match=r"condition on|takes a tuple"):
        store.rows_where([Condition("lang", operator, value)])


def test_numbers_of_any_size_and_of_numpy(store: Store) -> None:
    for value in (10**20, 1e20, np.float64(1e20)):
        assert store.rows_where([Condition("big", "=", value)]).tolist() == [6]
    for value in (10**400, float("inf")):
        assert store.rows_where([Condition("big", "<", value)]).tolist() == [6]
        assert store.rows_where([Condition("big", ">", -value)]).tolist() == [6]
    assert store.rows_where([Condition("n", "=", np.int64(-3))]).tolist() == [4]
    assert store.rows_where([Condition("done", "=", np.bool_(True))]).tolist() == [1]


def test_many_conditions_are_all_looked_at_or_refused(store: Store) -> None:
    assert store.rows_where(["n>-9"] * 400).tolist() == [4]
    with pytest.raises(FlatcoatError, match=r"2,000 conditions: up to \d+ are possible"):
        store.rows_where(["n>-9"] * 2_000)


def test_a_commit_ends_what_is_kept_of_a_filter(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", {}) as store:
        for number, value in enumerate("xyx"):
            with store.writer() as writer:
                writer.add([Passage(str(number), "text", metadata={"v": value})], np.ones((1, 2), np.float32))
            assert len(store.rows_where(["v=x"])) == (number // 2) + 1
            assert store.rows_where(["v=x"]) is store.rows_where([Condition("v", "=", "x")])
        with store.writer() as writer:
            writer.remove(["0"])
        assert store.rows_where(["v=x"]).tolist() == [3]


@settings(max_examples=300)
@given(st.text(st.sampled_from('ab"=!<>^~, in\ud800\0') | st.characters(), max_size=30))
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        condition = parse_condition(text)
    except FlatcoatError as error:
        assert "\n" not in str(error)
    else:
        assert condition.field
        where([condition])


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@given(
    st.text(min_size=1),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "^=", "in"]),
    st.lists(st.text(), min_size=1, max_size=4),
)
def test_what_is_quoted_is_read_as_it_stands(field: str, operator: str, values: list[str]) -> None:
    value = tuple(values) if operator == "in" else values[0]
    text = f"{quoted(field)} {operator} {','.join(map(quoted, values if operator == 'in' else values[:1]))}"
    assert parse_condition(text) == (field, operator, value)


# SQLite 3.40 ends a JSON text at \u0000.
_LETTERS = st.sampled_from("ab1.-+eE\u00e9TRUEtruefalsFALS") | st.characters(exclude_characters="\0")
_TEXTS = st.text(_LETTERS, max_size=6)
_SCALARS = _TEXTS | st.booleans() | st.integers(-(2**66), 2**66) | st.integers(-3, 3)
_SCALARS |= st.integers(-40, 40).map(lambda number: number / 4)
_FIELDS = st.sampled_from(["a", "b.c", 'd"e', "\u00e9"])


def twin(condition: Condition, metadata: dict[str, Any]) -> bool:
    """What a condition says, in Python."""
    if condition.field not in metadata:
        return False
    held = metadata[condition.field]
    values = condition.value if condition.operator == "in" else (condition.value,)
    return any(_holds(condition.operator.replace("in", "="), held, value) for value in values)  # type: ignore[union-attr]


def _holds(operator: str, held: Any, value: Any) -> bool:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    number = None if isinstance(value, bool) else _as_number(value)
    if isinstance(held, bool):
        held, text = str(held).lower(), text.lower() if text.lower() in ("true", "false") else text
    elif isinstance(held, int | float):
        held = held if isinstance(held, int) and abs(held) < 2**63 else float(held)
        if number is not None and operator != "^=":
            return _OPERATORS[operator](held, number)
        held = str(held) if abs(held) < 2**63 else f"{held:.14e}"
    held_bytes, text_bytes = held.encode(), normalized(text).encode()  # SQLite compares bytes.
    return _OPERATORS[operator](held_bytes, text_bytes)


def _as_number(value: Any) -> int | float | None:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII):
            return None
        value = int(value) if value.lstrip("+-").isdigit() else float(value)
    return value if isinstance(value, float) or abs(value) < 2**63 else float(value)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
    "^=": lambda held, text: held.startswith(text),
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(_FIELDS, _SCALARS, max_size=3), min_size=1, max_size=12),
    st.lists(
        st.builds(Condition, _FIELDS, st.sampled_from([*_OPERATORS]), _SCALARS)
        | st.builds(Condition, _FIELDS, st.just("in"), st.lists(_SCALARS, max_size=4)),
        min_size=1,
        max_size=12,
    ),
)
def test_conditions_say_in_sql_what_they_say_in_python(
    tmp_path_factory: pytest.TempPathFactory, held: list[dict[str, Any]], conditions: list[Condition]
) -> None:
    held = [
        {key: normalized(value) if isinstance(value, str) else value for key, value in one.items()}
        for one in held
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE documents(key INTEGER PRIMARY KEY, metadata TEXT)")
        rows = [(number, json.dumps(one, ensure_ascii=False)) for number, one in enumerate(held)]
        connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
        for condition in conditions:
            clause, values = where([condition])
            query = f"SELECT key FROM documents WHERE {clause} ORDER BY key"
            found = [key for (key,) in connection.execute(query, values)]
            assert found == [number for number, one in enumerate(held) if twin(condition, one)], condition


def test_a_filter_costs_little_more_than_the_reading_of_its_rows(tmp_path: Path) -> None:
    """Of 8,000 passages, of which 1, 50 or 99 in a hundred are allowed."""
    random = np.random.default_rng(0)
    with Store.create(tmp_path / "i", {}) as store:
        with store.writer() as writer:
            words = random.integers(0, 50, (8_000, 12))
            batch = [
                Passage(str(n), " ".join(f"w{word}" for word in row), metadata={"g": n % 100})
                for n, row in enumerate(words)
            ]
            writer.add(batch, random.standard_normal((8_000, 8), dtype=np.float32))
        index, query = store.index(), random.standard_normal((1, 8), dtype=np.float32)

        def search(rows: np.ndarray | None) -> None:
            store.bm25("w1 w2 w3", 100, rows=rows)
            index.search(query, 100, allowed=rows)

        without = best_of(lambda: search(None))
        for condition in ("g<1", "g<50", "g<99"):
            rows = store.rows_where([condition])
            assert best_of(lambda rows=rows: search(rows)) < 3 * without + 0.01
            hits = store.bm25("w1 w2 w3", 10**6, rows=rows)
            every = store.bm25("w1 w2 w3", 10**6)
            kept = np.isin(every.ids, rows)
            assert hits.ids == np.array(every.ids)[kept].tolist()
            assert hits.scores.tolist() == every.scores[kept].tolist()


def best_of(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def test_rows_that_lie_far_apart_are_filtered_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "i", {}) as store:
        with store.writer() as writer:
            batch = [Passage(str(n), f"word w{n}", metadata={"g": n % 3}) for n in range(30)]
            writer.add(batch, np.ones((30, 2), np.float32))
        rows = store.rows_where(["g in 0,2"])
        found = store.bm25("word", 30, rows=rows)
        assert sorted(found.ids) == rows.tolist()
        monkeypatch.setattr("flatcoat.indexing.store.bm25._WIDEST_TABLE", 3)
        assert store.bm25("word", 30, rows=rows).ids == found.ids


CONDITIONS = ["lang=python", "lang!=python", "year>=2020", "done=false", "path^=docs/", "n<0", "name in x,y"]
NESTED = st.recursive(
    st.sampled_from([parse_condition(text) for text in CONDITIONS]),
    lambda inner: st.lists(st.lists(inner, max_size=3).map(tuple), max_size=3).map(
        lambda choices: AnyOf(tuple(choices))
    ),
    max_leaves=12,
)


@given(conditions=st.lists(NESTED, max_size=3))
def test_any_of_several_lists_is_their_union(store: Store, conditions: list[Condition | AnyOf]) -> None:
    everything = set(store.rows_where([]).tolist())

    def rows(condition: Condition | AnyOf) -> set[int]:
        if isinstance(condition, Condition):
            return set(store.rows_where([condition]).tolist())
        return set().union(*(everything.intersection(*map(rows, choice)) for choice in condition.choices))

    assert set(store.rows_where(conditions).tolist()) == everything.intersection(*map(rows, conditions))


def test_conditions_are_counted_wherever_they_stand(store: Store) -> None:
    conditions = [parse_condition("n=1")] * 250
    assert store.rows_where([AnyOf((tuple(conditions), tuple(conditions[:249])))]).tolist() == []
    with pytest.raises(FlatcoatError, match="500 conditions"):
        store.rows_where([AnyOf((tuple(conditions), tuple(conditions)))])


def test_conditions_may_be_six_deep(store: Store) -> None:
    one, other = parse_condition("lang=python"), parse_condition("symbol=Store")
    nested: Condition | AnyOf = one
    for _ in range(6):
        nested = AnyOf(((nested, one), (other, other)))
    assert store.rows_where([nested, one]).tolist() == store.rows_where([one]).tolist() != []
    with pytest.raises(FlatcoatError, match="7 deep"):
        store.rows_where([AnyOf(((nested,),))])
