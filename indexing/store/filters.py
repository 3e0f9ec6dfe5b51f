"""Conditions on document metadata, such as ``lang=python`` or ``year in 2020,2021``, and their SQL.

A field or value in double quotes is taken as it stands, a quote in it being written twice:
``name="<unknown>"``, ``lang in "a,b",c``, ``"a=b">3``.

The rows that met some conditions are kept from one search to the next, and told to SQLite (``among``).
"""

import json
import math
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Scalar, normalized

_OPERATORS = ("!=", "<=", ">=", "^=", "=", "<", ">", "in")
_QUOTED = r'"(?:[^"]|"")*"'
_CONDITION = re.compile(rf"\s*({_QUOTED}|[^=!<>^]*?)\s*(!=|<=|>=|\^=|=|<|>|(?<=\s)in(?=\s))(.*)", re.DOTALL)
_ONE_OF_SEVERAL = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(?:,|$)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BIGGEST_INTEGER = 2**63 - 1
_MOST_CONDITIONS = 500  # SQLite nests them, up to a thousand deep

_IS_NUMBER = "field.type IN ('integer', 'real')"
# The type of a boolean is "true" or "false".
_AS_TEXT = """
    CASE WHEN field.type IN ('true', 'false') THEN {boolean} ELSE {other} END
""".strip()
_SOME_FIELD = "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ? AND {test})"


class Condition(NamedTuple):
    """``field operator value``. Numbers compare as numbers where both sides are, everything else as text.

    A document without the field never matches, whatever the operator. ``^=`` asks for a prefix, ``in`` for
    one of several values, any sequence of them. True and False are texts to a condition, "True" too.
    """

    field: str
    operator: str
    value: Scalar | Sequence[Scalar]


Conditions: TypeAlias = "str | Condition | Iterable[str | Condition] | None"
"""Those that are all to be met, one alone being as good as a list of one."""


def as_conditions(conditions: object) -> list[Condition]:
    """The conditions of any form; FlatcoatError where one cannot be read."""
    if conditions is None:
        return []
    if isinstance(conditions, str | Condition):
        conditions = [conditions]
    if isinstance(conditions, bytes | Mapping) or not isinstance(conditions, Iterable):
        raise FlatcoatError(
            f"filter {conditions!r:.60}: in where a list of conditions such as 'lang=python' is wanted"
        )
    return [one if isinstance(one, Condition) else parse_condition(one) for one in conditions]


def parse_condition(text: str) -> Condition:
    """Read ``field operator value``, the values of ``in`` separated by commas.

    The first operator counts. FlatcoatError where the field, an operator or a value for ``in`` is missing.
    """
    known = ", ".join(_OPERATORS)
    if not isinstance(text, str):
        raise FlatcoatError(f"filter {text!r:.60}: in where a text or a Condition is wanted")
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise FlatcoatError(
            f"filter {text!r:.200} has no operator: write it as lang=python, with one of {known}"
        )
    field, operator, value = _plain(match[1].strip(), text), match[2], match[3].strip()
    if not field:
        raise FlatcoatError(f"filter {text!r:.200} names no field: write it as lang=python")
    if value[:1] in tuple("=<>~"):
        raise FlatcoatError(
            f"filter {text!r:.200} has an unknown operator {operator + value[0]!r}: use one of {known}, or "
            "put the value in double quotes"
        )
    if operator != "in":
        return Condition(field, operator, _plain(value, text))
    values = tuple(_plain(one, text) for one in _several(value))
    if not values:
        raise FlatcoatError(f"filter {text!r:.200} names no value: write it as lang in python,rust")
    return Condition(field, operator, values)


def where(conditions: Conditions) -> tuple[str, list[Any]]:
    """SQL over ``documents.metadata`` that holds where all conditions do, and the values it binds."""
    clauses, values = ["1"], []
    for condition in as_conditions(conditions):
        if not isinstance(condition.field, str):
            raise FlatcoatError(f"{condition!r:.200}: the name of a field is a text")
        test, bound = _test(condition)
        clauses.append(_SOME_FIELD.format(test=test))
        values += [normalized(condition.field), *bound]
    if len(clauses) > _MOST_CONDITIONS:
        raise FlatcoatError(
            f"{len(clauses) - 1:,} conditions: up to {_MOST_CONDITIONS - 1} are possible; "
            "'in' takes any number of values"
        )
    return " AND ".join(clauses), values


def _several(text: str) -> Iterator[str]:
    """What stands between commas, quoted or not, without what is blank."""
    at = 0
    while at < len(text):
        match = _ONE_OF_SEVERAL.match(text, at)
        assert match  # Its second form takes anything up to a comma.
        if match[1]:
            yield match[1]
        at = match.end()


def _plain(text: str, condition: str) -> str:
    """A field or value without its quotes."""
    if not text.startswith('"'):
        return text
    if not re.fullmatch(_QUOTED, text, re.DOTALL):
        raise FlatcoatError(
            f"filter {condition!r:.200} begins a quote that does not end with {text!r:.60}: "
            "write a quote within quotes twice"
        )
    return text[1:-1].replace('""', '"')


def _test(condition: Condition) -> tuple[str, list[Any]]:
    operator, value = condition.operator, condition.value
    if operator not in _OPERATORS:
        raise FlatcoatError(f"unknown operator {operator!r:.60}: use one of {', '.join(_OPERATORS)}")
    if (isinstance(value, Iterable) and not isinstance(value, str | bytes)) != (operator == "in"):
        raise FlatcoatError(
            f"{condition!r:.200}: operator 'in' takes a tuple or list of values, any other a single one"
        )
    if operator == "in":
        return _test_in([_scalar(one) for one in value])  # type: ignore[union-attr]
    scalar = _scalar(value)
    text = _text(scalar)
    if operator == "^=":
        test, bound = "instr({}, ?) = 1", [_boolean(text), text]
    else:
        test, bound = f"{{}} {operator} ?", [_boolean(text), text]
    as_text = _AS_TEXT.format(
        boolean=test.format("field.type"), other=test.format("CAST(field.value AS TEXT)")
    )
    number = None if operator == "^=" else _number(scalar)
    if number is None:
        return as_text, bound
    return f"CASE WHEN {_IS_NUMBER} THEN field.value {operator} ? ELSE {as_text} END", [number, *bound]


def _test_in(values: Sequence[Scalar]) -> tuple[str, list[Any]]:
    texts = [_text(value) for value in values]
    numbers = [number for value in values if (number := _number(value)) is not None and math.isfinite(number)]
    # Values go as JSON: there may be more of them than SQLite binds.
    among = "IN (SELECT value FROM json_each(?))"
    as_text = _AS_TEXT.format(boolean=f"field.type {among}", other=f"CAST(field.value AS TEXT) {among}")
    lists = numbers, [_boolean(text) for text in texts], texts
    test = f"CASE WHEN {_IS_NUMBER} THEN field.value {among} ELSE {as_text} END"
    return test, [json.dumps(one) for one in lists]


def _scalar(value: Any) -> Scalar:
    """A value that a condition can have, numpy's as Python's; FlatcoatError for anything else."""
    if not isinstance(value, Scalar) and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Scalar) or value != value:
        raise FlatcoatError(f"a condition on {value!r:.60}: a text, number or boolean is needed")
    return normalized(value) if isinstance(value, str) else value


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boolean(text: str) -> str:
    """What is compared with a boolean: "True" is as good as "true" there."""
    return text.lower() if text.lower() in ("true", "false") else text


def _number(value: Scalar) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return None
        is_short = value.lstrip("+-").isdigit() and len(value) < 20
        value = int(value) if is_short else float(value)
    if isinstance(value, float) or abs(value) <= _BIGGEST_INTEGER:
        return value
    return float(value) if abs(value) < 10**308 else math.inf if value > 0 else -math.inf


_MOST_FILTERS, _KEPT_BYTES = 32, 1 << 26
_WIDEST_TABLE = 1 << 26  # from the first to the last row


class KeptRows:
    """Rows that met some conditions (int64), of the latest conditions, in bounded memory."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, asked: Hashable) -> np.ndarray | None:
        """What was kept for these conditions."""
        if asked in self._rows:
            self._rows.move_to_end(asked)
        return self._rows.get(asked)

    def keep(self, asked: Hashable, rows: np.ndarray) -> None:
        """Keep ``rows``, which nobody may change any more."""
        rows.setflags(write=False)
        self._rows[asked] = rows
        while len(self._rows) > _MOST_FILTERS or self._bytes > _KEPT_BYTES:
            self._rows.popitem(last=False)

    @property
    def _bytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows.values())


def among(rows: np.ndarray) -> tuple[str, list[Any]]:
    """SQL that holds where FTS5's ``rowid`` is one of ``rows``, and what it binds.

    A table of bytes tells at once. With ``rowid IN``, less the +, SQLite would hand each row to FTS5, which
    would answer the query anew for each.
    """
    if not len(rows):
        return "0", []
    first, last = int(rows.min()), int(rows.max())
    if last - first > _WIDEST_TABLE:
        return "+rowid IN (SELECT value FROM json_each(?))", [json_of(rows)]
    table = np.zeros(last - first + 1, np.uint8)
    table[rows - first] = 1
    condition = "rowid BETWEEN ? AND ? AND substr(?, rowid - ?, 1) = x'01'"
    return condition, [first, last, table.data, first - 1]


def json_of(rows: Iterable[int]) -> str:
    """For ``json_each``, which takes more of them than SQLite binds."""
    return json.dumps([int(row) for row in rows])
