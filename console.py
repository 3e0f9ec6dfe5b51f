"""Shared parts of the command lines: options, progress bars on stderr, tables on stdout."""

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task

_LINE_SECONDS = 60.0
_WIDEST = 10_000  # characters of a table

_FOUND = "Folder of the index. Default: .flatcoat of this folder or of one above it in its repository"
IndexFolder = Annotated[
    Path | None,
    typer.Option(
        "--index", metavar="DIR", file_okay=False, help=f"{_FOUND}, made at its root where there is none."
    ),
]


def _place(value: str) -> str:
    """A path that may be a folder's, or a URL."""
    if "://" not in value and Path(value).is_file():
        raise typer.BadParameter(f"Directory {value!r} is a file.")
    return value


def _existing_place(value: str) -> str:
    if "://" not in value and not Path(value).exists():
        raise typer.BadParameter(f"Directory {value!r} does not exist.")
    return _place(value)


_URL = " Of a collection of shards also its URL."
NewIndex = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="DIR",
        parser=_place,
        help=f"{_FOUND}, made at its root where there is none.{_URL}",
    ),
]
Existing = Annotated[
    str | None,
    typer.Option("--index", metavar="DIR", parser=_existing_place, help=f"{_FOUND}.{_URL}"),
]
ColorWhen: TypeAlias = Literal["auto", "always", "never"]
Color = Annotated[ColorWhen, typer.Option(help="Colours and links: on a terminal (auto), always, or never.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things in words.

    >>> counted(1, "query", "queries"), counted(2000, "passage")
    ('1 query', '2,000 passages')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def output(color: ColorWhen = "auto") -> "Console":
    """A rich console on stdout that prints text as it is.

    ``color`` "auto" colours on a terminal unless NO_COLOR is set, "always" also in a pipe. "never" writes no
    escape code at all.
    """
    from rich.console import Console

    options: dict[str, Any] = {}
    if color == "never":
        options = {"color_system": None}
    elif color == "always":
        options = {"force_terminal": True, "no_color": False}
        if Console(**options).color_system is None:  # TERM says nothing of colours: those that all have.
            options["color_system"] = "standard"
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True, **options)


def progress_bar() -> "Progress":
    """A rich progress display on stderr, gone when done; where nobody watches, a line per minute instead."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        return _logged_progress()

    class Count(ProgressColumn):
        """How much is done, where it is known how much there is."""

        def render(self, task: "Task") -> Text:
            return Text(_count(task))

    described = TextColumn("{task.description}")
    columns = (SpinnerColumn(), described, Count(), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _logged_progress() -> "Progress":
    from rich.progress import Progress

    class LoggedProgress(Progress):
        """Writes a line per minute and task to stderr, from the first minute on."""

        def __init__(self) -> None:
            super().__init__(disable=True)
            self._done = Event()

        def start(self) -> None:
            Thread(target=self._write_lines, name="flatcoat-progress", daemon=True).start()

        def stop(self) -> None:
            self._done.set()

        def _write_lines(self) -> None:
            while not self._done.wait(_LINE_SECONDS):
                for task in self.tasks:
                    print(_progress_line(task), file=sys.stderr, flush=True)

    return LoggedProgress()


def _progress_line(task: "Task") -> str:
    """What a task is, how much of it is done, and for how many minutes it has run."""
    count = _count(task)
    return f"{task.description}{count and ' '}{count}, for {(task.elapsed or 0) / 60:.0f} min so far"


def _count(task: "Task") -> str:
    return f"{task.completed:,.0f} of {task.total:,.0f}" if task.total else ""


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    title: str = "",
    caption: str = "",
) -> None:
    """Print a table on stdout, with ``title`` above and ``caption`` below.

    The first column and the columns named in ``words`` hold text, aligned left. All others hold figures,
    aligned right and never broken. Where the terminal is narrow the columns in ``words`` are folded, and the
    first one too; without ``words`` it has names, which stand unbroken on lines of their own.

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

    rows = [tuple(row) for row in rows]
    console = Console(markup=False, highlight=False)
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
    unbroken = console.measure(table, options=console.options.update_width(_WIDEST)).maximum
    if not words and unbroken > console.width:
        for line in _with_names_apart(header, rows, title, caption):
            console.print(line, soft_wrap=True)
    else:
        console.print(table)


def _with_names_apart(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, caption: str
) -> Iterator[str]:
    """The lines of a table of names and figures, each name on a line of its own."""
    widths = [max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)][1:]

    def figures(cells: Sequence[str]) -> str:
        return "".join(cell.rjust(width) for cell, width in zip(cells[1:], widths, strict=True))

    yield from [title] if title else []
    yield f"{header[0]}\n{figures(header)}"
    yield "─" * sum(widths)
    for row in rows:
        yield f"{row[0]}\n{figures(row)}"
    yield from ["", caption] if caption else []
