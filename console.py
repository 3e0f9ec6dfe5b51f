"""Shared parts of the command lines: options, progress bars on stderr, tables on stdout."""

from collections.abc import Collection, Iterable, Sequence
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


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    title: str = "",
    caption: str = "",
) -> None:
    """Print a table on stdout, with ``title`` above and ``caption`` below.

    The first column and the columns named in ``words`` hold text, aligned left and folded where the terminal
    is narrow. All others hold figures, aligned right and never broken.

    >>> rows = [["BM25", "32.5"], ["flatcoat-small", "33.0"]]
    >>> print_table(["System", "nDCG@10"], rows)  # doctest: +NORMALIZE_WHITESPACE
    <BLANKLINE>
     System          nDCG@10
     ───────────────────────
     BM25               32.5
     flatcoat-small     33.0
    <BLANKLINE>
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title or None,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for position, name in enumerate(header):
        is_text = position == 0 or name in words
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
