"""Conditions on document metadata, such as ``lang=python`` or ``year in 2020,2021``, and their SQL."""

import json
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from .. import FlatcoatError
from .documents import Scalar

_OPERATORS = ("!=", "<=", ">=", "^=", "=", "<", ">", "in")
_CONDITION = re.compile(r"([^=!<>^]*?)(!=|<=|>=|\^=|=|<|>|(?<=\s)in(?=\s))(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BIGGEST_INTEGER = 2**63 - 1

_AS_TEXT = (
    "CASE field.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(field.value AS TEXT) END"
)
_SOME_FIELD = "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ? AND {test})"


class Condition(NamedTuple):
    """``field operator value``. Numbers compare as numbers where both sides are, everything else as text.

    A document without the field never matches, whatever the operator. ``^=`` asks for a prefix, ``in`` for
    one of several values.
    """

    field: str
    operator: str
    value: Scalar | tuple[Scalar, ...]


def parse_condition(text: str) -> Condition:
    """Read ``field operator value``, the values of ``in`` separated by commas.

    The first operator counts. FlatcoatError where the field, an operator or a value for ``in`` is missing.
    """
    known = ", ".join(_OPERATORS)
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise FlatcoatError(f"filter {text!r} has no operator: write it as lang=python, with one of {known}")
    field, operator, value = match[1].strip(), match[2], match[3].strip()
    if not field:
        raise FlatcoatError(f"filter {text!r} names no field: write it as lang=python")
    if value[:1] in tuple("=<>~"):
        raise FlatcoatError(
            f"filter {text!r} has an unknown operator {operator + value[0]!r}: use one of {known}"
        )
    if operator != "in":
        return Condition(field, operator, value)
    values = tuple(one.strip() for one in value.split(",") if one.strip())
    if not values:
        raise FlatcoatError(f"filter {text!r} names no value: write it as lang in python,rust")
    return Condition(field, operator, values)


def where(conditions: Sequence[Condition]) -> tuple[str, list[Scalar]]:
    """SQL over ``documents.metadata`` that holds where all conditions do, and the values it binds."""
    clauses, values = ["1"], []
    for condition in conditions:
        test, bound = _test(condition)
        clauses.append(_SOME_FIELD.format(test=test))
        values += [condition.field, *bound]
    return " AND ".join(clauses), values


def _test(condition: Condition) -> tuple[str, list[Scalar]]:
    if condition.operator not in _OPERATORS:
        raise FlatcoatError(f"unknown operator {condition.operator!r}: use one of {', '.join(_OPERATORS)}")
    if isinstance(condition.value, tuple) != (condition.operator == "in"):
        raise FlatcoatError(f"{condition}: operator 'in' takes a tuple of values, any other a single one")
    if isinstance(condition.value, tuple):
        return _test_in([_text(value) for value in condition.value])
    text = _text(condition.value)
    if condition.operator == "^=":
        return f"substr({_AS_TEXT}, 1, ?) = ?", [len(text), text]
    as_text = f"{_AS_TEXT} {condition.operator} ?"
    number = _number(text)
    if number is None:
        return as_text, [text]
    as_number = f"field.value {condition.operator} ?"
    return f"CASE WHEN field.type IN ('integer', 'real') THEN {as_number} ELSE {as_text} END", [number, text]


def _test_in(texts: Sequence[str]) -> tuple[str, list[Scalar]]:
    numbers = [number for text in texts if (number := _number(text)) is not None and math.isfinite(number)]
    # Values go as JSON: there may be more of them than SQLite binds.
    among = "IN (SELECT value FROM json_each(?))"
    test = f"CASE WHEN field.type IN ('integer', 'real') THEN field.value {among} ELSE {_AS_TEXT} {among} END"
    return test, [json.dumps(numbers), json.dumps(texts)]


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("+-").isdigit() and len(text) < 20 and abs(int(text)) <= _BIGGEST_INTEGER:
        return int(text)
    return float(text)
