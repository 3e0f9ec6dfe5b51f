"""Filters: what they match in a store, in every form in which they may be given."""

import json
import operator as operators
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage, normalized
from flatcoat.indexing.filters.condition import And, Condition, Filter, Not, Or
from flatcoat.indexing.filters.dates import span_of
from flatcoat.indexing.filters.forms import as_filters
from flatcoat.indexing.filters.grammar import parse_filter
from flatcoat.indexing.filters.sql import where
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
    {"tags": ["red", "blue", 7, True], "day": "2024-03-01", "seen": "2024-03-01T23:30:00-02:00"},
    {"tags": "red", "day": "2024-02-30", "seen": "2024-03-01T08:00:00.5", "x": []},
    {"tags": [10, "10", "2024-01-02"], "day": "2023-12-31T23:59:59.999Z", "seen": "now", "not": 1},
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
        ("year>=2020", [1]),
        ("year<2020.5", [0]),
        ("year=2021", [2]),
        ("year=2.019e3", [0]),
        ("year<=9", []),  # "2021" is text there, and no number
        ('year<="9"', [2]),
        ("n>-10", [3]),
        ("version<9", []),
        ('version<"9"', [3]),
        ("version=10", [3]),  # A bare word is whatever the field holds.
        ('version="10"', [3]),
        ('n="-3"', []),
        ("path^=docs/a_", [1]),
        ("path^=docs/", [1, 2]),
        ("path^=", [0, 1, 2]),
        ("done=true", [0]),
        ("done!=true", [1]),
        ("done=1", []),
        ("odd'\"] key=o'clock", [3]),
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
        ("tags=red", [8, 9]),
        ("tags=blue", [8]),
        ("tags=7", [8]),
        ("tags>5", [8, 10]),
        ("tags>8", [10]),
        ("tags=true", [8]),
        ("tags^=bl", [8]),
        ("tags!=red", [10]),
        ("tags not in blue,10", [9]),
        ("tags in (blue, 2024-01-02)", [8, 10]),
        ("tags<2024-01-03", [10]),
        ("tags exists", [8, 9, 10]),
        ("x exists", [9]),
        ("x=1 or x exists", [9]),
        ("day=2024-03-01", [8]),
        ("day=2024-03", [8]),
        ("day<2024-01", [10]),
        ("day>=2024", [8]),
        ("day<2024", [10]),
        ("day<2025", [8, 10]),
        ("day>2024", []),
        ("day<=2024", [8, 10]),
        ("day=2023", [10]),
        ("day!=2023", [8, 9]),
        ("day in 2023,2025", [10]),
        ('day<"2024"', [10]),
        ('day>"2024"', [9]),  # no date, but a text
        ("year>2020", [1]),
        ("tags<2024", [8, 10]),  # by the number 7, and by a day
        ("day>2023-12-30", [8, 10]),
        ("day>2023-12-31", [8]),
        ("day<=2023-12-31", [10]),
        ("day>2023-12-31T23:59:59.999Z", [8]),
        ('day="2024-02-30"', [9]),  # no date, but a text
        ("day!=2024-03-01", [9, 10]),
        ("seen=2024-03-02", [8]),
        ("seen=2024-03-02T01:30Z", [8]),
        ("seen>2024-03-01T08:00", [8, 9]),
        ("seen in 2024-03-02,now", [8, 10]),
        ("seen<2100-01-01", [8, 9]),
        ("lang=python and year=2019", [0]),
        ("lang=python and year=2020", []),
        ("lang=python or tags=blue and n=-3", [0]),
        ("(lang=python or tags=blue) and tags exists", [8]),
        ("lang exists and not lang in python,Python", [1]),
        ("not lang exists and not tags exists and not name exists", [3, 4]),
        ("lang not exists AND NOT (tags exists OR name exists)", [3, 4]),
        ("lang=python or lang=markdown or year=2021", [0, 1, 2]),
        ("not (lang=python or not lang=markdown)", [1]),
        ("not not lang=python", [0]),
        ("not=1", [10]),
        ("not not=1 and tags exists", [8, 9]),
        ('name="a,b" or (name=(x) or name=")")', [6]),
    ],
)
def test_a_condition_matches(store: Store, text: str, matches: list[int]) -> None:
    rows = store.rows_where(text)
    assert rows.dtype == np.int64
    assert [int(passage.document_id) for passage in store.passages(rows)] == matches


def test_conditions_are_all_to_be_met(store: Store) -> None:
    rows = store.rows_where(["lang!=x", "year>2019"])
    assert [passage.document_id for passage in store.passages(rows)] == ["1"]
    assert len(store.rows_where([])) == len(METADATA)


def test_values_in_code_keep_their_type(store: Store) -> None:
    assert len(store.rows_where([Condition("done", "=", True)])) == 1
    assert len(store.rows_where([Condition("year", ">", 2020)])) == 1
    assert len(store.rows_where([Condition("year", "in", (2019, 2020.5))])) == 2
    assert len(store.rows_where([Condition("done", "in", (True, False))])) == 2
    assert len(store.rows_where([Condition("year", "in", tuple(range(50_000)))])) == 1
    assert len(store.rows_where([Condition("year", "in", ())])) == 0


def test_in_takes_several_values_and_nothing_else_does(store: Store) -> None:
    for operator, value in (("in", "python"), ("=", ("python",))):
        with pytest.raises(FlatcoatError, match="'in' takes a tuple"):
            store.rows_where([Condition("lang", operator, value)])


@pytest.mark.parametrize(
    "text",
    [
        *("lang", "", "=x", "  !=x", "lang==x", "lang=~x", "lang~x", "a<>b", "lang in", "lang in ,", " in x"),
        *(
            "and",
            "a=1 and",
            "a=1 or",
            "or a",
            "not",
            "(a=1",
            "((a=1)",
            "()",
            "a in (b",
            "a in [b)",
            "a in ()",
        ),
        *("a=rock and roll", "a exists b", "exists", "(a=1) b=2", "a=1 and and b=2", "{", '{"a": }', "[]"),
        *("(" * 60 + "a=1" + ")" * 60, "not " * 60 + "a=1", '{"$not":' * 60 + "{}" + "}" * 60),
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(FlatcoatError, match="filter") as error:
        as_filters(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ['x="abc', 'x="a" b', 'x in "a,b', 'x in "a"b,c', '"=x', '""=x', None, 3, ["a=b"]]
)
def test_what_is_badly_quoted_or_no_text_is_refused(text: Any) -> None:
    with pytest.raises(FlatcoatError, match="filter") as error:
        parse_filter(text)
    assert "\n" not in str(error.value)


def test_an_unknown_operator_is_refused(store: Store) -> None:
    with pytest.raises(FlatcoatError, match="unknown operator"):
        store.rows_where([Condition("a", "; DROP TABLE documents", "b")])


def test_one_condition_needs_no_list(store: Store) -> None:
    for one in ("n=-3", Condition("n", "=", -3), ["n=-3"], ("n=-3",), iter(["n=-3"])):
        assert store.rows_where(one).tolist() == [4]
    assert len(store.rows_where(None)) == len(store.rows_where(())) == len(METADATA)
    for bad in (3, [3], [None], "n", b"n=3", [["n=3"]]):
        with pytest.raises(FlatcoatError, match="filter"):
            store.rows_where(bad)  # type: ignore[arg-type]


def test_in_takes_any_sequence(store: Store) -> None:
    several = [2019, 2020.5]
    for values in (several, tuple(several), set(several), np.array(several), dict.fromkeys(several)):
        assert store.rows_where([Condition("year", "in", values)]).tolist() == [1, 2]
    assert store.rows_where([Condition("year", "in", range(2_000, 102_000))]).tolist() == [1]
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


@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * 200_000,
        "a=1 and " * 20_000,
        "not " * 50_000,
        "a in " + "b, " * 100_000 + "(",
        '"' * 99_999,
    ],
)
def test_a_long_filter_is_read_or_refused_in_no_time(text: str) -> None:
    began = time.process_time()
    with suppress(FlatcoatError):
        as_filters(text)
    assert time.process_time() - began < 2


@settings(max_examples=300)
@given(
    st.text(st.sampled_from('ab"=!<>^~, in\ud800\0') | st.characters(), max_size=30)
    | st.lists(
        st.sampled_from([*'a=1 "()[]{},', "and ", " or ", "not ", " in ", " exists", "b<2"]), max_size=12
    ).map("".join)
)
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        filters = as_filters(text)
    except FlatcoatError as error:
        assert "\n" not in str(error)
    else:
        where(filters)


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
    assert parse_filter(text) == (field, operator, value)


# SQLite 3.40 ends a JSON text at \u0000.
_LETTERS = st.sampled_from("ab1.-+eE\u00e9TRUEtruefalsFALS") | st.characters(exclude_characters="\0")
_DATES = st.datetimes(datetime(2023, 12, 30), datetime(2024, 3, 2)).map(
    lambda one: one.replace(microsecond=0)
)
_DAYS = ["2024-02", "2024-02-29", "2024-02-30", "2024-13-01", "2024-02-28T24:00", "2024-02-29T10:30"]
_TEXTS = st.text(_LETTERS, max_size=6) | st.sampled_from([*_DAYS, "a", "b", "10", "true"])
_TEXTS |= _DATES.map(datetime.isoformat) | _DATES.map(lambda one: one.date().isoformat())
_TEXTS |= _DATES.map(lambda one: one.isoformat() + "+05:30")
_SCALARS = _TEXTS | st.booleans() | st.integers(-(2**66), 2**66) | st.integers(-3, 3)
_SCALARS |= st.integers(2022, 2025) | st.integers(2022, 2025).map(str)
_SCALARS |= st.integers(-40, 40).map(lambda number: number / 4)
_FIELDS = st.sampled_from(["a", "b.c", 'd"e', "\u00e9"])
_LISTS = st.lists(_SCALARS, max_size=4).map(tuple)
_CONDITIONS = (
    st.builds(Condition, _FIELDS, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "^="]), _SCALARS)
    | st.builds(
        Condition, _FIELDS, st.sampled_from(["in", "not in"]), st.lists(_SCALARS, max_size=4).map(tuple)
    )
    | st.builds(Condition, _FIELDS, st.just("exists"), st.booleans())
)
_FILTERS = st.recursive(
    _CONDITIONS,
    lambda parts: (
        st.builds(Not, parts)
        | st.builds(And, st.lists(parts, max_size=3).map(tuple))
        | st.builds(Or, st.lists(parts, max_size=3).map(tuple))
    ),
    max_leaves=6,
)
_METADATA = st.lists(
    st.dictionaries(_FIELDS, _SCALARS | st.lists(_SCALARS, max_size=3), max_size=3), min_size=1, max_size=12
)


def twin(given: Filter, metadata: dict[str, Any]) -> bool:
    """What a filter says, in Python."""
    match given:
        case And(parts):
            return all(twin(part, metadata) for part in parts)
        case Or(parts):
            return any(twin(part, metadata) for part in parts)
        case Not(part):
            return not twin(part, metadata)
    if given.operator == "exists":
        return (given.field in metadata) == given.value
    if given.field not in metadata:
        return False
    held = metadata[given.field]
    sign = {"!=": "=", "in": "=", "not in": "="}.get(given.operator, given.operator)
    values = given.value if given.operator.endswith("in") else (given.value,)
    found = any(
        _holds(sign, one, value)
        for one in (held if isinstance(held, list) else [held])
        for value in values  # type: ignore[union-attr]
    )
    return found != (given.operator in ("!=", "not in"))


def _holds(sign: str, held: Any, value: Any) -> bool:
    if sign == "^=":
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return _as_text(held).startswith(normalized(text))
    if isinstance(held, str) and isinstance(value, str):
        value = normalized(value)
        if span_of(value) is None or (len(value) == 4 and not _is_date(held)):
            return _SIGNS[sign](held.encode(), value.encode())  # SQLite compares bytes.
        return (sign == "=" and held == value) or _holds_of_dates(sign, held, value)
    if isinstance(held, str) and type(value) is int and 1000 <= value <= 9999:
        return _holds_of_dates(sign, held, str(value))
    if isinstance(held, str) or isinstance(value, str) or isinstance(held, bool) != isinstance(value, bool):
        return False
    return _SIGNS[sign](_as_number(held), _as_number(value))


def _is_date(held: str) -> bool:
    return len(held) >= 10 and held[10:13] != "T24" and span_of(held) is not None


def _holds_of_dates(sign: str, held: str, value: str) -> bool:
    if not _is_date(held) or (there := span_of(held)) is None:
        return False
    first, last = span_of(value) or (0, 0)
    if sign == "=":
        return first <= there.start <= last
    return _SIGNS[sign](there.start, first if sign in ("<", ">=") else last)


def _as_text(held: Any) -> str:
    if isinstance(held, bool):
        return str(held).lower()
    if isinstance(held, int) and abs(held) >= 2**63:
        return f"{float(held):.14e}"
    return str(held)


def _as_number(value: Any) -> int | float:
    return value if isinstance(value, float) or abs(value) < 2**63 else float(value)


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def stored(value: Any) -> Any:
    if isinstance(value, list):
        return [stored(one) for one in value]
    return normalized(value) if isinstance(value, str) else value


@settings(max_examples=150, deadline=None)
@given(_METADATA, st.lists(_FILTERS, min_size=1, max_size=12))
def test_filters_say_in_sql_what_they_say_in_python(
    held: list[dict[str, Any]], filters: list[Filter]
) -> None:
    held = [{key: stored(value) for key, value in one.items()} for one in held]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE documents(key INTEGER PRIMARY KEY, metadata TEXT)")
        rows = [(number, json.dumps(one, ensure_ascii=False)) for number, one in enumerate(held)]
        connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
        for one in filters:
            clause, values = where([one])
            query = f"SELECT key FROM documents WHERE {clause} ORDER BY key"
            found = [key for (key,) in connection.execute(query, values)]
            assert found == [number for number, metadata in enumerate(held) if twin(one, metadata)], one


def as_text(given: Filter) -> str:
    """A filter as a user would write it, its texts in quotes."""
    match given:
        case And(parts) | Or(parts):
            joint = " and " if isinstance(given, And) else " or "
            return "(" + joint.join(map(as_text, parts)) + ")"
        case Not(part):
            return f"not {as_text(part)}"
        case Condition(field, "exists", value):
            return f"{quoted(field)} {'' if value else 'not '}exists"
    several = given.value if isinstance(given.value, tuple) else (given.value,)
    return f"{quoted(given.field)} {given.operator} ({', '.join(map(quoted, several))})"


def as_dict(given: Filter) -> dict[str, Any]:
    match given:
        case And(parts):
            return {"$and": [as_dict(part) for part in parts]}
        case Or(parts):
            return {"$or": [as_dict(part) for part in parts]}
        case Not(part):
            return {"$not": as_dict(part)}
    signs = {"in": "$in", "not in": "$nin", "exists": "$exists"}
    return {given.field: {signs[given.operator]: given.value}}


_WRITABLE = st.recursive(
    st.builds(
        Condition,
        _FIELDS,
        st.sampled_from(["in", "not in"]),
        st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    )
    | st.builds(Condition, _FIELDS, st.just("exists"), st.booleans()),
    lambda parts: (
        st.builds(Not, parts)
        | st.builds(And, st.lists(parts, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(parts, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=6,
)


@given(_WRITABLE)
def test_a_filter_is_the_same_as_text_as_dict_and_as_json(given: Filter) -> None:
    assert as_filters(as_text(given)) == as_filters(as_dict(given)) == [given]
    (from_json,) = as_filters(json.dumps(as_dict(given)))
    assert where([from_json]) == where([given])


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({"lang": "python"}, [0]),
        ({"year": {"$gte": 2019, "$lt": 2020}}, [0]),
        ({"year": "2021"}, [2]),
        ({"year": 2021}, []),
        ({"version": 10}, []),
        ({"done": True, "lang": "python"}, [0]),
        ({"$or": [{"lang": "python"}, {"tags": {"$in": ["blue"]}}]}, [0, 8]),
        ({"$or": ["lang=python", {"tags": "blue"}]}, [0, 8]),
        ({"$and": [{"lang": {"$ne": "python"}}, {"lang": {"$exists": True}}]}, [1, 2]),
        ({"lang": {"$not": {"$eq": "python"}}, "year": {"$exists": True}}, [1, 2]),
        ({"$not": {"lang": {"$exists": True}}, "n": -3}, [3]),
        ({"path": {"$prefix": "docs/"}}, [1, 2]),
        ({"lang": {"$nin": ["python", "Python"]}}, [1]),
        ({"day": {"$gte": date(2024, 1, 1)}}, [8]),
        ({"seen": {"$eq": datetime(2024, 3, 2, 1, 30, tzinfo=UTC)}}, [8]),
        ({"and": "x", "lang": {"$exists": True}}, FlatcoatError),
        ({"$and": []}, list(range(11))),
        ({"$or": []}, []),
        ({}, list(range(11))),
        ([{"lang": "python"}, "year=2019", Condition("done", "=", True)], [0]),
        (Not(Condition("lang", "exists", True)), list(range(3, 11))),
    ],
)
def test_filters_may_be_dicts(store: Store, given: Any, matches: list[int] | type[Exception]) -> None:
    if not isinstance(matches, list):
        with pytest.raises(matches, match="no document has a field 'and'"):
            store.rows_where(given)
        return
    assert [int(passage.document_id) for passage in store.passages(store.rows_where(given))] == matches


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lang": ["python"]}, "for one of several"),
        ({"lang": {"$regex": "x"}}, r"unknown operator '\$regex'"),
        ({"lang": {"$in": "python"}}, "'in' takes a tuple"),
        ({"lang": {"$exists": 1}}, "takes True or False"),
        ({"$and": {"lang": "x"}}, "a list of dicts"),
        ({"$nor": []}, r"\$and, \$or, \$not"),
        ({3: "x"}, "a field is a text"),
        ({"lang": None}, "a condition on None"),
        ({"$not": 3}, "a text or a Condition"),
        ('{"lang": "x"', "begins as JSON"),
    ],
)
def test_a_malformed_dict_is_refused(store: Store, given: Any, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message) as error:
        store.rows_where(given)
    assert "\n" not in str(error.value)


def test_a_dict_that_holds_itself_is_refused(store: Store) -> None:
    loop: dict[str, Any] = {}
    loop["$and"] = [loop]
    with pytest.raises(FlatcoatError, match="nested over 50 levels"):
        store.rows_where(loop)
    deep: Filter = Condition("lang", "=", "x")
    for _ in range(60):
        deep = Not(deep)
    with pytest.raises(FlatcoatError, match="nested over 50 levels"):
        store.rows_where(deep)


@pytest.mark.parametrize(
    "leaf",
    [
        Condition("n", "!=", 1999),
        Condition("n", "in", (2024, "2025", 1, True)),
        Condition("symbol", "=", "2024"),
    ],
)
@pytest.mark.parametrize("others", [1, 2, 9])
def test_filters_that_turn_from_and_to_or_are_read_or_refused(
    store: Store, leaf: Condition, others: int
) -> None:
    """The stack of SQLite's parser is short; what it has no room for is no error of the index."""
    never, deep = (Condition("n", "=", -1),) * others, Or((leaf, Condition("symbol", "exists", True)))
    for turn in range(19):
        deep = (And, Or)[turn % 2]((*never, deep))
    store.rows_where(deep)
    store.rows_where(Not(deep))
    for turn in range(2):
        deep = (Or, And)[turn]((*never, deep))
    with pytest.raises(FlatcoatError, match="turns from and to or over 20 times"):
        store.rows_where(deep)
    store.rows_where(Or((Or((Not(Not(leaf)),)), Condition("symbol", "exists", True))))


def test_wide_and_deep_filters_are_within_what_sqlite_reads(store: Store) -> None:
    many = [Condition("n", "=", number) for number in range(-200, 200)]
    assert store.rows_where(Or(tuple(many))).tolist() == [4]
    assert store.rows_where("(" * 49 + "n=-3" + ")" * 49).tolist() == [4]
    deep: Filter = Condition("n", "=", -3)
    for _ in range(48):
        deep = Or((deep, Condition("tags", "in", ("none",))))
    assert store.rows_where(deep).tolist() == [4]
    assert store.rows_where(" or ".join(["symbol exists", *["n=-3"] * 400])).tolist() == [4]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("langg=python", "did you mean 'lang'"),
        ("LANG=python", "did you mean 'lang'"),
        ("lang=python or yaer>3", "did you mean 'year'"),
        ("not langg=python", "did you mean 'lang'"),
        ({"tag": {"$in": ["x"]}}, "did you mean 'tags'"),
        ("zzzzzz!=1", "there are"),
        ("symbol=Store.open", "no document has a field 'symbol'"),
    ],
)
def test_a_field_that_no_document_has_is_an_error_with_the_nearest(
    store: Store, given: Any, hint: str
) -> None:
    with pytest.raises(FlatcoatError, match=hint) as error:
        store.rows_where(given)
    assert "\n" not in str(error.value)


def test_a_filter_may_ask_whether_a_field_is_there(store: Store, tmp_path: Path) -> None:
    assert store.rows_where("langg exists").tolist() == []
    assert store.rows_where("langg exists and langg=python").tolist() == []
    assert store.rows_where("langg=python or langg not exists and lang=python").tolist() == [1]
    with Store.create(tmp_path / "empty", {}) as empty:
        assert empty.rows_where("anything=1").tolist() == []


@pytest.mark.parametrize(
    "text", ["x' OR 1=1 --", '") OR 1=1 --', "?1", ":a", "x'); DROP TABLE documents; --"]
)
def test_what_a_filter_says_is_never_sql(store: Store, text: str) -> None:
    everything = store.rows_where(None).tolist()
    for one in (
        Condition("lang", "=", text),
        Condition("lang", "in", [text]),
        Condition("lang", "^=", text),
        {"lang": text},
    ):
        assert store.rows_where(one).tolist() == []
    with pytest.raises(FlatcoatError, match="no document has"):
        store.rows_where(Condition(text, "=", "x"))
    assert store.rows_where(None).tolist() == everything


def test_threads_share_what_is_kept(store: Store) -> None:
    def ask(number: int) -> list[int]:
        return [len(store.rows_where(f"year>={2018 + (number + step) % 5}")) for step in range(40)]

    expected = [ask(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == expected


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
