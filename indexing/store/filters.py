"""Conditions on metadata, such as ``lang=python`` or ``year in 2020,2021``, and their SQL.

A passage of code has fields of its own (OWN_FIELDS), which count where its document has none of that name.
One that holds several definitions meets ``symbol=Store.open`` where any one of their names does.

A field or value in double quotes is taken as it stands, a quote in it being written twice:
``name="<unknown>"``, ``lang in "a,b",c``, ``"a=b">3``.

The rows that meet the latest conditions are cached from one search to the next.
"""

import json
import math
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import OWN_FIELDS, Scalar, normalized

_OPERATORS = ("!=", "<=", ">=", "^=", "=", "<", ">", "in")
_QUOTED = r'"(?:[^"]|"")*"'
_CONDITION = re.compile(rf"\s*({_QUOTED}|[^=!<>^]*?)\s*(!=|<=|>=|\^=|=|<|>|(?<=\s)in(?=\s))(.*)", re.DOTALL)
_ONE_OF_SEVERAL = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(?:,|$)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BIGGEST_INTEGER = 2**63 - 1
_MOST_CONDITIONS = 500  # SQLite nests them, up to a thousand deep
_DEEPEST = 6  # AnyOf in AnyOf: the parser of SQLite 3.40 fails at 18
_MOST_FILTERS, _CACHE_BYTES = 32, 1 << 26

_IS_NUMBER = "field.type IN ('integer', 'real')"
# The type of a boolean is "true" or "false".
_AS_TEXT = """
    CASE WHEN field.type IN ('true', 'false') THEN {boolean} ELSE {other} END
""".strip()
_SOME_FIELD = "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ? AND {test})"
# The document's field takes the place of the passage's. An atom is no array, but may be a member of one.
_OWN_FIELD = """
    EXISTS (
        SELECT 1 FROM json_tree(json_patch(passages.metadata, documents.metadata), '$.' || ?) AS field
        WHERE field.atom IS NOT NULL AND {test}
    )
""".strip()


class Condition(NamedTuple):
    """``field operator value``. Two numbers compare as numbers, everything else as text.

    What is without the field never matches, whatever the operator. ``^=`` matches a prefix, ``in`` any one
    value of a sequence. True and False compare as the texts "true" and "false".

    >>> parse_condition("lang in python,rust")
    Condition(field='lang', operator='in', value=('python', 'rust'))
    """

    field: str
    operator: str
    value: Scalar | Sequence[Scalar]


class AnyOf(NamedTuple):
    """Several lists of conditions, of which one at least is met in full.

    >>> c_or_go = AnyOf(((Condition("lang", "=", "c"),), (Condition("lang", "=", "go"),)))
    >>> where(c_or_go)[0].count(" OR ")
    1
    """

    choices: "tuple[tuple[Condition | AnyOf, ...], ...]"


Conditions: TypeAlias = "str | Condition | AnyOf | Iterable[str | Condition | AnyOf] | None"
"""Conditions that must all be met; one alone is as good as a list of one."""


def as_conditions(conditions: object) -> "list[Condition | AnyOf]":
    """The conditions as a list; UsageError where one cannot be parsed."""
    if conditions is None:
        return []
    if isinstance(conditions, str | Condition | AnyOf):
        conditions = [conditions]
    if isinstance(conditions, bytes | Mapping) or not isinstance(conditions, Iterable):
        raise UsageError(
            f"filter {conditions!r:.60}: in where a list of conditions such as 'lang=python' is wanted"
        )
    return [one if isinstance(one, Condition | AnyOf) else parse_condition(one) for one in conditions]


def parse_condition(text: str) -> Condition:
    """Parse ``field operator value``, the values of ``in`` separated by commas.

    The first operator counts. UsageError where the field, an operator or a value for ``in`` is missing.

    >>> parse_condition("year>=2020")
    Condition(field='year', operator='>=', value='2020')
    """
    known = ", ".join(_OPERATORS)
    if not isinstance(text, str):
        raise UsageError(f"filter {text!r:.60}: in where a text or a Condition is wanted")
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"filter {text!r:.200} has no operator: write it as lang=python, with one of {known}"
        )
    field, operator, value = _plain(match[1].strip(), text), match[2], match[3].strip()
    if not field:
        raise UsageError(f"filter {text!r:.200} names no field: write it as lang=python")
    if value[:1] in tuple("=<>~"):
        raise UsageError(
            f"filter {text!r:.200} has an unknown operator {operator + value[0]!r}: use one of {known}, or "
            "put the value in double quotes"
        )
    if operator != "in":
        return Condition(field, operator, _plain(value, text))
    values = tuple(_plain(one, text) for one in _several(value))
    if not values:
        raise UsageError(f"filter {text!r:.200} names no value: write it as lang in python,rust")
    return Condition(field, operator, values)


def where(conditions: Conditions) -> tuple[str, list[Any]]:
    """SQL over documents and passages that holds where all conditions are met, and the values it binds.

    Conditions on fields that no passage has of its own concern ``documents.metadata`` alone.
    """
    listed = as_conditions(conditions)
    if (count := sum(map(_count, listed))) >= _MOST_CONDITIONS:
        raise UsageError(
            f"{count:,} conditions: up to {_MOST_CONDITIONS - 1} are possible; "
            "'in' takes any number of values"
        )
    if (depth := max(map(_depth, listed), default=0)) > _DEEPEST:
        raise UsageError(f"conditions {depth} deep in one another: {_DEEPEST} levels are possible")
    return _all_of(listed)


def _depth(condition: Condition | AnyOf) -> int:
    if isinstance(condition, Condition):
        return 0
    return 1 + max((_depth(one) for choice in condition.choices for one in choice), default=0)


def _count(condition: Condition | AnyOf) -> int:
    if isinstance(condition, Condition):
        return 1
    return sum(_count(one) for choice in condition.choices for one in choice)


def _all_of(conditions: Sequence[Condition | AnyOf]) -> tuple[str, list[Any]]:
    clauses, values = ["1"], []
    for condition in conditions:
        clause, bound = _clause(condition)
        clauses.append(clause)
        values += bound
    return " AND ".join(clauses), values


def _clause(condition: Condition | AnyOf) -> tuple[str, list[Any]]:
    if isinstance(condition, AnyOf):
        choices = [_all_of(choice) for choice in condition.choices]
        clauses = " OR ".join(f"({clause})" for clause, _ in choices)
        return f"({clauses or '0'})", [value for _, bound in choices for value in bound]
    if not isinstance(condition.field, str):
        raise UsageError(f"{condition!r:.200}: the name of a field is a text")
    test, bound = _test(condition)
    clause = (_OWN_FIELD if condition.field in OWN_FIELDS else _SOME_FIELD).format(test=test)
    return clause, [normalized(condition.field), *bound]


def _several(text: str) -> Iterator[str]:
    """The values between commas, quoted or not, without blank ones."""
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
        raise UsageError(
            f"filter {condition!r:.200} begins a quote that does not end with {text!r:.60}: "
            "write a quote within quotes twice"
        )
    return text[1:-1].replace('""', '"')


def _test(condition: Condition) -> tuple[str, list[Any]]:
    operator, value = condition.operator, condition.value
    if operator not in _OPERATORS:
        raise UsageError(f"unknown operator {operator!r:.60}: use one of {', '.join(_OPERATORS)}")
    if (isinstance(value, Iterable) and not isinstance(value, str | bytes)) != (operator == "in"):
        raise UsageError(
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
    # Values are bound as JSON: there may be more of them than SQLite binds.
    among = "IN (SELECT value FROM json_each(?))"
    as_text = _AS_TEXT.format(boolean=f"field.type {among}", other=f"CAST(field.value AS TEXT) {among}")
    lists = numbers, [_boolean(text) for text in texts], texts
    test = f"CASE WHEN {_IS_NUMBER} THEN field.value {among} ELSE {as_text} END"
    return test, [json.dumps(one) for one in lists]


def _scalar(value: Any) -> Scalar:
    """A value that a condition can have, NumPy scalars as Python's; UsageError for anything else."""
    if not isinstance(value, Scalar) and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Scalar) or value != value:
        raise UsageError(f"a condition on {value!r:.60}: a text, number or boolean is needed")
    return normalized(value) if isinstance(value, str) else value


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boolean(text: str) -> str:
    """The text to compare with a boolean, in which "True" equals "true"."""
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


class FilterCache:
    """The rows (int64) that met the latest conditions, in bounded memory.

    >>> cache = FilterCache()
    >>> cache.put("lang=python", np.array([3, 5]))
    >>> cache.get("lang=python")
    array([3, 5])
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable) -> np.ndarray | None:
        """The rows that were put under this key; None where they are not in the cache."""
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def put(self, key: Hashable, rows: np.ndarray) -> None:
        """Cache ``rows``, which become read-only."""
        rows.setflags(write=False)
        self._rows[key] = rows
        while len(self._rows) > _MOST_FILTERS or self._bytes > _CACHE_BYTES:
            self._rows.popitem(last=False)

    @property
    def _bytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows.values())
