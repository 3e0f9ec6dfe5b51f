"""Checks of what a search is asked. Each raises a FlatcoatError that says what came and what is wanted."""

from numbers import Integral, Real
from typing import TypeGuard

from .. import FlatcoatError
from ..indexing.documents import normalized


def checked_query(query: object) -> str:
    """A query in the form in which all text is stored."""
    if not isinstance(query, str):
        raise FlatcoatError(f"the query is {type(query).__name__} {query!r:.60}: a str is wanted")
    if not query.strip():
        raise FlatcoatError("the query is empty: say what to look for")
    return normalized(str(query))


def checked_k(k: object) -> int:
    """How many results; numpy's integers will do."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise FlatcoatError(f"k is {k!r:.60}: a whole number is wanted")
    if k < 1:
        raise FlatcoatError(f"k is {k!s:.60}: at least 1 is needed")
    return int(k)


def checked_recall(recall: object) -> float | None:
    """A share of the best to be found; None is what the index thinks right."""
    if recall is None:
        return None
    if not is_number(recall) or not 0 < recall <= 1:
        raise FlatcoatError(f"recall is {recall!r:.60}: a number above 0, and 1 at most, is wanted")
    return float(recall)


def is_number(value: object) -> TypeGuard[float]:
    """Of Python or numpy, truth values aside."""
    return isinstance(value, Real) and not isinstance(value, bool)
