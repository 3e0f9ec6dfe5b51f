"""``flatcoat bench``: speed measured side by side with the peers, in one run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        list[str] | None, typer.Option(help="fp32 or bf16; may be repeated. Default: both.")
    ] = None,
    scale: Annotated[
        float, typer.Option(min=0, help="Fraction of the protocol's 4,194,304 tokens a set.")
    ] = 0.004,
    passes: Annotated[int, typer.Option(min=1, help="Timed passes; the median counts.")] = 3,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time ModernBERT encoding by the paper's protocol: real tokens per second, ours and others'."""
    from ..retrieval.console import progress_bar
    from .encode_speed import SETS, compare, describe_machine, draw

    with progress_bar() as progress:
        task = progress.add_task("measuring", total=None)
        rows = compare(
            shape,
            sets or list(SETS),
            precision or ["fp32", "bf16"],
            scale,
            passes,
            lambda what: progress.update(task, description=f"measuring {what}"),
        )
    machine = describe_machine()
    if plot:
        draw(rows, machine, plot)
    if as_json:
        typer.echo(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}, indent=2))
    else:
        _print_table(rows, machine)


def _print_table(rows: "Sequence[SpeedRow]", machine: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption=f"real tokens a second, median pass; {machine}", caption_justify="left")
    for title in ("Documents", "Precision", "Implementation"):
        table.add_column(title)
    for title in ("Tokens/s", "Ours is", "Cosine"):
        table.add_column(title, justify="right")
    for row in rows:
        cosine = "" if row.cosine is None else f"{row.cosine:.5f}"
        table.add_row(
            row.set,
            row.precision,
            row.implementation,
            f"{row.tokens_per_second:,.0f}",
            f"{1 / row.ratio_to_ours:.2f}x",
            cosine,
        )
    Console(markup=False).print(table)
