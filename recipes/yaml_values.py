"""Reading YAML from untrusted files: plain values of bounded size, or an error of one line."""

from pathlib import Path
from typing import Any

import yaml

from flatcoat.errors import DataError, NotFoundError

_MAX_BYTES = 1_000_000
_MAX_VALUES = 10_000
_MAX_DEPTH = 20


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
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
            # PyYAML's constructors check nothing: "!!bool perhaps" is a KeyError, "!!timestamp x" an
            # AttributeError.
            if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
                return node.value
            raise yaml.constructor.ConstructorError(
                None, None, f"no {node.tag.rpartition(':')[2]}: {error}", node.start_mark
            ) from None

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        # Merges of merges double it each time.
        if len(node.value) > _MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)


def read_yaml(path: Path) -> Any:
    """The values in a file; NotFoundError for a missing file, DataError for one that is no small YAML."""
    what = f"recipe {shown(str(path))}"
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{what} cannot be read: it is no file")
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{what} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise DataError(f"{what} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{what} cannot be read: {error}") from None
    if len(text) > _MAX_BYTES:
        raise DataError(f"{what} cannot be read: it is larger than {_MAX_BYTES:,} bytes")
    try:
        return parse_yaml(text.decode("utf-8-sig"), what)
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not YAML: {error}") from None


def parse_yaml(text: str, what: str) -> Any:
    """The values of a text; DataError, with a message about ``what``, for anything but YAML of sane size.

    >>> parse_yaml("training: {batch_size: 64}", "recipe x.yaml")
    {'training': {'batch_size': 64}}
    """
    try:
        values = yaml.load(text, _Loader)
    except RecursionError:
        raise DataError(f"{what} is not YAML of a recipe: it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise DataError(f"{what} is not YAML: {shown(str(error))}") from None
    require_sane(values, what)
    return values


def require_sane(values: Any, what: str) -> None:
    """Raise DataError for too many values (aliases count each time), deep nesting and broken characters."""
    waiting, count = [(values, "", 0)], 0
    while waiting:
        value, key, depth = waiting.pop()
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            much = f"more than {_MAX_VALUES:,} values" if count > _MAX_VALUES else "values nested too deeply"
            raise DataError(f"{what} holds {much}{f', at {shown(key)}' if key else ''}")
        if isinstance(value, str) and ("\0" in value or not _is_whole(value)):
            at = f" at {shown(ascii(key)[1:-1])}" if key else ""
            raise DataError(f"{what} holds a NUL or half a surrogate pair{at}: write whole characters")
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


def shown(text: str, limit: int = 300) -> str:
    """A text in one line of bounded length, for an error message.

    >>> shown("two\\nlines")
    'two lines'
    """
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}..."
