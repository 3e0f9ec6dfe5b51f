"""Dates of ISO 8601, as texts: 2024-01-31, 2024-01, 2024-01-31T08:30, 2024-01-31T08:30:00.5+02:00."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_TIME = r"([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
_DATE = re.compile(rf"\d{{4}}-\d\d(?P<day>-\d\d(?P<time>[T ]{_TIME})?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000


class Span(NamedTuple):
    """The first and the last instant of a date, in milliseconds since 1970."""

    start: int
    last: int


def span_of(text: str) -> Span | None:
    """The time that a date covers: a month, a day, or an instant; None for a text that is no date.

    What is without a time zone is in UTC.

    >>> span_of("1970-01-02"), span_of("1970-01-01T01:00+01:00"), span_of("1970-02-30")
    (Span(start=86400000, last=172799999), Span(start=0, last=0), None)
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        start = datetime.fromisoformat(text if match["day"] else f"{text}-01")
        first = _milliseconds(start if start.tzinfo else start.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
    if match["time"]:
        return Span(first, first)
    days = 1 if match["day"] else monthrange(start.year, start.month)[1]
    return Span(first, first + days * _DAY_MS - 1)


def _milliseconds(instant: datetime) -> int:
    return ((instant - _EPOCH) // timedelta(microseconds=1) + 500) // 1_000
