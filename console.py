"""What the command lines of every folder share: options, and progress on stderr."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

IndexFolder = Annotated[
    Path, typer.Option("--index", metavar="DIR", file_okay=False, help="Folder of the index.")
]
Existing = Annotated[
    Path, typer.Option("--index", metavar="DIR", file_okay=False, exists=True, help="Folder of the index.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def progress_bar() -> "Progress":
    """A rich progress display on stderr, gone when done, silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
