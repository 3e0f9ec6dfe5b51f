"""``flatcoat search``."""

import json
from typing import Annotated

import typer

from .. import FlatcoatError
from .options import AsJson, Existing, Model
from .results import Mode

Where = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=VALUE", help="A condition (=, !=, <, <=, >, >=, ^=, in); may be repeated."),
]
Recall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of the best to be found, if not all passages are scored."),
]
RankBy = Annotated[Mode, typer.Option(help="Rank by vectors, by words (needs no model), or by both.")]
Rerank = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A cross-encoder or encoder that scores the best again.")
]


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    index: Existing,
    k: Annotated[int, typer.Option("-k", min=1, help="Results.")] = 5,
    where: Where = None,
    recall: Recall = None,
    mode: RankBy = "hybrid",
    rerank: Rerank = None,
    group: Annotated[bool, typer.Option("--group", help="One result a document.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show which words met which.")] = False,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer QUERY."""
    from rich.console import Console

    from ..indexing.documents import normalized
    from ..indexing.filters import parse_condition
    from .console import progress_bar, show_result
    from .retriever import Retriever

    if not query.strip():
        raise typer.BadParameter("the query is empty: say what to look for", param_hint="QUERY")
    query = normalized(query)  # The form of which explanations name the characters.
    try:
        conditions = [parse_condition(text) for text in where or ()]
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None
    with progress_bar() as progress:
        progress.add_task("searching", total=None)
        results = Retriever.open(index, model).search(
            query, k, conditions, recall, mode=mode, rerank=rerank, group=group, explain=explain
        )
    if as_json:
        values = {"query": query, "results": [result.to_json() for result in results]}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    console = Console()
    for result in results:
        console.print(show_result(result, query), soft_wrap=True)
    if not results:
        console.print("nothing found" + (" that meets the conditions" if conditions else ""))
