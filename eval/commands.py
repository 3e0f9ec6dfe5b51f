"""``flatcoat eval``: models, BM25, their fusion and reranking, measured on benchmarks and BEIR folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatcoat.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from .datasets import RetrievalDataset
    from .records import Record
    from .system_selection import SystemSelection
    from .systems import System

app = typer.Typer()

_DEEPEST = 100  # the largest cutoff of the measures
_MODEL_FILES = ("config.json", "modules.json", "config_sentence_transformers.json")

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL|FOLDER",
        help="Models (checkpoint folders or hub names) and BEIR folders. Default model: the one shipped with "
        "flatcoat.",
    ),
]
Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Benchmark: beir, mldr, codesearchnet, stackqa, nanobeir, coir, an MTEB task or a BEIR folder; "
        "may be repeated.",
    ),
]
Models = Annotated[list[str] | None, typer.Option(help="Model to evaluate; may be repeated.")]
Split = Annotated[
    str | None, typer.Option(help="Qrels split of BEIR folders. Default: the only one, or test.")
]
Length = Annotated[
    int | None,
    typer.Option(min=8, help="Maximum tokens per document. Default: the benchmark's, or the model's."),
]
Indexes = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        metavar="ENGINE",
        help="Search engine: exact, auto, plaid, plaid:BITS, faiss or faiss:FACTORY; may be repeated. "
        "Default: exact.",
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Target recall against exact search, for PLAID indexes."),
]
WithBm25 = Annotated[bool, typer.Option("--bm25/--no-bm25", help="Evaluate the BM25 baseline.")]
Hybrid = Annotated[
    bool, typer.Option("--hybrid", help="Also evaluate hybrid search: each model fused with BM25.")
]
Rerank = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Also evaluate each system reranked by MODEL.")
]
Depth = Annotated[int, typer.Option("-k", "--k", min=1, help="Documents retrieved per query.")]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Folder of results: records, TREC runs and scores; measurements already there are reused.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with measures between 0 and 1.")]


@app.command("eval")
def evaluate(
    targets: Targets = None,
    benchmark: Benchmarks = None,
    model: Models = None,
    split: Split = None,
    document_length: Length = None,
    index: Indexes = None,
    recall: Recall = None,
    bm25: WithBm25 = True,
    hybrid: Hybrid = False,
    rerank: Rerank = None,
    k: Depth = _DEEPEST,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate models and BM25 on retrieval benchmarks: nDCG@10, MAP, Recall@100 and MRR@10."""
    from .system_selection import SystemSelection

    data = [*filter(_is_data_set, targets or ()), *(benchmark or ())]
    models = [*(target for target in targets or () if not _is_data_set(target)), *(model or ())]
    _check_data(data, models, output)
    selection = SystemSelection(
        models=tuple(models) or (None,),
        engines=tuple(index or ["exact"]),
        recall=recall,
        bm25=bm25,
        hybrid=hybrid,
        reranker=rerank,
        k=k,
    )
    with TemporaryDirectory() as temporary:
        records = _measure(selection, data, split, document_length, output or Path(temporary))
    if as_json:
        typer.echo(json.dumps({"rows": [_row(record) for record in records]}, indent=2))
    else:
        _print_table(records)
    for notice in _notices(records, k):
        typer.echo(notice, err=as_json)


def _is_data_set(target: str) -> bool:
    return Path(target).is_dir() and not any(Path(target, file).is_file() for file in _MODEL_FILES)


def _check_data(data: Sequence[str], models: Sequence[str], output: Path | None) -> None:
    if not data:
        actual = f"{', '.join(models)} is no folder: " if models else ""
        raise typer.BadParameter(f"{actual}name a data set's FOLDER or --benchmark", param_hint="FOLDER")
    names = [Path(name).name for name in data]
    if output and len({*names}) < len(names):
        raise typer.BadParameter(
            "two FOLDERs share a name: their rows would look alike; measure one after the other"
        )


def _measure(
    selection: "SystemSelection",
    data: Sequence[str],
    split: str | None,
    document_length: int | None,
    results: Path,
) -> "list[Record]":
    from flatcoat.console import progress_bar

    from .benchmarks import BENCHMARKS, load_tasks

    datasets = load_tasks(data, split)
    records: list[Record] = []
    with progress_bar() as progress:
        # Every model is loaded before the first hour is spent on the first of them.
        task = progress.add_task("loading models", total=None)
        _require_distinct([system.name for system in selection.systems()])
        progress.remove_task(task)
        for dataset in datasets:
            standard = BENCHMARKS.get(dataset.benchmark)
            length = document_length or (standard.document_length if standard else None)
            records.extend(
                _measure_system(system, dataset, selection.k, results, progress)
                for system in selection.systems(length)
            )
    return records


def _measure_system(
    system: "System", dataset: "RetrievalDataset", k: int, results: Path, progress: "Progress"
) -> "Record":
    from .runner import measure

    task = progress.add_task(f"{dataset.name}: {system.name}", total=None)

    def show(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    record = measure(system, dataset, k=k, results=results, on_progress=show)
    progress.remove_task(task)
    return record


def _require_distinct(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{', '.join(twice)} is named twice: name each system once")


def _notices(records: "Sequence[Record]", k: int) -> list[str]:
    notices = [f"k is {k}: no measure sees beyond it"] if k < _DEEPEST else []
    for record in records:
        notices += [f"{record.dataset} {record.split}: {notice}" for notice in record.notices]
    return list(dict.fromkeys(notices))


def _row(record: "Record") -> dict[str, Any]:
    identity: dict[str, Any] = {"dataset": record.dataset, "split": record.split, "system": record.system}
    return identity | record.measures | {"costs": record.costs}


def _print_table(records: "Sequence[Record]") -> None:
    from flatcoat.console import print_table

    from .metrics import MEASURES, title_of

    print_table(
        ["Data set", "Split", "System", *map(title_of, MEASURES), "ms/query"],
        [
            [
                record.dataset,
                record.split,
                record.system,
                *(f"{100 * record.measures[measure]:.1f}" for measure in MEASURES),
                f"{1000 * record.costs['search'] / max(record.costs['queries'], 1):.1f}",
            ]
            for record in records
        ],
        words=["Split", "System"],
        caption="measures x 100, means over the judged queries",
    )
