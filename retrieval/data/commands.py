"""``flatcoat mine``, ``mine-docstrings`` and ``score``: negatives, pairs and scores to train on."""

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.console import AsJson

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .files import Collection
    from .negatives import Searcher

app = typer.Typer()

Output = Annotated[
    Path, typer.Option(dir_okay=False, help="File of training rows to write: .jsonl or .parquet.")
]

_BM25 = "bm25"


@app.command()
def mine(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            exists=True,
            help="BEIR folder, or .jsonl or .parquet file of query-document pairs.",
        ),
    ],
    output: Output,
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
        str, typer.Option(metavar="QUERY,DOCUMENT", help="Columns of the file of pairs.")
    ] = "query,document",
    as_json: AsJson = False,
) -> None:
    """Mine hard negatives for the queries in DATA."""
    from flatcoat.console import progress_bar

    from .examples import write_examples
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
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps({"output": str(output)} | asdict(counts) | {"seconds": seconds}, indent=2))
        return
    typer.echo(f"{output}: {counts.rows:,} of {pairs:,} rows in {seconds} s")
    for name, count in asdict(counts).items():
        if count and name != "rows":
            typer.echo(f"  {name.replace('_', ' ')}: {count:,}")


@app.command()
def mine_docstrings(
    packages: Annotated[
        list[str],
        typer.Argument(metavar="PACKAGE", help='Installed packages; "python" is the standard library.'),
    ],
    output: Output,
    max_pairs: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of pairs. Default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Mine pairs of a docstring's first sentence and its function or class from installed packages."""
    from flatcoat.console import progress_bar
    from flatcoat.indexing.documents import normalized

    from .docstrings import docstring_pairs
    from .examples import Example, write_examples

    began = time.monotonic()
    counts: Counter[str] = Counter()
    with progress_bar() as progress:
        task = progress.add_task("mining docstrings", total=max_pairs)
        pairs = docstring_pairs(packages, max_pairs=max_pairs, counts=counts)
        rows = (Example(normalized(pair.query), normalized(pair.document)) for pair in pairs)
        write_examples(progress.track(rows, total=max_pairs, task_id=task), output, has_negatives=False)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        found = {"output": str(output), "pairs": counts.total(), "packages": counts, "seconds": seconds}
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"{output}: {counts.total():,} pairs in {seconds} s")
    for package, count in counts.items():
        typer.echo(f"  {package}: {count:,}")


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
            teacher=model,
            on_progress=lambda done: progress.update(
                task, completed=done, description=f"scored {done:,} rows"
            ),
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
        from flatcoat.indexing.bm25_baseline import Bm25

        progress.update(task, description="indexing words for BM25")
        return Bm25(documents.items())
    from flatcoat.retrieval.encoders.load import load_encoder

    from .negatives import CorpusSearcher

    progress.update(task, description="encoding the corpus", total=len(documents))
    return CorpusSearcher(
        load_encoder(model),
        documents,
        on_progress=lambda done: progress.update(task, completed=done),
    )
