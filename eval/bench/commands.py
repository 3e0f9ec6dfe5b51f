"""``flatcoat bench``: speed measured side by side with other implementations, in one run."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .collections import EncodedFolder
    from .synthetic import Synthetic

app = typer.Typer(no_args_is_help=True, help="Measure speed beside other implementations.")

Passes = Annotated[int, typer.Option(min=1, help="Timed passes; the median is reported.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot the results to a file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER", exists=True, file_okay=False, help="BEIR folder. Default: synthetic token vectors."
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Encoder of FOLDER. Default: the model shipped with flatcoat.")
]
Passages = Annotated[
    int | None,
    typer.Option(
        "--passages",
        "--limit",
        min=1,
        help="Number of passages. Default: all of FOLDER; 1200 synthetic ones.",
    ),
]
Tokens = Annotated[int | None, typer.Option(min=1, help="Mean tokens per synthetic passage. Default: 48.")]
Width = Annotated[int | None, typer.Option(min=8, help="Dimensions of synthetic vectors. Default: 64.")]
Queries = Annotated[int, typer.Option(min=1, help="Number of queries, searched one at a time.")]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        help="Search engine: exact, flatcoat, fast-plaid, xtr-warp-rs; may be repeated. Default: all.",
    ),
]
Texts = Annotated[
    list[Path],
    typer.Argument(
        metavar="TEXT...",
        exists=True,
        dir_okay=False,
        help="Text files, or .jsonl files of objects; where they end, mixtures of their passages follow.",
    ),
]
QueriesFile = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="A queries.jsonl as BEIR has it.")
]
Bm25Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine", help="Engine: flatcoat, bm25s, fts5, tantivy; may be repeated. Default: all installed."
    ),
]
Depth = Annotated[int, typer.Option("-k", "--k", min=10, help="Passages retrieved per query.")]
Share = Annotated[
    float | None,
    typer.Option("--filter", min=0, max=1, help="Filter each search to a random fraction of the passages."),
]
Sizes = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Collection sizes: measure each prefix of N passages.")
]

Shape = Annotated[
    str, typer.Option(help="Model size: base, large, or a checkpoint folder with the same shape.")
]
Weights = Annotated[
    str | None,
    typer.Option("--model", help="Folder or hub name of an encoder to measure in place of --shape."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Document set, or a BEIR folder to read with --model; may be repeated. Default: all sets that "
        "the model reads.",
    ),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option(help="Precision: fp32, bf16, or int8 on a CPU; may be repeated. Default: all fast ones."),
]
Scale = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Fraction of the protocol's 4,194,304 tokens per set. Default: 0.001 on CPU, 0.05 on GPU.",
    ),
]
Training = Annotated[bool, typer.Option("--training", help="Time training steps instead.")]
MaxBatch = Annotated[bool, typer.Option(help="On a GPU, also find the largest batch that fits in memory.")]


@app.callback()
def _group() -> None: ...


@app.command()
def encode(
    shape: Shape = "base",
    sets: Sets = None,
    model: Weights = None,
    precision: Precisions = None,
    scale: Scale = None,
    passes: Passes = 3,
    training: Training = False,
    max_batch: MaxBatch = True,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Time encoding by the ModernBERT paper's protocol: tokens per second (padding not counted)."""
    from flatcoat.console import progress_bar

    from .encode import bench_encoding
    from .report import report_encoding

    with progress_bar() as progress:
        task = progress.add_task("building the models", total=None)
        rows = bench_encoding(
            shape,
            sets or (),
            model=model,
            precisions=precision or (),
            scale=scale,
            passes=passes,
            train=training,
            max_batch=max_batch,
            on_progress=lambda what: progress.update(task, description=f"measuring {what}"),
        )
    report_encoding(rows, plot=plot, as_json=as_json)


@app.command()
def search(
    folder: Folder = None,
    model: Model = None,
    passages: Passages = None,
    tokens: Tokens = None,
    width: Width = None,
    queries: Queries = 20,
    engine: Engines = None,
    k: Depth = 10,
    passes: Passes = 3,
    share: Share = None,
    sizes: Sizes = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Time late-interaction search, one query at a time, beside exact search and other engines."""
    from flatcoat.console import progress_bar

    from .report import report_search
    from .search import bench_search
    from .search_peers import engines

    chosen, counts = engines(engine or ()), _counts(sizes)
    source = _source(folder, model, passages or max(counts, default=None), tokens, width, counts)
    with TemporaryDirectory() as place, progress_bar() as progress:
        task = progress.add_task("preparing the vectors", total=None)

        def show(what: str) -> None:
            progress.update(task, description=what)

        collection = source.collection(Path(place), queries, on_progress=show)
        rows = bench_search(
            collection, chosen, k=k, passes=passes, share=share, sizes=counts, on_progress=show
        )
    drawn = collection.queries
    settings = {"k": k, "queries": len(drawn), "width": drawn.width, "filter": share}
    report_search(rows, settings=settings, plot=plot, as_json=as_json)


@app.command()
def serve(
    clients: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of clients at once.")] = "1,8,64",
    requests: Annotated[int, typer.Option(min=1, help="Requests of each kind per number of clients.")] = 512,
    passages: Annotated[int, typer.Option(min=10, help="Passages that are searched.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Ask a server for embeddings and searches beside one that calls sentence-transformers per request."""
    from flatcoat.console import progress_bar

    from .report import report_serving
    from .serve import bench_serving

    with TemporaryDirectory() as place, progress_bar() as progress:
        task = progress.add_task("preparing", total=None)
        loads = bench_serving(
            Path(place),
            clients=_counts(clients, "--clients"),
            requests=requests,
            passages=passages,
            on_progress=lambda what: progress.update(task, description=what),
        )
    report_serving(loads, as_json=as_json)


@app.command()
def bm25(
    texts: Texts,
    queries_from: QueriesFile,
    sizes: Sizes = "100000",
    engine: Bm25Engines = None,
    queries: Queries = 100,
    k: Depth = 100,
    words: Annotated[int, typer.Option(min=2, help="Words per passage.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Time BM25 beside other engines: processor time of a query and of building, bytes, memory."""
    from flatcoat.console import progress_bar

    from .bm25 import bench_bm25, engines_of, queries_of
    from .report import report_bm25

    drawn, engines = queries_of(queries_from, queries), engines_of(engine or ())
    with progress_bar() as progress:
        task = progress.add_task("reading the texts", total=None)
        rows = bench_bm25(
            texts,
            drawn,
            sizes=_counts(sizes),
            engines=engines,
            k=k,
            words=words,
            on_progress=lambda what: progress.update(task, description=what),
        )
    report_bm25(rows, settings={"k": k, "queries": len(drawn), "words": words}, as_json=as_json)


def _source(
    folder: Path | None,
    model: str | None,
    passages: int | None,
    tokens: int | None,
    width: int | None,
    counts: Sequence[int],
) -> "EncodedFolder | Synthetic":
    from .collections import EncodedFolder
    from .synthetic import Synthetic

    if folder:
        if tokens or width:
            raise typer.BadParameter("only synthetic vectors have a choice", param_hint="--tokens, --width")
        return EncodedFolder(folder, model, passages, min(counts, default=None))
    if model:
        raise typer.BadParameter("synthetic vectors need none: name a FOLDER", param_hint="--model")
    return Synthetic(passages or 1200, tokens or 48, width or 64)


def _counts(sizes: str | None, option: str = "--sizes") -> list[int]:
    try:
        return [int(size) for size in sizes.split(",")] if sizes else []
    except ValueError:
        raise typer.BadParameter(f"{sizes} came: write counts, as 1000,10000", param_hint=option) from None
