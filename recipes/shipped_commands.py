"""``flatcoat prepare-pairs`` and ``flatcoat shrink``: before and after training the shipped model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flatcoat.console import AsJson

app = typer.Typer()


@app.command()
def prepare_pairs(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", exists=True, file_okay=False, help="Folder of public collections, by name."
        ),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="New folder of pairs and dev sets to write.")
    ],
    as_json: AsJson = False,
) -> None:
    """Prepare the training pairs and dev sets of the shipped model from DATA."""
    from flatcoat.console import print_table, progress_bar

    from .shipped_pairs import prepare_pairs as prepare

    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)
        report = prepare(data, output, on_progress=lambda what: progress.update(task, description=what))
    if as_json:
        typer.echo(json.dumps(report, indent=2, default=vars))
        return
    print_table(
        ["Kind", "Read", "Overlapping", "Held back", "To train on", "Dev queries", "Dev documents"],
        [
            [
                kind,
                *(f"{n:,}" for n in (made.read, made.overlapping, made.held_back, made.trained)),
                *(f"{n:,}" for n in (made.dev_queries, made.dev_documents)),
            ]
            for kind, made in report.items()
        ],
    )


@app.command()
def shrink(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Folder of a trained model."),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="New folder of the smaller model to write.")
    ],
) -> None:
    """Write a trained model with int8 weights, a quarter of the size, which flatcoat alone reads."""
    from flatcoat.retrieval.encoders.int8_files import shrink as shrunk

    shrunk(folder, output)
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    typer.echo(f"{output}: {size / 1e6:.1f} MB")
