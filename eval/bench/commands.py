"""``flatcoat bench``: speed measured side by side with the peers, in one run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from .collections import Encoded, Synthetic
    from .encode import SpeedRow
    from .search import SearchRow

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
Depth = Annotated[int, typer.Option("-k", "--k", min=10, help="Passages retrieved per query.")]
Share = Annotated[
    float | None,
    typer.Option("--filter", min=0, max=1, help="Filter each search to a random fraction of the passages."),
]
Sizes = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Collection sizes: measure each prefix of N passages.")
]


@app.callback()
def _group() -> None: ...


@app.command()
def encode(
    shape: Annotated[
        str, typer.Option(help="Model size: base, large, or a checkpoint folder with the same shape.")
    ] = "base",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Document set; may be repeated. Default: all four.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="Precision: fp32, bf16, or int8 on a CPU; may be repeated. Default: all fast ones."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Fraction of the protocol's 4,194,304 tokens per set. Default: 0.001 on CPU, 0.05 on GPU.",
        ),
    ] = None,
    passes: Passes = 3,
    training: Annotated[bool, typer.Option("--training", help="Time training steps instead.")] = False,
    max_batch: Annotated[
        bool, typer.Option(help="On a GPU, also find the largest batch that fits in memory.")
    ] = True,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Time ModernBERT encoding by the paper's protocol: tokens per second (padding not counted)."""
    from flatcoat.console import progress_bar

    from .encode import SETS, compare, describe_machine

    with progress_bar() as progress:
        task = progress.add_task("building the models", total=None)
        rows = compare(
            shape,
            sets or SETS,
            precision or (),
            scale,
            passes,
            training,
            max_batch,
            lambda what: progress.update(task, description=f"measuring {what}"),
        )
    _show(rows, describe_machine(), plot, as_json)


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

    from .search import compare
    from .search_peers import engines

    chosen, counts = engines(engine or ()), _counts(sizes)
    source = _source(folder, model, passages or max(counts, default=None), tokens, width, counts)
    with TemporaryDirectory() as place, progress_bar() as progress:
        task = progress.add_task("preparing the vectors", total=None)

        def say(what: str) -> None:
            progress.update(task, description=what)

        collection = source.collection(Path(place), queries, say)
        rows = compare(collection, chosen, k, passes, share, counts, say)
    asked = collection.queries
    report(rows, {"k": k, "queries": len(asked), "width": asked.width, "filter": share}, plot, as_json)


def _source(
    folder: Path | None,
    model: str | None,
    passages: int | None,
    tokens: int | None,
    width: int | None,
    counts: "Sequence[int]",
) -> "Encoded | Synthetic":
    from .collections import Encoded, Synthetic

    if folder:
        if tokens or width:
            raise typer.BadParameter("only synthetic vectors have a choice", param_hint="--tokens, --width")
        return Encoded(folder, model, passages, min(counts, default=None))
    if model:
        raise typer.BadParameter("synthetic vectors need none: name a FOLDER", param_hint="--model")
    return Synthetic(passages or 1200, tokens or 48, width or 64)


def _counts(sizes: str | None) -> list[int]:
    try:
        return [int(size) for size in sizes.split(",")] if sizes else []
    except ValueError:
        raise typer.BadParameter(
            f"{sizes} came: write counts of passages, as 1000,10000", param_hint="--sizes"
        ) from None


def _show(rows: "Sequence[SpeedRow]", machine: str, plot: Path | None, as_json: bool) -> None:
    from rich.console import Console

    if plot:
        from .plots import draw_encoding

        draw_encoding(rows, machine, plot)
    if as_json:
        typer.echo(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}, indent=2))
        return
    console = Console(markup=False)
    for name in dict.fromkeys(row.set for row in rows):
        _print_table([row for row in rows if row.set == name], console)
    console.print(f"{rows[0].task}, real tokens a second, median pass; {machine}", soft_wrap=True)
    _print_best(rows, console)


def _print_table(rows: "Sequence[SpeedRow]", console: "Console") -> None:
    from rich import box
    from rich.table import Table

    count = f"{rows[0].documents:,} document{'s' if rows[0].documents > 1 else ''}"
    table = Table(title=f"{rows[0].set}, {count}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Precision", no_wrap=True)
    table.add_column("Implementation")
    batches = any(row.max_batch for row in rows)
    for title in ("Tokens/s", "Ours is", "Cosine", *(("Max batch",) if batches else ())):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.precision,
            row.implementation,
            f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else "no memory",
            f"{1 / row.ratio_to_ours:.2f}x" if row.ratio_to_ours else "",
            "" if row.cosine is None else f"{row.cosine:.5f}",
            *((f"{row.max_batch:,}" if row.max_batch else "",) if batches else ()),
        )
    console.print(table)


def _print_best(rows: "Sequence[SpeedRow]", console: "Console") -> None:
    from .encode import FAITHFUL, best_against_default

    for best in best_against_default(rows):
        console.print(
            f"{best.set}: best of ours with cosine >= {FAITHFUL}: {best.precision}, "
            f"{best.speedup:.1f}x sentence-transformers' default encode",
            soft_wrap=True,
        )


_COLUMNS = ("Build s", "B/token", "ms (p95)", "Cold ms", "R@10", "R@100", "nDCG@10")


def report(
    rows: "Sequence[SearchRow]", settings: Mapping[str, Any], plot: Path | None, as_json: bool
) -> None:
    """Print ``rows``, then draw them where ``plot`` is given; ``settings`` are those that all share."""
    from .encode import describe_machine

    machine = describe_machine()
    shared = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    if as_json:
        values = {"machine": machine, **settings, "rows": [row.to_json() for row in rows]}
        typer.echo(json.dumps(values, indent=2))
    else:
        _print_search_tables(rows, f"{shared}; {machine}")
    if plot:
        from .plots import draw_search

        draw_search(rows, f"{shared}\n{machine}", plot)


def _print_search_tables(rows: "Sequence[SearchRow]", caption: str) -> None:
    from rich.console import Console

    console = Console(markup=False)
    for size in dict.fromkeys(row.passages for row in rows):
        _print_search_table([row for row in rows if row.passages == size], console)
    console.print(caption, soft_wrap=True)


def _print_search_table(rows: "Sequence[SearchRow]", console: "Console") -> None:
    from rich import box
    from rich.table import Table

    from .search import QUALITIES

    title = f"{rows[0].passages:,} passages, {rows[0].tokens:,} tokens"
    # 80 columns are enough.
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("Engine")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        times = f"{_short(row.ms_per_query)} ({_short(row.ms_p95)})"
        figures = (_short(row.build_seconds), _short(row.bytes_per_token), times, _short(row.ms_cold))
        qualities = (row.quality[name] for name in QUALITIES)
        table.add_row(
            f"{row.engine}: {row.settings}" if row.settings else row.engine,
            *("" if row.error else figure for figure in figures),
            *("" if value is None else f"{value:.3f}" for value in qualities),
        )
    console.print(table)
    for row in rows:
        if row.error:
            console.print(f"{row.engine} {row.settings}: {row.error}".strip(), soft_wrap=True)


def _short(value: float | None) -> str:
    """Three digits, or whole."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
