"""``flatcoat compare``: systems of results folders side by side."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class Format(str, Enum):  # noqa: UP042 - typer shows these values
    """Formats of a report."""

    markdown = "markdown"
    json = "json"
    html = "html"


Results = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR", exists=True, file_okay=False, help="Results folders written by flatcoat eval --output."
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="SYSTEM", help="System to test against, by name or key. Default: BM25, or the first."
    ),
]
Measure = Annotated[
    str, typer.Option(help="Measure to compare, as in the results: ndcg@10, map, recall@100, ...")
]
As = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Output format. Default: by the ending of FILE, or tables on the terminal."
    ),
]
Output = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="File to write: .md, .json or .html.")
]

_ENDINGS = {".md": Format.markdown, ".json": Format.json, ".html": Format.html}


@app.command()
def compare(
    results: Results,
    baseline: Baseline = None,
    measure: Measure = "ndcg@10",
    format: As = None,
    output: Output = None,
) -> None:
    """Compare evaluation results: significance tests, costs, and quality lost to approximate search."""
    from .comparison import compare_results
    from .html import render_html
    from .text import print_tables, render_json, render_markdown

    if output and not format and output.suffix not in _ENDINGS:
        raise typer.BadParameter(f"{output.name} ends in none of {', '.join(_ENDINGS)}: say --format")
    format = format or (_ENDINGS[output.suffix] if output else None)
    comparison = compare_results(results, measure, baseline=baseline)
    if not format:
        print_tables(comparison)
        return
    renderers = {Format.markdown: render_markdown, Format.json: render_json, Format.html: render_html}
    text = renderers[format](comparison)
    if output:
        output.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {output}", err=True)
    else:
        typer.echo(text, nl=False)
