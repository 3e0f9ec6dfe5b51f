"""Dates of ISO 8601, as texts: 2024-01-31, 2024-01, 2024, 2024-01-31T08:30, 2024-01-31T08:30:00.5+02:00."""

import re
from calendar import isleap, monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_TIME = r"([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
_DATE = re.compile(rf"\d{{4}}(?P<month>-\d\d(?P<day>-\d\d(?P<time>[T ]{_TIME})?)?)?", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000


class Span(NamedTuple):
    """The first and the last instant of a date, in milliseconds since 1970."""

    start: int
    last: int


def span_of(text: str) -> Span | None:
    """The time that a date covers: a year, a month, a day, or an instant; None for a text that is no date.

    What is without a time zone is in UTC.

    >>> span_of("1970-01-02"), span_of("1970-01-01T01:00+01:00"), span_of("1970-02-30")
    (Span(start=86400000, last=172799999), Span(start=0, last=0), None)
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        start = datetime.fromisoformat(text if match["day"] else f"{text}-01-01"[:10])
        first = _milliseconds(start if start.tzinfo else start.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
    if match["time"]:
        return Span(first, first)
    days = 1
    if not match["day"]:
        days = monthrange(start.year, start.month)[1] if match["month"] else 365 + isleap(start.year)
    return Span(first, first + days * _DAY_MS - 1)


def year_of(value: object) -> str | None:
    """A year alone, as a text, which a text or whole number of four digits may be; None for all else."""
    return str(value) if type(value) in (str, int) and _YEAR.fullmatch(str(value)) else None


def _milliseconds(instant: datetime) -> int:
    return ((instant - _EPOCH) // timedelta(microseconds=1) + 500) // 1_000
