"""``flatcoat mine`` and ``flatcoat score``: hard negatives and teacher scores, for a recipe to train on."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.console import AsJson

from .examples import write_examples

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .files import Collection
    from .negatives import Searcher

app = typer.Typer()

_BM25 = "bm25"


@app.command()
def mine(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", exists=True, help="BEIR folder, or .jsonl file of query-document pairs."
        ),
    ],
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="File of training rows to write: .jsonl or .parquet.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Retriever of the candidates: bm25, or a checkpoint folder or hub name. Default: the model "
            "shipped with flatcoat."
        ),
    ] = None,
    negatives: Annotated[int, typer.Option(min=1, help="Hard negatives per row.")] = 5,
    ranks: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="Ranks of the candidates in the search results.")
    ] = "1-100",
    margin: Annotated[
        float | None,
        typer.Option(min=0, help="Minimum score difference between the positive and a hard negative."),
    ] = None,
    relative_margin: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Minimum score difference as a fraction of the positive's score; 0 turns the filter off.",
        ),
    ] = 0.05,
    split: Annotated[str, typer.Option(help="Qrels split of the BEIR folder.")] = "train",
    max_queries: Annotated[
        int | None, typer.Option(min=1, help="Size of a random sample of the queries. Default: all.")
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="QUERY,DOCUMENT", help="Columns of the .jsonl of pairs.")
    ] = "query,document",
    as_json: AsJson = False,
) -> None:
    """Mine hard negatives for the queries in DATA."""
    from flatcoat.console import progress_bar

    from .files import Collection
    from .negatives import MiningCounts, MiningSettings
    from .negatives import mine as mined

    began = time.monotonic()
    query, _, document = columns.partition(",")
    settings = MiningSettings(negatives, *_range(ranks), margin, relative_margin or None)
    counts = MiningCounts()
    with progress_bar() as progress:
        task = progress.add_task(f"reading {data}", total=None)
        collection = Collection.read(data, split, query=query, document=document).sampled(max_queries)
        searcher = _searcher(collection, model, progress, task)
        rows = mined(collection, searcher, settings=settings, counts=counts)
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
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Training rows written by mine."),
    ],
    teacher: Annotated[str, typer.Option(help="Cross-encoder: a checkpoint folder or hub name.")],
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="File of scored rows to write or resume: .jsonl.")
    ],
    max_length: Annotated[
        int | None,
        typer.Option(min=16, help="Maximum tokens per query-document pair. Default: the teacher's."),
    ] = None,
) -> None:
    """Add teacher scores to the training rows of FILE, for distillation; an interrupted run resumes."""
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
        documents,
        on_progress=lambda done: progress.update(task, completed=done),
    )
