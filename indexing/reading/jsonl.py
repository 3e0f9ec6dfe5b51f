"""JSON lines: one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path

from .lines import NOT_BLANK, Line, Lines, parse_lines
from .row import BadRow, Row, RowResult


def json_rows(path: Path, encoding: str | None = None, *, allow_nan: bool = False) -> Iterator[RowResult]:
    """The objects of a .jsonl or .jsonl.gz file; blank lines are passed over.

    ``allow_nan`` takes NaN and Infinity, which Python writes, for numbers; otherwise they make a bad row.
    Encoding and errors as in ``parse_lines``.
    """
    decoder = _LENIENT if allow_nan else _STRICT

    def parse(lines: Lines) -> Iterator[RowResult]:
        for line in lines.starting_with(NOT_BLANK):
            yield line if isinstance(line, BadRow) else _row(line, decoder)

    return parse_lines(path, encoding, parse=parse)


def _row(line: Line, decoder: json.JSONDecoder) -> Row | BadRow:
    place, text = line
    try:
        values = decoder.decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        return BadRow(place, f"not JSON ({error.msg} at character {error.pos + 1})", text)
    except ValueError as error:
        return BadRow(place, f"not JSON ({error})", text)
    except RecursionError:
        return BadRow(place, "not JSON (nested too deep)", text)
    if not isinstance(values, dict):
        return BadRow(place, "not a JSON object", text)
    return Row(place, values, len(text))


def _refuse(constant: str) -> float:
    raise ValueError(constant)


_LENIENT, _STRICT = json.JSONDecoder(), json.JSONDecoder(parse_constant=_refuse)
