"""Filters written as text.

    filter     = all {"or" all}
    all        = one {"and" one}
    one        = "not" one | "(" filter ")" | condition
    condition  = field ("=" | "!=" | "<" | "<=" | ">" | ">=" | "^=") value
               | field ["not"] "in" (values | "(" values ")" | "[" values "]")
               | field ["not"] "exists"
    values     = value {"," value}

Fields and values may be bare or in double quotes, in which a quote is written twice. A bare value ends before
" and ", " or ", a bracket that nothing opened, or the end; it is the text, number, boolean or date that the
field holds. A quoted one is a text. The words may be in capitals.
"""

import re
from collections.abc import Callable, Iterator

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Scalar

from .condition import MOST_LEVELS, OPERATORS, And, Condition, Filter, Not, Or

_QUOTED = r'"(?:[^"]|"")*"'
_KEYWORD = re.compile(r"(?:and|AND|or|OR)(?=[\s(]|$)(?!\s*[=!<>^])")
_WORD = r"(?<=\s){}(?=[\s()\[\]]|$)"
_AND, _OR = (
    re.compile(rf"\s*(?<=[\s)\]\"])(?:{word}|{word.upper()})(?=[\s(]|$)\s*") for word in ("and", "or")
)
_NOT = re.compile(r"(?:not|NOT)(?=[\s(])(?!\s*[=!<>^])\s*")
_JOINT = re.compile(r"\s(?:and|AND|or|OR)(?=[\s(]|$)")
_IN_OR_EXISTS = r"(?:(?:not|NOT)\s+)?(?:in|IN|exists|EXISTS)"
_FIELD = re.compile(
    rf"({_QUOTED}\s*|[^=!<>^]*?)(!=|<=|>=|\^=|=|<|>|{_WORD.format(_IN_OR_EXISTS)})\s*", re.DOTALL
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OPENING, _CLOSING = "([", ")]"


def parse_filter(text: str) -> Filter:
    """What a filter says that is written as text; UsageError where it is malformed, with what is wrong.

    >>> parse_filter("lang in python,rust")
    Condition(field='lang', operator='in', value=('python', 'rust'))
    >>> parse_filter('kind="class" and not x exists').parts[1]
    Not(part=Condition(field='x', operator='exists', value=True))
    """
    if not isinstance(text, str):
        raise UsageError(f"filter {text!r:.60}: in where a text or a Condition is wanted")
    return _Parser(text).filter()


class _Parser:
    """Reads a filter from left to right, ``_at`` being the place reached."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._level = 0
        self._joint = -2

    def filter(self) -> Filter:
        found = self._any()
        if self._at < len(self._text):
            raise self._error(f"has {self._text[self._at :]!r:.60} where 'and', 'or' or its end is wanted")
        return found

    def _any(self) -> Filter:
        parts = [self._all()]
        while self._skip(_OR):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self) -> Filter:
        parts = [self._one()]
        while self._skip(_AND):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Filter:
        self._blanks()
        if self._skip(_NOT):
            return self._nested(lambda: Not(self._one()))
        if self._text.startswith("(", self._at):
            return self._nested(self._group)
        return self._condition()

    def _nested(self, read: Callable[[], Filter]) -> Filter:
        self._level += 1
        if self._level > MOST_LEVELS:
            raise self._error(f"is nested over {MOST_LEVELS} levels deep: write it flatter")
        found = read()
        self._level -= 1
        return found

    def _group(self) -> Filter:
        self._at += 1
        found = self._any()
        self._blanks()
        if not self._text.startswith(")", self._at):
            raise self._error("has a '(' without its ')'")
        self._at += 1
        self._blanks()
        return found

    def _condition(self) -> Filter:
        known = ", ".join(OPERATORS)
        match = None if _KEYWORD.match(self._text, self._at) else _FIELD.match(self._text, self._at)
        if match is None or (not match[1].startswith('"') and _JOINT.search(match[1])):
            raise self._error(
                f"has no operator{self._behind()}: write it as lang=python, with one of {known}, and a value "
                "that holds 'and' or 'or' in double quotes"
            )
        field, operator = self._unquoted(match[1]), " ".join(match[2].lower().split())
        if not field:
            raise self._error("names no field: write it as lang=python")
        self._at = match.end()
        if operator.endswith("exists"):
            return Condition(field, "exists", operator == "exists")
        if operator.endswith("in"):
            return Condition(field, operator, self._values())
        if self._text[self._at : self._at + 1] in tuple("=<>~"):
            raise self._error(
                f"has an unknown operator {operator + self._text[self._at]!r}: use one of {known}, or "
                "put the value in double quotes"
            )
        return _compared(field, operator, self._value())

    def _values(self) -> tuple[Scalar, ...]:
        opening = self._text[self._at : self._at + 1]
        closing = _CLOSING[_OPENING.index(opening)] if opening and opening in _OPENING else ""
        self._at += len(closing)
        values = list(self._several(closing))
        if not values:
            raise self._error("names no value: write it as lang in python,rust")
        if closing:
            if not self._text.startswith(closing, self._at):
                raise self._error(f"has a {opening!r} without its {closing!r}")
            self._at += 1
            self._blanks()
        return tuple(values)

    def _several(self, closing: str) -> Iterator[Scalar]:
        while True:
            self._blanks()
            value = self._value(stops="," + closing)
            if isinstance(value, _Quoted) or value:
                yield from _meanings(value)
            if not self._text.startswith(",", self._at):
                return
            self._at += 1

    def _value(self, stops: str = "") -> str:
        """A value without its quotes; one that was in quotes is a _Quoted."""
        if self._text.startswith('"', self._at):
            return self._quoted(stops)
        start, open_brackets, end = self._at, 0, self._next_joint()
        while self._at < end:
            letter = self._text[self._at]
            if not open_brackets and (letter in stops or (letter == ")" and self._level)):
                break
            open_brackets += (letter in _OPENING) - (letter in _CLOSING and open_brackets > 0)
            self._at += 1
        return self._text[start : self._at].strip()

    def _next_joint(self) -> int:
        """The place of the next "and" or "or", sought but once each: a list may have very many values."""
        if self._joint < self._at - 1:
            joint = _JOINT.search(self._text, self._at - 1)
            self._joint = joint.start() if joint else len(self._text)
        return self._joint

    def _quoted(self, stops: str) -> "_Quoted":
        match = re.compile(_QUOTED, re.DOTALL).match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            self._blanks()
            rest = self._text[self._at :]
            is_over = not rest or rest[0] in stops or (rest[0] == ")" and self._level)
            if is_over or _AND.match(self._text, self._at) or _OR.match(self._text, self._at):
                return _Quoted(self._unquoted(match[0]))
        raise self._error("begins a quote that does not end a value: write a quote within quotes twice")

    def _unquoted(self, text: str) -> str:
        text = text.strip()
        if not text.startswith('"'):
            return text
        if not re.fullmatch(_QUOTED, text, re.DOTALL):
            raise self._error(f"begins a quote that does not end with {text!r:.60}")
        return text[1:-1].replace('""', '"')

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match is not None

    def _blanks(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _behind(self) -> str:
        return f" in {self._text[self._at :]!r:.60}" if self._at else ""

    def _error(self, problem: str) -> UsageError:
        return UsageError(f"filter {self._text!r:.200} {problem}")


class _Quoted(str):
    """A value that is a text, whatever it looks like."""


def _meanings(value: str) -> list[Scalar]:
    """The values that a bare word may stand for: itself, and the number or boolean that it spells."""
    if isinstance(value, _Quoted):
        return [str(value)]
    if value.lower() in ("true", "false"):
        return [value.lower() == "true", value]
    number = _number(value)
    return [value] if number is None else [number, value]


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 400 else float(text)


def _compared(field: str, operator: str, value: str) -> Condition:
    meanings = _meanings(value)
    if operator == "^=" or len(meanings) == 1:
        return Condition(field, operator, str(value))
    if operator in ("=", "!="):
        return Condition(field, "in" if operator == "=" else "not in", tuple(meanings))
    return Condition(field, operator, meanings[0])
