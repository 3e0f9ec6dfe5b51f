"""``flatcoat mine`` and ``flatcoat score``: hard negatives and teacher scores, for a recipe to train on."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.retrieval.commands import AsJson

from .examples import write_examples

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .negatives import Collection, Searcher

app = typer.Typer()

_BM25 = "bm25"


@app.command()
def mine(
    data: Annotated[Path, typer.Argument(exists=True, help="A BEIR folder, or a .jsonl file of pairs.")],
    output: Annotated[Path, typer.Option(dir_okay=False, help="A .jsonl or .parquet file to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="bm25, or a checkpoint's folder or hub name. Default: the one in flatcoat."),
    ] = None,
    negatives: Annotated[int, typer.Option(min=1, help="Negatives of a row.")] = 5,
    ranks: Annotated[str, typer.Option(metavar="FIRST-LAST", help="Where to look for them.")] = "1-100",
    margin: Annotated[
        float | None, typer.Option(min=0, help="Points that a negative scores less than the positive.")
    ] = None,
    relative_margin: Annotated[
        float, typer.Option(min=0, max=1, help="The same as a share of the positive's score; 0 is any.")
    ] = 0.05,
    split: Annotated[str, typer.Option(help="Of a BEIR folder.")] = "train",
    max_queries: Annotated[int | None, typer.Option(min=1, help="Only so many, drawn at random.")] = None,
    columns: Annotated[str, typer.Option(metavar="QUERY,DOCUMENT", help="Of pairs.")] = "query,document",
    as_json: AsJson = False,
) -> None:
    """Find documents that look like answers to the queries of DATA and are none."""
    from flatcoat.console import progress_bar

    from .negatives import Collection, MiningCounts, MiningSettings
    from .negatives import mine as mined

    began = time.monotonic()
    query, _, document = columns.partition(",")
    settings = MiningSettings(negatives, *_range(ranks), margin, relative_margin or None)
    counts = MiningCounts()
    with progress_bar() as progress:
        task = progress.add_task(f"reading {data}", total=None)
        collection = Collection.read(data, split, query, document).sampled(max_queries)
        searcher = _searcher(collection, model, progress, task)
        rows = mined(collection, searcher, settings, counts)
        pairs = sum(map(len, collection.positives.values()))
        progress.update(task, description="mining", total=pairs, completed=0)
        write_examples(progress.track(rows, total=pairs, task_id=task), output)
    found = asdict(counts) | {"seconds": round(time.monotonic() - began, 1)}
    if as_json:
        typer.echo(json.dumps({"output": str(output)} | found, indent=2))
        return
    typer.echo(f"{output}: {counts.rows:,} of {pairs:,} rows in {found['seconds']} s")
    for name, count in found.items():
        if count and name not in ("rows", "seconds"):
            typer.echo(f"  {name.replace('_', ' ')}: {count:,}")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What mine wrote.")],
    teacher: Annotated[str, typer.Option(help="A cross-encoder's folder or hub name.")],
    output: Annotated[Path, typer.Option(dir_okay=False, help="A .jsonl file to write, or to go on with.")],
    max_length: Annotated[
        int | None, typer.Option(min=16, help="Tokens of a query with its document. Default: the teacher's.")
    ] = None,
) -> None:
    """Add a teacher's scores to the rows of FILE; what was cut off goes on where it was."""
    from flatcoat.console import progress_bar
    from flatcoat.retrieval.rerank import load_cross_encoder

    from .teacher import score_file

    with progress_bar() as progress:
        task = progress.add_task("loading the teacher", total=None)
        model = load_cross_encoder(teacher, max_length=max_length)
        scored = score_file(
            file,
            output,
            model,
            lambda done: progress.update(task, completed=done, description=f"scored {done:,} rows"),
        )
    typer.echo(f"{output}: {scored:,} rows scored by {teacher}")


def _range(ranks: str) -> tuple[int, int]:
    first, found, last = ranks.partition("-")
    if not (found and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise typer.BadParameter(f"{ranks!r}: FIRST-LAST is wanted, as in 1-100", param_hint="--ranks")
    return int(first), int(last)


def _searcher(
    collection: "Collection", model: str | None, progress: "Progress", task: "TaskID"
) -> "Searcher":
    documents = collection.documents
    if model == _BM25:
        from flatcoat.indexing.bm25 import Bm25

        progress.update(task, description="indexing the words")
        return Bm25(documents.items())
    from flatcoat.retrieval.encoders.load import load_encoder

    from .negatives import CorpusSearcher

    progress.update(task, description="encoding the corpus", total=len(documents))
    return CorpusSearcher(
        load_encoder(model),
        list(documents),
        list(documents.values()),
        lambda done: progress.update(task, completed=done),
    )
