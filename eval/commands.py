"""``flatcoat eval``: models and BM25 measured on BEIR folders."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from . import bench

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..retrieval.encoding import Encoder
    from .datasets import RetrievalDataset
    from .evaluation import Row
    from .metrics import Run, Scores

Search: TypeAlias = "Callable[[RetrievalDataset], Run]"

app = typer.Typer()
app.add_typer(bench.app, name="bench")

_TITLES = {"ndcg@10": "nDCG@10", "map": "MAP", "recall@100": "Recall@100", "mrr@10": "MRR@10"}
_DEEPEST = 100


Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Data sets in BEIR's layout."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(help="A model's name or folder; may be repeated. Default: the shipped one."),
]
Split = Annotated[str | None, typer.Option(help="Which qrels/SPLIT.tsv. Default: the only one, or test.")]
WithBm25 = Annotated[bool, typer.Option("--bm25/--no-bm25", help="Add a row for BM25, the baseline.")]
Depth = Annotated[int, typer.Option(min=1, help="Results kept a query.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, measures as fractions of 1.")]
RunFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write each row's TREC run in DIR.")
]
ScoreFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write each row's scores by query in DIR.")
]


@app.command("eval")
def evaluate_folders(
    folders: Folders,
    model: Models = None,
    split: Split = None,
    bm25: WithBm25 = True,
    k: Depth = _DEEPEST,
    as_json: AsJson = False,
    run_file: RunFolder = None,
    per_query: ScoreFolder = None,
) -> None:
    """Measure models on data sets: nDCG@10, MAP, Recall@100 and MRR@10, by exact search."""
    from ..retrieval.console import progress_bar
    from .datasets import load_beir
    from .evaluation import Row
    from .metrics import evaluate

    if (run_file or per_query) and len({folder.resolve().name for folder in folders}) < len(folders):
        raise typer.BadParameter("two FOLDERs share a name: their files would overwrite each other")
    rows: list[Row] = []
    notices = [f"k is {k}: no measure sees beyond it"] if k < _DEEPEST else []
    with progress_bar() as progress:
        searches = _prepare_searches(model or [None], k, bm25, progress)
        for folder in folders:
            dataset = load_beir(folder, split)
            notices += [f"{dataset.name} {dataset.split}: {notice}" for notice in dataset.notices]
            for system, search in searches.items():
                run = search(dataset)
                scores = evaluate(run, dataset.qrels)
                rows.append(Row(dataset.name, dataset.split, system, scores.mean))
                _write_files(rows[-1], run, scores, run_file, per_query)
    if as_json:
        typer.echo(json.dumps({"rows": [row.to_json() for row in rows]}, indent=2))
    else:
        _print_table(rows)
    for notice in notices:
        typer.echo(notice, err=as_json)


def _prepare_searches(
    models: Sequence[str | None], k: int, bm25: bool, progress: "Progress"
) -> dict[str, Search]:
    """Load every model, before the first hour is spent on the first of them."""
    from ..retrieval.load import load_encoder
    from .evaluation import search_bm25, search_dataset

    def search_with(encoder: "Encoder", system: str, dataset: "RetrievalDataset") -> "Run":
        task = progress.add_task(f"{dataset.name}: {system}", total=len(dataset.documents))
        run = search_dataset(encoder, dataset, k, lambda done, _: progress.update(task, completed=done))
        progress.remove_task(task)
        return run

    searches: dict[str, Search] = {"BM25": lambda dataset: search_bm25(dataset, k)} if bm25 else {}
    task = progress.add_task("loading models", total=len(models))
    for model in models:
        encoder = load_encoder(model)
        # as the user named it: the last folders of two paths may well be the same
        system = model or encoder.name
        searches[system] = lambda dataset, encoder=encoder, system=system: search_with(
            encoder, system, dataset
        )
        progress.advance(task)
    progress.remove_task(task)
    return searches


def _write_files(
    row: "Row", run: "Run", scores: "Scores", run_folder: Path | None, score_folder: Path | None
) -> None:
    from .runs import write_per_query, write_run

    system = re.sub(r"[^\w.-]+", "-", row.system).strip("-")
    stem = f"{row.dataset}.{row.split}.{system}"
    if run_folder:
        run_folder.mkdir(parents=True, exist_ok=True)
        write_run(run_folder / f"{stem}.trec", run, system)
    if score_folder:
        score_folder.mkdir(parents=True, exist_ok=True)
        write_per_query(score_folder / f"{stem}.tsv", scores)


def _print_table(rows: "Sequence[Row]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="measures x 100, means over the judged queries", caption_justify="left")
    for title in ("Data set", "Split", "System"):
        table.add_column(title, overflow="fold")
    for title in _TITLES.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        figures = [f"{100 * row.scores[measure]:.1f}" for measure in _TITLES]
        table.add_row(row.dataset, row.split, row.system, *figures)
    Console(markup=False).print(table)
