"""YAML from anybody, as plain values of bounded size: what is odd in it is one line of error."""

from pathlib import Path
from typing import Any

import yaml

from flatcoat.errors import FlatcoatError

_LARGEST_FILE = 1_000_000
_MOST_VALUES = 10_000
_DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """YAML's plain values, without dates; a number that Python cannot hold stays the text that it is."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # what a value of the wrong kind raises in PyYAML is anything
            if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
                return node.value
            raise yaml.constructor.ConstructorError(
                None, None, f"no {node.tag.rpartition(':')[2]}: {error}", node.start_mark
            ) from None

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        # Merges of merges double it each time.
        if len(node.value) > _MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)


def read_yaml(path: Path) -> Any:
    """The values in a file; FlatcoatError where it is missing, none, too large, or no YAML."""
    what = f"recipe {shown(str(path))}"
    try:
        if path.exists() and not path.is_file():
            raise FlatcoatError(f"{what} cannot be read: it is no file")
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise FlatcoatError(f"{what} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FlatcoatError(f"{what} cannot be read: {error}") from None
    if len(text) > _LARGEST_FILE:
        raise FlatcoatError(f"{what} cannot be read: it is larger than {_LARGEST_FILE:,} bytes")
    try:
        return parse_yaml(text.decode("utf-8-sig"), what)
    except UnicodeDecodeError as error:
        raise FlatcoatError(f"{what} is not YAML: {error}") from None


def parse_yaml(text: str, what: str) -> Any:
    """The values of a text; FlatcoatError, which begins with ``what``, where it is no YAML of a sane size."""
    try:
        values = yaml.load(text, _Loader)
    except RecursionError:
        raise FlatcoatError(f"{what} is not YAML of a recipe: it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise FlatcoatError(f"{what} is not YAML: {shown(str(error))}") from None
    require_sane(values, what)
    return values


def require_sane(values: Any, what: str) -> None:
    """FlatcoatError for too many values, aliases counted each time, for depth, and for half characters."""
    waiting, count = [(values, "", 0)], 0
    while waiting:
        value, key, depth = waiting.pop()
        count += 1
        if count > _MOST_VALUES or depth > _DEEPEST:
            much = (
                f"more than {_MOST_VALUES:,} values" if count > _MOST_VALUES else "values nested too deeply"
            )
            raise FlatcoatError(f"{what} holds {much}{f', at {shown(key)}' if key else ''}")
        if isinstance(value, str) and ("\0" in value or not _is_whole(value)):
            at = f" at {shown(ascii(key)[1:-1])}" if key else ""
            raise FlatcoatError(f"{what} holds a NUL or half a surrogate pair{at}: write whole characters")
        parts = value.items() if isinstance(value, dict) else ()
        waiting += [(name, key, depth + 1) for name, _ in parts]
        waiting += [(part, f"{key}.{name}".lstrip("."), depth + 1) for name, part in parts]
        if isinstance(value, list | tuple | set):
            waiting += [(part, f"{key}.{place}".lstrip("."), depth + 1) for place, part in enumerate(value)]


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str, most: int = 300) -> str:
    """A text in one line of bounded length, for an error."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."
