"""``flatcoat bench``: speed measured side by side with the peers, in one run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from .encode_speed import SpeedRow

app = typer.Typer(no_args_is_help=True, help="Measure speed side by side with other implementations.")


@app.callback()
def _group() -> None: ...


@app.command()
def encode(
    shape: Annotated[str, typer.Option(help="base, large, or a checkpoint's folder for its shape.")] = "base",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A document set; may be repeated. Default: all four.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, bf16, on a CPU int8; may be repeated. Default: the fast ones."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(min=0, help="Fraction of the protocol's 4,194,304 tokens a set; CPU 0.001, GPU 0.05."),
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Timed passes; the median counts.")] = 3,
    training: Annotated[bool, typer.Option("--training", help="Time training steps instead.")] = False,
    max_batch: Annotated[
        bool, typer.Option(help="On a GPU, also find how many documents fit in one forward.")
    ] = True,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time ModernBERT encoding by the paper's protocol: real tokens per second, ours and others'."""
    from ..retrieval.console import progress_bar
    from .encode_speed import SETS, compare, describe_machine

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


def _show(rows: "Sequence[SpeedRow]", machine: str, plot: Path | None, as_json: bool) -> None:
    from rich.console import Console

    if plot:
        from .encode_plot import draw

        draw(rows, machine, plot)
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
    from .encode_speed import FAITHFUL, best_against_default

    for best in best_against_default(rows):
        console.print(
            f"{best.set}: best of ours with cosine >= {FAITHFUL}: {best.precision}, "
            f"{best.speedup:.1f}x sentence-transformers' default encode",
            soft_wrap=True,
        )
