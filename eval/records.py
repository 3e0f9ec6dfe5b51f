"""What a measurement leaves behind: one folder for each system and data set, complete or not there.

    RESULTS/<system>-<key>/<dataset>.<split>-<data>/record.json     what was measured, with what, at what cost
                                                    per_query.tsv   the measures of every query
                                                    run.trec        the ranked results
                                                    mteb.json       the same score as mteb writes it

The key is a hash of everything that changes results, so that two models of one name never share a folder;
``<data>`` is one of the data's revision and of all names as they are, so that two data sets never do either.
``record.json`` is written last: a folder without it was cut off, and is measured again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flatcoat.errors import FlatcoatError

from .trec_files import read_per_query

RECORD = "record.json"
_LONGEST_NAME = 60  # characters of one that is part of a folder's
_PACKAGES = ("flatcoat", "torch", "transformers", "sentence-transformers", "pylate", "mteb", "numpy")


@dataclass(frozen=True)
class Record:
    """One system on one data set. ``measures`` are means in 0..1; ``costs`` in seconds and bytes.

    ``settings`` is what the system says of itself, ``revision`` names the data, ``benchmark`` is empty for a
    folder of the user's own, ``finished`` an ISO time in UTC. ``folder`` is where the record lies.
    """

    system: str
    key: str
    dataset: str
    split: str
    benchmark: str
    revision: str
    k: int
    settings: dict[str, Any]
    measures: dict[str, float]
    costs: dict[str, int | float]
    versions: dict[str, str]
    queries: int
    notices: list[str]
    finished: str
    folder: Path

    def write(self) -> None:
        """Write ``record.json``; the rename of it is the moment the measurement exists."""
        values = asdict(self)
        del values["folder"]
        unfinished = self.folder / f"{RECORD}.new"
        unfinished.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(self.folder / RECORD)

    def per_query(self) -> dict[str, dict[str, float]]:
        """Query id -> measure -> value; FlatcoatError where the file is missing or malformed."""
        return read_per_query(self.folder / "per_query.tsv")


def read_records(folders: Sequence[Path]) -> list[Record]:
    """Every record below ``folders``, ordered by path.

    Raises FlatcoatError where there is none, and for one that is malformed, naming it.
    """
    files = sorted({file.resolve() for folder in folders for file in folder.rglob(RECORD)})
    if not files:
        raise FlatcoatError(
            f"no {RECORD} below {', '.join(map(str, folders))}: flatcoat eval --output DIR writes them"
        )
    return [read_record(file) for file in files]


def read_record(file: Path) -> Record:
    """Read one ``record.json``; FlatcoatError where it is not what ``Record.write`` writes."""
    names = {field.name for field in fields(Record)} - {"folder"}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FlatcoatError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict) or set(values) != names:
        wrong = sorted(names ^ set(values)) if isinstance(values, dict) else ["an object"]
        raise FlatcoatError(f"{file} is no record of this release: missing or unknown {', '.join(wrong)}")
    try:
        return TypeAdapter(Record).validate_python(values | {"folder": file.parent})
    except ValidationError as error:
        first = error.errors()[0]
        raise FlatcoatError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def key_of(settings: dict[str, Any], k: int) -> str:
    """Eight hexadecimal digits that differ where ``settings`` or ``k`` do."""
    text = json.dumps([settings, k], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def record_folder(results: Path, system: str, key: str, dataset: str, split: str, revision: str = "") -> Path:
    """Where a measurement belongs."""
    names = json.dumps([system, dataset, split, revision])
    data = hashlib.sha256(names.encode(errors="surrogatepass")).hexdigest()[:8]
    return results / f"{_slug(system)}-{key}" / f"{_slug(dataset)}.{_slug(split)}-{data}"


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The versions of what computed."""
    return {package: version(package) for package in packages}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST_NAME].strip("-.") or "unnamed"
