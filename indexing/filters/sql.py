"""Filters as SQL over documents and passages, with bound values.

A passage of code has fields of its own (OWN_FIELDS), which count where its document has none of that name.
Conditions on other fields look at ``documents.metadata`` alone.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import OWN_FIELDS, Scalar, is_number, normalized

from .condition import COMPARISONS, OPERATORS, And, Condition, Filter, Not, Or, conditions_of
from .dates import Span, span_of, year_of

_BIGGEST_INTEGER = 2**63 - 1
_MOST_TURNS = 20  # from conjunction to disjunction, which the stack of SQLite's parser (100) has room for

_IS_NUMBER = "field.type IN ('integer', 'real')"
_IS_BOOLEAN = "field.type IN ('true', 'false')"
_IS_TEXT = "field.type = 'text'"
# An array is looked into, each of its members being a field's value.
_FIELD = """
    EXISTS (SELECT 1 FROM json_each(documents.metadata) AS held WHERE held.key = ? AND CASE held.type
        WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(held.value) AS field WHERE {test}) ELSE {alone} END)
""".strip()
_HAS_FIELD = "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ?)"
_OWN = "json_tree(json_patch(passages.metadata, documents.metadata), '$.' || ?) AS field"
_OWN_FIELD = f"EXISTS (SELECT 1 FROM {_OWN} WHERE field.atom IS NOT NULL AND {{test}})"
_HAS_OWN_FIELD = f"EXISTS (SELECT 1 FROM {_OWN})"
# Milliseconds since 1970; NULL for what is no date, such as 2024-02-30, which SQLite takes for March 1st, or
# 24:00, which it takes for the next day.
_INSTANT = """
    CASE WHEN date(substr(field.value, 1, 10), '+0 days') = substr(field.value, 1, 10)
            AND substr(field.value, 12, 2) != '24'
        THEN CAST(round((julianday(field.value) - 2440587.5) * 86400000) AS INTEGER) END
""".strip()
_IN_SPANS = f"""
    EXISTS (SELECT 1 FROM json_each(?) AS span
        WHERE {_INSTANT} BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]'))
""".strip()
_PREFIX = f"instr(CASE WHEN {_IS_BOOLEAN} THEN field.type ELSE CAST(field.value AS TEXT) END, ?) = 1"


class Sql(NamedTuple):
    """A condition of SQL, and the values that it binds."""

    clause: str
    values: list[Any]


def where(filters: Sequence[Filter]) -> Sql:
    """SQL over documents and passages that holds where all of ``filters`` do, if these are no maze."""
    if any(_levels(one) > _MOST_TURNS for one in filters):
        raise UsageError(f"a filter that turns from and to or over {_MOST_TURNS} times: write it flatter")
    # Side by side and not in brackets, so that SQLite asks only some for each passage.
    parts = [_sql(*part) for part in _parts(And(tuple(filters)), False)]
    return Sql(" AND ".join(["1", *(part.clause for part in parts)]), _bound(parts))


def fields_in_doubt(filters: Iterable[Filter]) -> list[str]:
    """The fields that a filter takes for granted: those of which it does not ask whether they are there."""
    conditions = list(conditions_of(filters))
    asked = {condition.field for condition in conditions if condition.operator == "exists"}
    return list(dict.fromkeys(one.field for one in conditions if one.field not in asked))


def _bound(parts: Iterable[Sql]) -> list[Any]:
    return [value for part in parts for value in part.values]


def _sql(one: Filter, negated: bool = False) -> Sql:
    """SQL of a filter, or of its opposite, whose brackets are no deeper than they must be.

    SQLite's parser has a short stack. So negations stand at conditions alone, a conjunction has no other as
    its part, and the deepest part comes first, where it takes the least of the stack.
    """
    if isinstance(one, Condition):
        found = _condition(one)
        return Sql(f"NOT {found.clause}", found.values) if negated else found
    if isinstance(one, Not):
        return _sql(one.part, not negated)
    is_and = isinstance(one, And) != negated
    deepest_first = sorted(_parts(one, negated), key=lambda part: -_levels(*part))
    parts = [_sql(*part) for part in deepest_first]
    if len(parts) < 2:
        return parts[0] if parts else Sql(str(int(is_and)), [])
    joint = " AND " if is_and else " OR "
    others = _joined([part.clause for part in parts[1:]], joint)
    return Sql(f"({parts[0].clause}{joint}({others}))", _bound(parts))


def _levels(one: Filter, negated: bool = False) -> int:
    """How many conjunctions in disjunctions in conjunctions there are."""
    if isinstance(one, Condition):
        return 0
    if isinstance(one, Not):
        return _levels(one.part, not negated)
    inner = [_levels(*part) for part in _parts(one, negated)]
    return max(inner, default=0) + (len(inner) > 1)


def _parts(one: And | Or, negated: bool) -> Iterator[tuple[Filter, bool]]:
    """The parts of a group, those of a part of the same kind in its place, and whether each is negated."""
    for part in one.parts:
        opposite = negated
        while isinstance(part, Not):
            part, opposite = part.part, not opposite
        is_and = isinstance(part, And) != opposite
        if isinstance(part, And | Or) and is_and == (isinstance(one, And) != negated):
            yield from _parts(part, opposite)
        else:
            yield part, opposite


def _joined(clauses: list[str], joint: str) -> str:
    """The clauses, halves in brackets: SQLite nests those of a long row without brackets one in another."""
    if len(clauses) < 3:
        return joint.join(clauses)
    middle = len(clauses) // 2
    return f"({_joined(clauses[:middle], joint)}){joint}({_joined(clauses[middle:], joint)})"


def _condition(condition: Condition) -> Sql:
    field, operator, value = condition
    if not isinstance(field, str):
        raise UsageError(f"{condition!r:.200}: the name of a field is a text")
    if operator not in OPERATORS:
        raise UsageError(f"unknown operator {operator!r:.60}: use one of {', '.join(OPERATORS)}")
    is_own, name = field in OWN_FIELDS, normalized(field)
    held = Sql(_HAS_OWN_FIELD if is_own else _HAS_FIELD, [name])
    if operator == "exists":
        if not isinstance(value, bool):
            raise UsageError(f"{condition!r:.200}: operator 'exists' takes True or False")
        return held if value else Sql(f"NOT {held.clause}", held.values)
    test = _test(condition)
    if is_own:
        matches = Sql(_OWN_FIELD.format(test=test.clause), [name, *test.values])
    else:
        alone = test.clause.replace("field.", "held.")
        matches = Sql(_FIELD.format(test=test.clause, alone=alone), [name, *test.values, *test.values])
    if operator in ("!=", "not in"):
        return Sql(f"({held.clause} AND NOT {matches.clause})", held.values + matches.values)
    return matches


def _test(condition: Condition) -> Sql:
    """SQL over a ``field``, with a type and a value, of what a condition says of one that is there."""
    _, operator, value = condition
    is_several = operator.endswith("in")
    if (not isinstance(value, str | bytes) and isinstance(value, Iterable)) != is_several:
        raise UsageError(
            f"{condition!r:.200}: operator 'in' takes a tuple or list of values, any other a single one"
        )
    if is_several:
        return _one_of([_scalar(one) for one in value])  # type: ignore[union-attr]
    sign, scalar = operator.replace("!=", "="), _scalar(value)
    assert sign in COMPARISONS
    if sign == "^=":
        return Sql(_PREFIX, [_text(scalar)])
    if isinstance(scalar, bool):
        return Sql(f"({_IS_BOOLEAN} AND field.value {sign} ?)", [int(scalar)])
    if isinstance(scalar, str):
        plain = Sql(f"({_IS_TEXT} AND field.value {sign} ?)", [scalar])
    else:
        plain = Sql(f"({_IS_NUMBER} AND field.value {sign} ?)", [_number(scalar)])
    span = _span(scalar)
    return plain if span is None else _compared_with_dates(sign, span, plain, year_of(scalar) is not None)


def _span(value: Scalar) -> Span | None:
    """The time that a text or number covers for fields that are dates."""
    date_text = value if isinstance(value, str) else year_of(value)
    return None if date_text is None else span_of(date_text)


def _compared_with_dates(sign: str, span: Span, plain: Sql, is_year: bool) -> Sql:
    """Texts that are dates compare with ``span``; what is none is as ``plain`` says, if that can be meant."""
    if sign == "=":
        is_in = f"CASE WHEN {_IS_TEXT} THEN {_INSTANT} BETWEEN ? AND ? END"
        return Sql(f"({plain.clause} OR coalesce({is_in}, 0))", [*plain.values, *span])
    edge = span.start if sign in ("<", ">=") else span.last
    dates = f"CASE WHEN {_IS_TEXT} THEN {_INSTANT} {sign} ? END"
    if is_year:
        return Sql(f"coalesce({dates}, {plain.clause})", [edge, *plain.values])
    return Sql(f"coalesce({dates}, 0)", [edge])


def _one_of(values: Sequence[Scalar]) -> Sql:
    """SQL that holds where a field equals one of ``values``, bound as JSON: SQLite binds only so many."""
    booleans = [int(value) for value in values if isinstance(value, bool)]
    texts = [value for value in values if isinstance(value, str)]
    numbers = [_number(value) for value in values if is_number(value)]
    finite = [number for number in numbers if math.isfinite(number)]
    spans = [span for value in values if (span := _span(value)) is not None]
    groups = [
        (_IS_BOOLEAN, "field.value IN (SELECT value FROM json_each(?))", booleans),
        (_IS_NUMBER, "field.value IN (SELECT value FROM json_each(?))", finite),
        (_IS_TEXT, "field.value IN (SELECT value FROM json_each(?))", texts),
        (_IS_TEXT, _IN_SPANS, spans),
    ]
    tests = [f"({of_type} AND {test})" for of_type, test, several in groups if several]
    return Sql(f"({' OR '.join(tests) or '0'})", [json.dumps(several) for *_, several in groups if several])


def _scalar(value: Any) -> Scalar:
    """A value that a condition can have, NumPy scalars as Python's, dates as texts; UsageError for others."""
    if not isinstance(value, Scalar) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, date):  # datetime is one
        value = value.isoformat()
    if not isinstance(value, Scalar) or value != value:
        raise UsageError(f"a condition on {value!r:.60}: a text, number, boolean or date is needed")
    return normalized(value) if isinstance(value, str) else value


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: int | float) -> int | float:
    """The number as SQLite can bind it."""
    if isinstance(value, float) or abs(value) <= _BIGGEST_INTEGER:
        return value
    return float(value) if abs(value) < 10**308 else math.inf if value > 0 else -math.inf
