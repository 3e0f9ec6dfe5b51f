"""``flatcoat eval``: flatcoat's search, models, BM25 and rerankings on benchmarks and BEIR folders."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from flatcoat.eval.systems.selection import SystemSelection
    from flatcoat.eval.systems.system import System

    from .datasets import RetrievalDataset
    from .records import Record
    from .report import Measured

app = typer.Typer()

_DEEPEST = 100  # the largest cutoff of the measures
_SHOWN = 10  # results that flatcoat search shows, and the cutoff of the measure of an ablation
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
        help="Benchmark: beir, mldr, codesearchnet, stackqa, nanobeir, coir, code-questions, an MTEB task or "
        "a BEIR folder; may be repeated.",
    ),
]
Models = Annotated[list[str] | None, typer.Option(help="Model to evaluate; may be repeated.")]
Split = Annotated[
    str | None,
    typer.Option(help="Split of the judgements (code-questions: dev, test). Default: the only one, or test."),
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
        help="Search engine: exact, auto, plaid, plaid:BITS, faiss or faiss:FACTORY; or the folder or URL of "
        "an index or collection of shards that holds the corpus; may be repeated. Default: exact.",
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Target recall against exact search, for PLAID indexes."),
]
WithBm25 = Annotated[bool, typer.Option("--bm25/--no-bm25", help="Evaluate the BM25 baseline.")]
WithAlone = Annotated[
    bool,
    typer.Option("--alone/--no-alone", help="Evaluate models alone, over whole documents."),
]
WithSearch = Annotated[
    bool,
    typer.Option("--search/--no-search", help="Evaluate flatcoat's search, as flatcoat search ranks."),
]
Modes = Annotated[
    list[str] | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="Mode of flatcoat's search: hybrid, bm25 or vectors; may be repeated. Default: hybrid, in an "
        "ablation bm25 as well.",
    ),
]
Ablation = Annotated[
    bool,
    typer.Option(
        "--ablation",
        help="Evaluate only flatcoat's search, with each ranking signal alone and with each left out.",
    ),
]
Queries = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Judged queries to draw per data set. Default: all.")
]
Seed = Annotated[int, typer.Option(help="Seed of the draw of queries.")]
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
    queries: Queries = None,
    seed: Seed = 0,
    document_length: Length = None,
    index: Indexes = None,
    recall: Recall = None,
    bm25: WithBm25 = True,
    alone: WithAlone = True,
    search: WithSearch = True,
    mode: Modes = None,
    rerank: Rerank = None,
    ablation: Ablation = False,
    k: Depth = _DEEPEST,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate flatcoat's search, models alone and BM25 on retrieval benchmarks.

    Measures are nDCG@10, MAP, Recall@100 and MRR@10.
    """
    from flatcoat.eval.systems.selection import SystemSelection

    from .benchmarks import load_tasks
    from .datasets import sample_queries

    data = [*filter(_is_data_set, targets or ()), *(benchmark or ())]
    models = [*(target for target in targets or () if not _is_data_set(target)), *(model or ())]
    _check_data(data, models, output)
    with TemporaryDirectory() as temporary:
        results = output or Path(temporary)
        selection = SystemSelection(
            models=tuple(models) or (None,),
            engines=tuple(index or ["exact"]),
            recall=recall,
            bm25=bm25,
            alone=alone,
            modes=tuple(mode or (["hybrid", "bm25"] if ablation else ["hybrid"])) if search else (),
            ablation=ablation,
            reranker=rerank,
            k=min(k, _SHOWN) if ablation else k,
            folder=results / "vectors",
        )
        datasets: Iterable[RetrievalDataset] = load_tasks(data, split)
        if queries is not None:
            datasets = (sample_queries(dataset, queries, seed=seed) for dataset in datasets)
        _show(_measure(selection, datasets, document_length, results), selection, as_json)


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
    datasets: "Iterable[RetrievalDataset]",
    document_length: int | None,
    results: Path,
) -> "list[Measured]":
    from flatcoat.console import progress_bar

    from .benchmarks import BENCHMARKS
    from .report import Measured

    measured: list[Measured] = []
    with progress_bar() as progress:
        # Every model is loaded before the first hour is spent on the first of them.
        task = progress.add_task("loading models", total=None)
        _require_distinct([system.name for system in selection.systems()])
        progress.remove_task(task)
        for dataset in datasets:
            standard = BENCHMARKS.get(dataset.benchmark)
            length = document_length or (standard.document_length if standard else None)
            for system in selection.systems(length):
                record = _measure_system(system, dataset, selection.k, results, progress)
                measured.append(Measured(record, system, dataset.groups))
            selection.forget()
    return measured


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
    if not names:
        raise UsageError("nothing to evaluate: --no-bm25, --no-alone and --no-search leave no system")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is named twice: name each system once")


def _show(measured: "Sequence[Measured]", selection: "SystemSelection", as_json: bool) -> None:
    from . import ablation, report

    notices = report.notices(measured)
    if selection.ablation:
        found = ablation.effects(measured)
        values, show = ablation.effects_json(found), partial(ablation.print_effects, found)
    else:
        values, show = report.report_json(measured), partial(report.print_report, measured)
        notices += report.truncation_notices(measured)
        notices += [f"k is {selection.k}: no measure sees beyond it"] if selection.k < _DEEPEST else []
    if as_json:
        typer.echo(json.dumps(values, indent=2))
    else:
        show()
    for notice in notices:
        typer.echo(notice, err=as_json)
