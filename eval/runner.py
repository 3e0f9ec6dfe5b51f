"""One system on one data set: searched, scored, and left behind as a record."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from flatcoat.errors import FlatcoatError

from .metrics import Run, evaluate
from .records import RECORD, Record, key_of, read_record, record_folder, versions
from .trec_files import write_per_query, write_run

if TYPE_CHECKING:
    from .datasets import RetrievalDataset
    from .systems import System

Progress = Callable[[int, int], None]
"""Called with the documents encoded so far, and how many there are."""

_MTEB_CUTS = (1, 3, 5, 10, 20, 100, 1000)
_MTEB_FAMILIES = ("ndcg", "map", "recall", "precision", "mrr")


def measure(
    system: "System",
    dataset: "RetrievalDataset",
    k: int,
    results: Path,
    on_progress: Progress = lambda done, total: None,
) -> Record:
    """Measure, or read what was measured before on the same data with the same settings.

    Everything is written below ``results``. A run that was cut off goes on with the index it had begun; one
    that another process is at is waited for, and read then.
    """
    settings = system.describe()
    key = key_of(settings, k)
    folder = record_folder(results, system.name, key, dataset.name, dataset.split, dataset.revision)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if (folder / RECORD).exists():
            return read_record(folder / RECORD)
        return _measured(system, settings, key, dataset, k, folder, on_progress)


def _measured(
    system: "System",
    settings: dict[str, Any],
    key: str,
    dataset: "RetrievalDataset",
    k: int,
    folder: Path,
    on_progress: Progress,
) -> Record:
    index = folder / "index"
    index.mkdir(parents=True, exist_ok=True)
    searched = system.search(dataset, k, index, on_progress)
    scores = evaluate(searched.run, dataset.qrels)
    notices = [*dataset.notices, *_write_run(folder, searched.run, system.name)]
    write_per_query(folder / "per_query.tsv", scores)
    _write_mteb(folder / "mteb.json", dataset, searched.run, k, sum(searched.costs[:3]))
    record = Record(
        system.name,
        key,
        dataset.name,
        dataset.split,
        dataset.benchmark,
        dataset.revision,
        k,
        settings,
        scores.mean,
        searched.costs._asdict(),
        versions(),
        len(scores.per_query),
        notices,
        datetime.now(UTC).isoformat(timespec="seconds"),
        folder,
    )
    record.write()
    shutil.rmtree(index)
    return record


def _write_run(folder: Path, run: Run, name: str) -> list[str]:
    """Hours of encoding are not lost to an id that a TREC file cannot hold: a notice says so."""
    try:
        write_run(folder / "run.trec", run, "-".join(name.split()))
    except FlatcoatError as error:
        (folder / "run.trec").unlink(missing_ok=True)
        return [f"no run.trec: {error}"]
    return []


def _write_mteb(file: Path, dataset: "RetrievalDataset", run: Run, k: int, seconds: float) -> None:
    """The score in the shape of mteb's TaskResult."""
    names = [f"{family}@{cut}" for family in _MTEB_FAMILIES for cut in _MTEB_CUTS if cut <= k]
    means = evaluate(run, dataset.qrels, [*names, "ndcg@10"]).mean
    scores: dict[str, Any] = {name.replace("@", "_at_"): value for name, value in means.items()}
    task, _, subset = dataset.name.partition(":")
    scores |= {
        "main_score": means["ndcg@10"],
        "hf_subset": subset or "default",
        "languages": ["eng-Latn"],
    }
    values = {
        "dataset_revision": dataset.revision or "unknown",
        "task_name": task,
        "mteb_version": versions(["mteb"])["mteb"],
        "scores": {dataset.split: [scores]},
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
    }
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
