"""Records of measurements: one folder per system and data set.

    RESULTS/<system>-<key>/<dataset>.<split>-<data>/record.json     settings, measures, costs, versions
                                                    per_query.tsv   the measures of every query
                                                    run.trec        the ranked results
                                                    mteb.json       the score as mteb writes it

``<key>`` is a hash of everything that changes results, so that two models of one name never share a folder;
``<data>`` is a hash of the data's revision and of the unshortened names, so that two data sets never do.
``record.json`` is written last: a folder without it was interrupted, and is measured again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import DataError, NotFoundError

from .trec_files import read_per_query

RECORD = "record.json"
_LONGEST_NAME = 60  # characters of a name in a folder's name
_PACKAGES = ("flatcoat", "torch", "transformers", "sentence-transformers", "pylate", "mteb", "numpy")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One system on one data set. ``measures`` are means in 0..1; ``costs`` in seconds and bytes.

    ``truncation`` holds the values of a Truncation.
    ``settings`` are the system's (``System.describe``), ``revision`` names the data, ``benchmark`` is empty
    for a folder of the user's, ``finished`` is an ISO time in UTC, ``folder`` holds the record's files.
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
    truncation: dict[str, int]
    versions: dict[str, str]
    queries: int
    notices: list[str]
    finished: str
    folder: Path

    def write(self) -> None:
        """Write ``record.json``: its rename commits the measurement."""
        values = asdict(self)
        del values["folder"]
        atomic_write_text(self.folder / RECORD, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def per_query(self) -> dict[str, dict[str, float]]:
        """Query id -> measure -> value; DataError where the file is missing or malformed."""
        return read_per_query(self.folder / "per_query.tsv")


def read_records(folders: Sequence[Path]) -> list[Record]:
    """Every record below ``folders``, ordered by path.

    Raises NotFoundError where there is none, and DataError naming a malformed record.
    """
    files = sorted({file.resolve() for folder in folders for file in folder.rglob(RECORD)})
    if not files:
        raise NotFoundError(
            f"no {RECORD} below {', '.join(map(str, folders))}: flatcoat eval --output DIR writes them"
        )
    return [read_record(file) for file in files]


def read_record(file: Path) -> Record:
    """Read one ``record.json``; DataError where ``Record.write`` would not write it so."""
    names = {field.name for field in fields(Record)} - {"folder"}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict) or set(values) != names:
        wrong = sorted(names ^ set(values)) if isinstance(values, dict) else ["an object"]
        raise DataError(f"{file} is no record of this release: missing or unknown {', '.join(wrong)}")
    try:
        return TypeAdapter(Record).validate_python(values | {"folder": file.parent})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def key_of(settings: dict[str, Any], k: int | None = None) -> str:
    """Eight hexadecimal digits that differ where ``settings`` or ``k`` differ.

    >>> key_of({"bits": 2}, 10) == key_of({"bits": 4}, 10)
    False
    """
    text = json.dumps([settings, k], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def record_folder(
    results: Path, system: str, *, key: str, dataset: str, split: str, revision: str = ""
) -> Path:
    """The folder of a measurement below ``results``."""
    names = json.dumps([system, dataset, split, revision])
    data = hashlib.sha256(names.encode(errors="surrogatepass")).hexdigest()[:8]
    return results / f"{_slug(system)}-{key}" / f"{_slug(dataset)}.{_slug(split)}-{data}"


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The versions of packages, those that are installed; by default of packages that affect results."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST_NAME].strip("-.") or "unnamed"
