"""Edit JSON with comments in place: one member is set or removed, every other character stays as it is."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatcoat.errors import DataError

_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_LITERAL = re.compile(r"[-+.\w]+")


class Member(NamedTuple):
    """A member of an object, and where its name begins and its value is."""

    name: str
    start: int
    value: "Value"


class Value(NamedTuple):
    """A value, the characters it takes, and the members it has if it is an object."""

    start: int
    end: int
    data: Any
    members: tuple[Member, ...] = ()

    def member(self, name: str) -> Member | None:
        """The member of this name; the last one, as JSON has it."""
        return next((one for one in reversed(self.members) if one.name == name), None)


def parse(text: str) -> Value:
    """The value of a text with comments and trailing commas; DataError says where it is none.

    >>> parse('{"a": [1, 2,], // one\\n}').data
    {'a': [1, 2]}
    """
    start = _skip(text, 1 if text.startswith("\ufeff") else 0)
    value = _value(text, start)
    if _skip(text, value.end) != len(text):
        raise _error(text, value.end, "one value")
    return value


def with_member(text: str, path: Sequence[str], value: Any) -> str:
    """The text with the member at ``path`` set, and the objects on the way made where they are missing.

    DataError where the text is no JSON, or something on the way is no object.

    >>> print(with_member('{\\n  "a": 1 // one\\n}', ["b", "c"], True))
    {
      "a": 1, // one
      "b": {
        "c": true
      }
    }
    """
    if not text.strip("\ufeff \t\r\n"):
        text = "{}\n"
    object, depth = parse(text), 0
    while (found := _object(object, path[:depth]).member(path[depth])) is not None:
        if depth + 1 == len(path):
            shown = _shown(value, _indent_of(text, found.start), text)
            return text[: found.value.start] + shown + text[found.value.end :]
        object, depth = found.value, depth + 1
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    return _appended(text, object, path[depth], value)


def without_member(text: str, path: Sequence[str]) -> str:
    """The text without the member at ``path``, and without objects on the way that are empty then.

    >>> without_member('{"a": 1, "b": {"c": true}}', ["b", "c"])
    '{"a": 1}'
    """
    way = [parse(text)]
    for depth, name in enumerate(path):
        found = _object(way[-1], path[:depth]).member(name)
        if found is None:
            return text
        way.append(found.value)
    while len(path) > 1 and len(way[-2].members) == 1:
        path, way = path[:-1], way[:-1]
    return _cut(text, way[-2], path[-1])


def _appended(text: str, object: Value, name: str, value: Any) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    end = object.end - 1
    if object.members and "\n" not in text[object.start : end]:
        last = object.members[-1].value.end
        return f"{text[:last]}, {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}{text[last:]}"
    outer = _indent_of(text, object.start)
    inner = _indent_of(text, object.members[0].start) if object.members else outer + "  "
    member = f"{inner}{json.dumps(name)}: {_shown(value, inner, text)}"
    if not object.members:
        kept = text[object.start + 1 : end].rstrip()  # Comments, if anything.
        return f"{text[: object.start + 1]}{kept}{newline}{member}{newline}{outer}{text[end:]}"
    last = object.members[-1].value.end
    between = text[last:end].rstrip()
    if text[_skip(text, last)] == ",":  # One that trails stays, and the new member has one too.
        return f"{text[:last]}{between}{newline}{member},{newline}{outer}{text[end:]}"
    return f"{text[:last]},{between}{newline}{member}{newline}{outer}{text[end:]}"


def _cut(text: str, object: Value, name: str) -> str:
    """The text without a member of an object, its line and the comma that joined it to the others."""
    place = max(number for number, one in enumerate(object.members) if one.name == name)
    member = object.members[place]
    start, end = member.start, member.value.end
    after = _skip(text, end)
    if text[after] == ",":
        end = after + 1
    if place + 1 == len(object.members) and place:  # The last one: the comma before it goes too.
        before = object.members[place - 1].value.end
        comma = _skip(text, before)
        if text[after] != ",":
            text = text[:comma] + text[comma + 1 :]
            start, end = start - 1, end - 1
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip() and (following := re.match(r"[ \t]*\r?\n", text[end:])):
        return text[:line] + text[end + following.end() :]
    if len(object.members) == 1:
        return text[: object.start + 1] + text[object.start + 1 : start].rstrip() + text[end:].lstrip()
    return text[:start].rstrip(" \t") + text[end:] if place else text[:start] + text[end:].lstrip(" \t")


def _value(text: str, at: int) -> Value:
    if text.startswith("{", at):
        return _object_at(text, at)
    if text.startswith("[", at):
        return _array_at(text, at)
    match = _STRING.match(text, at) or _LITERAL.match(text, at)
    try:
        return Value(at, match.end(), json.loads(match[0], strict=False))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        raise _error(text, at, "a value") from None


def _object_at(text: str, at: int) -> Value:
    members: list[Member] = []
    place = _skip(text, at + 1)
    while not text.startswith("}", place):
        name = _STRING.match(text, place)
        colon = _skip(text, name.end()) if name else place
        if not name or not text.startswith(":", colon):
            raise _error(text, colon, "a name and a colon")
        value = _value(text, _skip(text, colon + 1))
        members.append(Member(json.loads(name[0], strict=False), place, value))
        place = _next(text, value.end, "}")
    data = {member.name: member.value.data for member in members}
    return Value(at, place + 1, data, tuple(members))


def _array_at(text: str, at: int) -> Value:
    items: list[Any] = []
    place = _skip(text, at + 1)
    while not text.startswith("]", place):
        value = _value(text, place)
        items.append(value.data)
        place = _next(text, value.end, "]")
    return Value(at, place + 1, items)


def _next(text: str, at: int, closing: str) -> int:
    """The place of the next item behind a comma, or of the closing bracket."""
    place = _skip(text, at)
    if text.startswith(",", place):
        return _skip(text, place + 1)
    if not text.startswith(closing, place):
        raise _error(text, place, f"a comma or {closing}")
    return place


def _object(value: Value, path: Sequence[str]) -> Value:
    if not isinstance(value.data, dict):
        raise DataError(f"{'.'.join(path) or 'the file'} is no object in JSON: put it right by hand first")
    return value


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match  # It may be empty.
    return match.end()


def _indent_of(text: str, at: int) -> str:
    line = text.rfind("\n", 0, at) + 1
    return re.match(r"[ \t]*", text[line:at])[0]  # type: ignore[index]


def _shown(value: Any, indent: str, text: str) -> str:
    """The value in JSON, on lines indented like those of the text."""
    step = "\t" if "\n\t" in text else 2
    newline = "\r\n" if "\r\n" in text else "\n"
    return json.dumps(value, indent=step, ensure_ascii=False).replace("\n", newline + indent)


def _error(text: str, at: int, wanted: str) -> DataError:
    line = text.count("\n", 0, at) + 1
    return DataError(f"line {line} is no JSON: {wanted} is missing at {text[at : at + 20]!r}")
