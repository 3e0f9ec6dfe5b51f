"""Conditions on document metadata, such as ``lang=python`` or ``year>=2020``, and their SQL."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from .. import FlatcoatError
from .documents import Scalar

_OPERATORS = ("!=", "<=", ">=", "^=", "=", "<", ">")
_CONDITION = re.compile(r"([^=!<>^]*)(!=|<=|>=|\^=|=|<|>)(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BIGGEST_INTEGER = 2**63 - 1

_AS_TEXT = (
    "CASE field.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(field.value AS TEXT) END"
)
_SOME_FIELD = "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ? AND {test})"


class Condition(NamedTuple):
    """``field operator value``. Numbers compare as numbers where both sides are, everything else as text.

    A document without the field never matches, whatever the operator. ``^=`` asks for a prefix.
    """

    field: str
    operator: str
    value: Scalar


def parse_condition(text: str) -> Condition:
    """Read ``field operator value``; FlatcoatError where the field or a known operator is missing."""
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
    return Condition(field, operator, value)


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
    text = str(condition.value).lower() if isinstance(condition.value, bool) else str(condition.value)
    if condition.operator == "^=":
        return f"substr({_AS_TEXT}, 1, ?) = ?", [len(text), text]
    as_text = f"{_AS_TEXT} {condition.operator} ?"
    number = _number(text)
    if number is None:
        return as_text, [text]
    as_number = f"field.value {condition.operator} ?"
    return f"CASE WHEN field.type IN ('integer', 'real') THEN {as_number} ELSE {as_text} END", [number, text]


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("+-").isdigit() and len(text) < 20 and abs(int(text)) <= _BIGGEST_INTEGER:
        return int(text)
    return float(text)
