"""Measure one system on one data set: search, score, write the record."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from flatcoat.errors import DataError

from .metrics import Run, evaluate
from .records import RECORD, Record, key_of, read_record, record_folder, versions
from .trec_files import write_per_query, write_run

if TYPE_CHECKING:
    from flatcoat.eval.systems.system import MeasuredRun, System

    from .costs import OnProgress
    from .datasets import RetrievalDataset

_MTEB_CUTS = (1, 3, 5, 10, 20, 100, 1000)
_MTEB_FAMILIES = ("ndcg", "map", "recall", "precision", "mrr")


def measure(
    system: "System",
    dataset: "RetrievalDataset",
    *,
    k: int,
    results: Path,
    on_progress: "OnProgress" = lambda done, total: None,
) -> Record:
    """Measure a system, or read the record of the same system, settings and data below ``results``.

    An interrupted measurement resumes with its unfinished index; where another process is measuring the
    same, this one waits for its record.
    """
    settings = system.describe()
    key = key_of(settings, k)
    folder = record_folder(
        results,
        system.name,
        key=key,
        dataset=dataset.name,
        split=dataset.split,
        revision=dataset.revision,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if (folder / RECORD).exists():
            return read_record(folder / RECORD)
        index = folder / "index"
        index.mkdir(exist_ok=True)
        measured = system.search(dataset, k, folder=index, on_progress=on_progress)
        record = _write_files(folder, system.name, dataset, measured, k, settings, key)
        shutil.rmtree(index)
        return record


def _write_files(
    folder: Path,
    system: str,
    dataset: "RetrievalDataset",
    measured: "MeasuredRun",
    k: int,
    settings: dict[str, Any],
    key: str,
) -> Record:
    scores = evaluate(measured.run, dataset.qrels)
    notices = [*dataset.notices, *_write_run(folder, measured.run, system)]
    write_per_query(folder / "per_query.tsv", scores)
    _write_mteb(folder / "mteb.json", dataset, measured.run, k, measured.costs.seconds)
    record = Record(
        system=system,
        key=key,
        dataset=dataset.name,
        split=dataset.split,
        benchmark=dataset.benchmark,
        revision=dataset.revision,
        k=k,
        settings=settings,
        measures=scores.mean,
        costs=measured.costs._asdict(),
        truncation=measured.truncation._asdict(),
        versions=versions(),
        queries=len(scores.per_query),
        notices=notices,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=folder,
    )
    record.write()
    return record


def _write_run(folder: Path, run: Run, name: str) -> list[str]:
    """Write run.trec, or return a notice: an id that TREC files cannot hold costs no hours of encoding."""
    try:
        write_run(folder / "run.trec", run, tag="-".join(name.split()))
    except DataError as error:
        (folder / "run.trec").unlink(missing_ok=True)
        return [f"no run.trec: {error}"]
    return []


def _write_mteb(file: Path, dataset: "RetrievalDataset", run: Run, k: int, seconds: float) -> None:
    """The score in the format of mteb's TaskResult."""
    names = [f"{family}@{cut}" for family in _MTEB_FAMILIES for cut in _MTEB_CUTS if cut <= k]
    means = evaluate(run, dataset.qrels, measures=[*names, "ndcg@10"]).mean
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
