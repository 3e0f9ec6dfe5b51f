"""``flatcoat train``."""

from pathlib import Path
from typing import Annotated

import typer

from .. import FlatcoatError

app = typer.Typer()


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one inside flatcoat.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="The checkpoint. Default: runs/NAME.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key, as training.batch_size=64."),
    ] = None,
) -> None:
    """Train a retriever as RECIPE says."""
    from .schema import Recipe

    # A recipe is checked before anything heavy is loaded.
    try:
        loaded = Recipe.load(find_recipe(recipe), set_ or ())
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="RECIPE") from None
    from ..retrieval.console import progress_bar
    from .run import run

    folder = output or Path("runs") / loaded.name
    with progress_bar() as progress:
        task = progress.add_task("reading the data", total=None)
        log = run(
            loaded,
            folder,
            lambda step, steps, loss: progress.update(
                task, completed=step, total=steps, description=f"step {step:,} of {steps:,}, loss {loss:.3f}"
            ),
        )
    last = f", last logged loss {log.losses[-1][1]:.3f}" if log.losses else ""
    typer.echo(f"{folder}: {log.steps:,} steps in {log.seconds / 60:.1f} minutes{last}")


def find_recipe(name: str) -> Path:
    """The file ``name``, or the recipe of that name inside flatcoat; FlatcoatError lists those there."""
    if Path(name).is_file():
        return Path(name)
    shipped = Path(__file__).parent / f"{name.removesuffix('.yaml')}.yaml"
    if shipped.is_file() and shipped.parent == Path(__file__).parent:
        return shipped
    known = ", ".join(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))
    raise FlatcoatError(f"no recipe {name}: give a file, or one of {known}")
