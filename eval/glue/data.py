"""GLUE's examples, from files or from the hub. No example is skipped: a malformed one is an error.

A folder holds a training and a development file in one of these layouts, TSV without quoting:

    GLUE's download      train.tsv, dev.tsv (MNLI: dev_matched.tsv, dev_mismatched.tsv)
    CoLA's own           in_domain_train.tsv, in_domain_dev.tsv, out_of_domain_dev.tsv
    others in use        val.tsv in place of dev.tsv; train*.json and eval*.json, lists of the hub's records

GLUE's development set of CoLA is the union of CoLA's own two.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from flatcoat.errors import DataError, NotFoundError, UsageError
from flatcoat.hub import load_dataset

from .tasks import GlueTask, UnknownLabel

HUB = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

_TRAIN = ("train.tsv", "in_domain_train.tsv", "train*.json")
_DEV = {
    "dev": ("dev.tsv", "val.tsv", "eval*.json"),
    "matched": ("dev_matched.tsv",),
    "mismatched": ("dev_mismatched.tsv",),
    "in-domain": ("in_domain_dev.tsv",),
    "out-of-domain": ("out_of_domain_dev.tsv",),
}
_HUB_DEV = {"validation": "dev", "validation_matched": "matched", "validation_mismatched": "mismatched"}
_COLA_COLUMNS = 4


class Example(NamedTuple):
    """One text or a pair; ``label`` is a class's number or a regression's value."""

    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class GlueData:
    """A task's examples; ``dev`` by set: "dev", or parts such as "matched"; ``source`` names the origin.

    >>> from flatcoat.eval.glue.tasks import TASKS
    >>> examples = [Example((f"text {number}",), number % 2) for number in range(9)]
    >>> len(GlueData(TASKS["cola"], examples, {"dev": examples}, "a test").sample(5).train)
    5
    """

    task: GlueTask
    train: list[Example]
    dev: dict[str, list[Example]]
    source: str

    def sample(self, count: int) -> "GlueData":
        """The same data with ``count`` random training examples, the same ones in every call.

        Raises UsageError where there are fewer.
        """
        if count > len(self.train):
            raise UsageError(f"{self.source} has {len(self.train):,} training examples: {count:,} came")
        return replace(self, train=random.Random(0).sample(self.train, count))


def load_folder(task: GlueTask, folder: Path) -> GlueData:
    """Read the files of a task.

    Raises NotFoundError for a missing file, and DataError naming a malformed line or record.
    """
    train = _find(folder, _TRAIN)
    dev = {name: path for name, patterns in _DEV.items() if (path := _find(folder, patterns))}
    if not train or not dev:
        missing = _TRAIN if not train else [pattern for patterns in _DEV.values() for pattern in patterns]
        raise NotFoundError(f"{folder} has no {task.title} data: none of {', '.join(missing)} is there")
    return GlueData(
        task, _read(task, train), {name: _read(task, path) for name, path in dev.items()}, str(folder)
    )


def load_hub(task: GlueTask) -> GlueData:
    """Load a task from the hub, at a fixed revision; NotFoundError where it cannot be loaded."""
    splits = load_dataset(HUB, task.hub, label=HUB, by_hand="give the folder of its files", revision=REVISION)

    def examples(split: str) -> list[Example]:
        return [_example(task, record, f"{split} row {row}") for row, record in enumerate(splits[split])]

    dev = {name: examples(split) for split, name in _HUB_DEV.items() if split in splits}
    return GlueData(task, examples("train"), dev, f"{HUB}@{REVISION[:8]}")


def _find(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} holds {names} for the same examples: keep one")
    return found[0] if found else None


def _read(task: GlueTask, path: Path) -> list[Example]:
    try:
        examples = list(_read_json(task, path) if path.suffix == ".json" else _read_tsv(task, path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None
    if not examples:
        raise DataError(f"{path} holds no example")
    return examples


def _read_json(task: GlueTask, path: Path) -> Iterator[Example]:
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not JSON: {error.msg}") from None
    if not isinstance(records, list):
        raise DataError(f"{path} holds no list: a list of records is wanted")
    for number, record in enumerate(records, start=1):
        yield _example(task, record, f"{path} record {number}")


def _example(task: GlueTask, record: Any, place: str) -> Example:
    *texts, label = task.hub_columns
    if not isinstance(record, dict) or any(not isinstance(record.get(name), str) for name in texts):
        raise DataError(f"{place} needs the texts {', '.join(texts)}")
    return _make(task, tuple(record[name] for name in texts), record.get(label), place)


def _read_tsv(task: GlueTask, path: Path) -> Iterator[Example]:
    # Texts hold line breaks other than \n (U+0085 and the like), and quotes that never close.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = ((f"{path}:{number}", _fields(line)) for number, line in enumerate(file, start=1))
        if task.columns:
            columns, width = _columns(task, next(lines, (str(path), []))[1], path)
        else:
            columns, width = [3, 1], _COLA_COLUMNS
        for place, fields in lines:
            if len(fields) != width:
                raise DataError(f"{place} has {len(fields)} fields, {width} wanted, tabs between")
            *texts, label = (fields[column] for column in columns)
            yield _make(task, tuple(texts), label, place)


def _fields(line: str) -> list[str]:
    return line.removesuffix("\n").removesuffix("\r").split("\t")


def _columns(task: GlueTask, header: list[str], path: Path) -> tuple[list[int], int]:
    missing = [name for name in task.columns if name not in header]
    if missing:
        raise DataError(f"{path}:1 has no column {missing[0]}: {task.title} has a header that names it")
    return [header.index(name) for name in task.columns], len(header)


def _make(task: GlueTask, texts: tuple[str, ...], label: object, place: str) -> Example:
    if not all(text.strip() for text in texts):
        raise DataError(f"{place} has an empty text")
    try:
        return Example(texts, task.label(label))
    except UnknownLabel as error:
        raise DataError(f"{place}: {error}") from None
