"""What a filter says: conditions on metadata, joined by and, or and not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Scalar

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "^=")
OPERATORS = (*COMPARISONS, "in", "not in", "exists")

MOST_CONDITIONS = 500
MOST_LEVELS = 50
"""Filters nested deeper are refused: whoever means them writes them flatter."""


class Condition(NamedTuple):
    """``field operator value``: never met where the field is missing; any member counts where it is a list.

    Numbers compare with numbers, booleans with booleans, texts with texts, by the order of their characters.
    A text that is a date of ISO 8601 compares as one, with texts that are dates: without a time it is the
    whole day (or month, as 2024-01), without a time zone in UTC. A year alone, text or number, compares with
    dates as the whole year, with all else as the text or number that it is. ``^=`` matches a prefix, ``in``
    any one value of a sequence. ``!=`` and ``not in`` are met where the field is there and ``=`` and ``in``
    are not. ``exists`` has the value True or False.

    >>> Condition("lang", "in", ("python", "rust"))
    Condition(field='lang', operator='in', value=('python', 'rust'))
    """

    field: str
    operator: str
    value: Scalar | Sequence[Scalar]


@dataclass(frozen=True)
class And:
    """All of ``parts`` hold; without any it always does."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """One of ``parts`` holds at least; without any it never does."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """``part`` does not hold, which it does not where its field is missing."""

    part: "Filter"


Filter: TypeAlias = Condition | And | Or | Not


def conditions_of(filters: Iterable[Filter], level: int = 1) -> Iterator[Condition]:
    """The conditions in filters; UsageError where these are malformed or nested over MOST_LEVELS deep."""
    if level > MOST_LEVELS:
        raise UsageError(f"a filter nested over {MOST_LEVELS} levels deep: write it flatter")
    for one in filters:
        match one:
            case Condition():
                yield one
            case Not(part):
                yield from conditions_of([part], level + 1)
            case And(parts) | Or(parts) if isinstance(parts, tuple | list):
                yield from conditions_of(parts, level + 1)
            case _:
                raise UsageError(f"filter {one!r:.60}: in where a Condition, And, Or or Not is wanted")
