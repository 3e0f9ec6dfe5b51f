"""The training pairs and dev sets of the model that is shipped, from a folder of public data.

Only sources whose licences let weights be passed on are read. Dev sets are held back by whole repositories,
articles, diseases and commands, and every pair that shares a query or 13 words in a row with a set that
measures the model is left out.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import ConflictError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.retrieval.data.examples import plain
from flatcoat.retrieval.data.files import file_rows
from flatcoat.retrieval.data.held_back import (
    GroupedPair,
    HeldBack,
    at_most_per_group,
    held_back_groups,
    write_dev_set,
    write_jsonl,
)
from flatcoat.retrieval.data.overlap import Overlap

MEASURED = ("nfcorpus", "cranfield", "squad-dev", "cosqa", "code-docstring", "qmsum")
"""BEIR folders that measure the model: nothing of them may be trained on."""

_RARE = 2_000
"""Pairs below which a programming language shares a file with others."""


class Pool(NamedTuple):
    """Pairs of one kind: a training file of that name and, with ``held_back``, a dev set.

    ``per_group`` bounds the training pairs of one group.
    """

    pairs: list[GroupedPair]
    held_back: HeldBack | None = None
    per_group: int | None = None


@dataclass
class Prepared:
    """What became of the pairs of one kind; ``removed`` counts those left out, by the set they overlap."""

    read: int = 0
    trained: int = 0
    held_back: int = 0
    dev_queries: int = 0
    dev_documents: int = 0
    dev_groups: list[str] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)

    @property
    def overlapping(self) -> int:
        """Pairs left out because they overlap a set that measures the model."""
        return self.removed.total()


def prepare_pairs(
    data: Path, output: Path, *, on_progress: Callable[[str], None] = lambda what: None
) -> dict[str, Prepared]:
    """Write ``KIND/pairs.jsonl``, ``dev/KIND`` and the counts, ``pairs.json``, to ``output``; the counts.

    Raises ConflictError for an output that is there, and NotFoundError for data that are not.
    """
    if output.exists():
        raise ConflictError(f"{output} exists: name another --output, or remove it")
    on_progress("reading pairs")
    pools = read_pools(data)
    on_progress("reading the sets that measure")
    overlap = Overlap.of_beir([data / name for name in MEASURED])
    report = {kind: Prepared(read=len(pool.pairs)) for kind, pool in pools.items()}
    clean: dict[str, list[GroupedPair]] = {}
    for kind, pool in pools.items():
        on_progress(f"comparing {kind}")
        clean[kind] = list(_without_overlap(pool.pairs, overlap, report[kind].removed))
    held = _held_back(pools, clean, report)
    dev_documents = _write_dev_sets(pools, clean, held, output=output, report=report)
    for kind, pool in pools.items():
        trained = [p for p in clean[kind] if p.group not in held and plain(p.document) not in dev_documents]
        report[kind].held_back = sum(pair.group in held for pair in clean[kind])
        rows = at_most_per_group(trained, pool.per_group)
        texts = ({"query": pair.query, "document": pair.document} for pair in rows)
        (output / kind).mkdir()
        report[kind].trained = write_jsonl(output / kind / "pairs.jsonl", texts)
    atomic_write_text(output / "pairs.json", json.dumps(report, indent=2, default=vars) + "\n")
    return report


def read_pools(data: Path) -> dict[str, Pool]:
    """All pairs by kind, languages of code apart, from the folder that holds the sets by name."""
    code = list(file_rows(data / "code-pairs" / "code.jsonl.gz", "jsonl"))
    languages = Counter(row.text("lang") for row in code)
    by_language: dict[str, list[GroupedPair]] = {}
    for row in code:
        language = row.text("lang")
        kind = f"code-{language}" if languages[language] >= _RARE else "code-other"
        pair = GroupedPair(row.text("query"), row.text("document"), row.text("source"))
        by_language.setdefault(kind, []).append(pair)
    measured = {"code-python", "code-java", "code-go", "code-javascript", "code-rust", "code-cpp"}
    pools = {
        kind: Pool(by_language[kind], HeldBack() if kind in measured else None, per_group=1_500)
        for kind in sorted(by_language)
    }
    return pools | {
        "docs": Pool(_rows(data / "code-pairs" / "docs.jsonl.gz", "source"), HeldBack(per_group=40), 1_500),
        "commands": Pool(_rows(data / "code-pairs" / "commands.jsonl.gz", "path"), HeldBack()),
        "articles": Pool(_beir(data / "squad-train"), HeldBack(per_group=40)),
        "medical": Pool(_medical(data / "medquad" / "pairs.jsonl"), HeldBack()),
        "shell": Pool(_beir(data / "nl2bash")),
        "tasks": Pool(_beir(data / "mbpp")),
    }


def _rows(path: Path, group: str) -> list[GroupedPair]:
    rows = file_rows(path, "jsonl")
    return [GroupedPair(row.text("query"), row.text("document"), row.text(group)) for row in rows]


def _medical(path: Path) -> list[GroupedPair]:
    """Questions about a disease and their answers, grouped by disease."""
    rows = file_rows(path, "jsonl")
    pairs = (GroupedPair(row.text("question"), row.text("answer"), row.text("focus")) for row in rows)
    return [pair for pair in pairs if pair.query.strip() and pair.document.strip()]


def _beir(folder: Path) -> list[GroupedPair]:
    """The judged pairs of the split "train", grouped by the documents' title."""
    beir = BeirFolder(folder)
    split = beir.read_split("train")
    documents = {document.id: document for document in beir.documents()}
    return [
        GroupedPair(
            split.queries[judged.query],
            Passage(document.id, document.text, document.title).searchable,
            document.title,
        )
        for judged in split.judgements
        if judged.grade > 0 and (document := documents.get(judged.document)) is not None
    ]


def _without_overlap(
    pairs: Iterable[GroupedPair], overlap: Overlap, removed: Counter[str]
) -> Iterator[GroupedPair]:
    found_in = lru_cache(maxsize=10_000)(overlap.find)  # documents repeat
    for pair in pairs:
        found = found_in(pair.document) or found_in(pair.query)
        if found is None:
            yield pair
        else:
            removed[found] += 1


def _held_back(
    pools: dict[str, Pool], clean: dict[str, list[GroupedPair]], report: dict[str, Prepared]
) -> set[str]:
    """The groups of all dev sets: a repository is held back with all its kinds of text."""
    held: set[str] = set()
    for kind, pool in pools.items():
        if pool.held_back is not None:
            groups = held_back_groups(clean[kind], pool.held_back)
            report[kind].dev_groups = sorted(groups)
            held |= groups
    return held


def _write_dev_sets(
    pools: dict[str, Pool],
    clean: dict[str, list[GroupedPair]],
    held: set[str],
    *,
    output: Path,
    report: dict[str, Prepared],
) -> set[str]:
    """Write the dev sets; their documents, plain, which may stand in other groups too."""
    documents: set[str] = set()
    (output / "dev").mkdir(parents=True)
    for kind, pool in pools.items():
        if pool.held_back is not None:
            pairs = [pair for pair in clean[kind] if pair.group in held]
            counts = write_dev_set(pairs, output / "dev" / kind, pool.held_back)
            report[kind].dev_queries, report[kind].dev_documents = counts
            documents |= {plain(pair.document) for pair in pairs}
    return documents
