"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

IndexFolder = Annotated[
    Path, typer.Option("--index", metavar="DIR", file_okay=False, help="The index's folder.")
]
Existing = Annotated[
    Path, typer.Option("--index", metavar="DIR", file_okay=False, exists=True, help="The index's folder.")
]
Model = Annotated[
    str | None, typer.Option(help="A checkpoint's folder or hub name. Default: the one inside flatcoat.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
