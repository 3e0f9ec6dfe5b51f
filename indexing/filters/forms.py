"""The forms in which a filter may be given: text, Conditions, dicts as in Chroma and MongoDB, or lists."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from flatcoat.errors import UsageError

from .condition import MOST_CONDITIONS, MOST_LEVELS, And, Condition, Filter, Not, Or, conditions_of
from .grammar import parse_filter

Filters: TypeAlias = "str | Filter | Mapping[str, Any] | Iterable[str | Filter | Mapping[str, Any]] | None"
"""One filter, or several that must all hold: text (``year>=2020 and not lang=fr``), Conditions joined by And,
Or and Not, or dicts (``{"year": {"$gte": 2020}, "$not": {"lang": "fr"}}``)."""

_SIGNS = {
    "$eq": "=",
    "$ne": "!=",
    "$lt": "<",
    "$lte": "<=",
    "$gt": ">",
    "$gte": ">=",
    "$prefix": "^=",
    "$in": "in",
    "$nin": "not in",
    "$exists": "exists",
}


def as_filters(given: Filters) -> list[Filter]:
    """The filters that must all hold; UsageError where one is malformed, too deep, or they are too many.

    >>> as_filters({"year": {"$gte": 2020}})
    [Condition(field='year', operator='>=', value=2020)]
    """
    if given is None:
        return []
    several = [given] if isinstance(given, str | Condition | And | Or | Not | Mapping) else given
    if isinstance(several, bytes) or not isinstance(several, Iterable):
        raise UsageError(f"filter {given!r:.60}: in where a text such as 'lang=python', or a dict is wanted")
    filters = [_as_filter(one) for one in several]
    count = sum(1 for _ in conditions_of(filters))
    if count > MOST_CONDITIONS:
        raise UsageError(
            f"{count:,} conditions: up to {MOST_CONDITIONS} are possible; 'in' takes any number of values"
        )
    return filters


def _as_filter(given: object) -> Filter:
    if isinstance(given, Condition | And | Or | Not):
        return given
    if isinstance(given, Mapping):
        return from_mapping(given)
    if isinstance(given, str) and given.lstrip().startswith("{"):
        return from_mapping(_from_json(given))
    return parse_filter(given)  # type: ignore[arg-type] which refuses all but texts


def _from_json(text: str) -> Mapping[str, Any]:
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:
        raise UsageError(f"filter {text!r:.200} begins as JSON and is none: {error}") from error


def from_mapping(given: Mapping[Any, Any], level: int = 1) -> Filter:
    """The filter of a dict: all its entries hold.

    An entry is a field with a value, a field with a dict of operators ($eq, $ne, $lt, $lte, $gt, $gte, $in,
    $nin, $prefix, $exists, $not), or $and or $or with a list of dicts, or $not with one.

    >>> from_mapping({"$not": {"year": {"$in": [2020, 2021]}}})
    Not(part=Condition(field='year', operator='in', value=[2020, 2021]))
    """
    if level > MOST_LEVELS:
        raise UsageError(f"a filter nested over {MOST_LEVELS} levels deep: write it flatter")
    return _all([_entry(name, value, level) for name, value in given.items()])


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _entry(name: Any, value: Any, level: int) -> Filter:
    if not isinstance(name, str):
        raise UsageError(f"filter field {name!r:.60}: the name of a field is a text")
    if name in ("$and", "$or"):
        if not isinstance(value, list | tuple):
            raise UsageError(f"filter {name}: {value!r:.60}: a list of dicts is wanted")
        parts = tuple(_nested(part, level) for part in value)
        return And(parts) if name == "$and" else Or(parts)
    if name == "$not":
        return Not(_nested(value, level))
    if name.startswith("$"):
        raise UsageError(f"filter {name}: $and, $or, $not, or a field is wanted here")
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple | set):
            raise UsageError(f'filter {name!r} is {value!r:.60}: write {{"$in": […]}} for one of several')
        return Condition(name, "=", value)
    return _all([_operation(name, sign, operand, level) for sign, operand in value.items()])


def _nested(given: object, level: int) -> Filter:
    if not isinstance(given, Mapping):
        return _as_filter(given)
    return from_mapping(given, level + 1)


def _operation(field: str, sign: Any, operand: Any, level: int) -> Filter:
    if sign == "$not" and isinstance(operand, Mapping):
        return Not(_entry(field, operand, level + 1))
    if sign not in _SIGNS:
        raise UsageError(f"filter {field!r}: unknown operator {sign!r:.60}: use {', '.join(_SIGNS)}, $not")
    return Condition(field, _SIGNS[sign], operand)
