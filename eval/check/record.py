"""The record of a check, one JSON file: the queries, what each scored, and what made the index."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import DataError, NotFoundError

from .queries import CheckQuery


@dataclass(frozen=True, kw_only=True)
class CheckRecord:
    """What one check measured, values in 0..1.

    ``settings`` say how the index was made and searched, ``scores`` have the values of each measure in the
    order of ``queries``, ``versions`` those of the packages, ``finished`` is an ISO time in UTC. ``costs``
    are ``ms_per_query`` of the searches and ``index_bytes``.

    >>> CheckRecord(
    ...     settings={"bits": 4}, queries=[CheckQuery("why?", ("a",), "file")], scores={"ndcg@10": [1.0]},
    ...     costs={}, versions={}, finished="2026-11-01T00:00:00+00:00",
    ... ).scores["ndcg@10"]
    [1.0]
    """

    settings: dict[str, Any]
    queries: list[CheckQuery]
    scores: dict[str, list[float]]
    costs: dict[str, float]
    versions: dict[str, str]
    finished: str

    def write(self, path: Path) -> None:
        """Write the record; a reader meets all of it or the one before."""
        values = asdict(self) | {"queries": [query._asdict() for query in self.queries]}
        atomic_write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def only(self, queries: list[CheckQuery]) -> "CheckRecord":
        """The record of some of its queries, in their order."""
        places = {(query.text, query.documents): place for place, query in enumerate(self.queries)}
        kept = [places[query.text, query.documents] for query in queries]
        scores = {name: [values[place] for place in kept] for name, values in self.scores.items()}
        return CheckRecord(**vars(self) | {"queries": queries, "scores": scores})


def read_record(path: Path) -> CheckRecord:
    """Read a record; NotFoundError where there is none, DataError where ``write`` would not write it so."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"no record {path}: flatcoat check INDEX --output {path} writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    try:
        values = json.loads(text)
        values["queries"] = [CheckQuery(**query) for query in values["queries"]]
        record = TypeAdapter(CheckRecord).validate_python(values)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"{path} is no record of flatcoat check: {type(error).__name__}") from None
    if {len(values) for values in record.scores.values()} - {len(record.queries)} or not record.scores:
        raise DataError(f"{path} is no record of flatcoat check: its queries and scores differ in number")
    return record
