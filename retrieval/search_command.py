"""``flatcoat search``: the best passages of an index, for people, for prompts and as JSON."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flatcoat.console import AsJson, Color, Existing
from flatcoat.errors import FlatcoatError

from .results import Mode

if TYPE_CHECKING:
    from flatcoat.indexing.filters.condition import Filter
    from flatcoat.indexing.filters.text_pattern import Case
    from flatcoat.indexing.store.stats import Encoded

Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILTER",
        help="Metadata filter, such as lang=python, 'year>=2020 and not (lang in go,rust or tags=draft)', "
        "'day>2024-01-31', 'symbol exists', or JSON such as '{\"year\": {\"$gte\": 2020}}'; may be repeated. "
        "Operators: =, !=, <, <=, >, >=, ^= (prefix), in, not in, exists, not exists.",
    ),
]
Query = Annotated[
    list[str] | None, typer.Argument(metavar="QUERY", help="Question, keywords or code to search for.")
]
Regex = Annotated[
    str | None,
    typer.Option(
        "-e", "--regex", metavar="PATTERN", help="Find only passages with a match of a regular expression."
    ),
]
Fixed = Annotated[
    str | None, typer.Option("-F", "--fixed", metavar="TEXT", help="Find only passages with this text.")
]
CaseOf = Annotated[
    Literal["smart", "sensitive", "ignore"],
    typer.Option(
        "--case", help="Whether capitals count in --regex and --fixed; smart: where the pattern has one."
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Target recall against exact search, for PLAID indexes."),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Encoder: a checkpoint folder or Hugging Face hub name. Default: the model that made the index."
    ),
]
RankBy = Annotated[
    Mode, typer.Option(help="Rank by embedding vectors, by BM25 (needs no model), or by both fused (hybrid).")
]
Rerank = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Rerank the top results with a cross-encoder or another encoder."),
]
WithSignals = Annotated[
    bool,
    typer.Option(
        "--signals/--no-signals",
        help="Rank files of code also by what they define, their paths, and whether they are tests or docs.",
    ),
]
OfContent = Annotated[
    Literal["code", "docs", "config", "all"], typer.Option(help="Search files of this content alone.")
]
Context = Annotated[
    int | None,
    typer.Option(
        "-C", "--context", min=0, help="Lines of the passage to show before and behind the best ones."
    ),
]
Files = Annotated[
    bool,
    typer.Option(
        "-l", "--files-with-matches", help="Print the paths of the K best files alone, one per line."
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="TOKENS",
        help="Print what a prompt needs: the lines that hold most of what was found, at most so many tokens "
        "of the model, each excerpt below its place.",
    ),
]

Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Search the other shards of a collection where some cannot be read, and name those."
    ),
]


def search(
    query: Query = None,
    index: Existing = None,
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Number of results.")] = 5,
    where: Where = None,
    regex: Regex = None,
    fixed: Fixed = None,
    case: CaseOf = "smart",
    recall: Recall = None,
    mode: RankBy = "hybrid",
    rerank: Rerank = None,
    group: Annotated[bool, typer.Option("--group", help="Show one result per document.")] = False,
    context: Context = None,
    files: Files = False,
    budget: Budget = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show scores, and which words of QUERY matched which words.")
    ] = False,
    signals: WithSignals = True,
    content: OfContent = "all",
    model: Model = None,
    partial: Partial = False,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync/--no-sync",
            help="Read files that changed before searching, where that takes less than a second.",
        ),
    ] = True,
    color: Color = "auto",
    as_json: AsJson = False,
) -> None:
    """Search an index for the passages that best answer QUERY; without it list what filters let through.

    flatcoat search "how are retries timed" --where "lang=python and not path^=tests/"

    flatcoat search "open a connection" --regex "def \\w+\\(" --fixed sqlite3

    flatcoat search --where symbol=Store.open -k 20

    flatcoat search "how are retries timed" -k 10 --budget 1500
    """
    from flatcoat.console import output, progress_bar
    from flatcoat.indexing.store.engines import few_searches

    from .discovery import open_index
    from .display import matching_files, print_results
    from .evidence import as_prompt

    if files and as_json:
        raise typer.BadParameter("--json names the document of each result: leave out one of the two")
    if files and budget is not None:
        raise typer.BadParameter("--budget prints lines, --files-with-matches paths: leave out one")
    filters = _filters(where)
    _check_pattern(regex, fixed, case)
    is_narrowed = bool(filters or regex or fixed or content != "all")
    asked = _query(query, is_narrowed)
    with progress_bar() as progress, few_searches():
        progress.add_task("searching", total=None)
        retriever = open_index(index, model)
        behind = retriever.refresh() if sync else None
        results = retriever.search(
            asked,
            k,
            where=filters,
            regex=regex,
            fixed=fixed,
            case=case,
            recall=recall,
            mode=mode,
            rerank=rerank,
            group=group or files,
            explain=explain,
            best_lines=not files,
            signals=None if signals else (),
            content=content,
            budget=budget,
            partial=partial,
        )
    encoded = retriever.encoded()
    _warn(behind, results.missing_shards)
    if as_json:
        held = {"passages": encoded.of, "passages_with_vectors": encoded.passages, "behind": behind}
        held["missing_shards"] = results.missing_shards
        values = {"query": asked, "results": [result.to_json() for result in results], "index": held}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    store = None if retriever.collection else retriever.store
    if budget is not None:
        typer.echo(as_prompt(results))
    elif files:
        typer.echo("".join(f"{path}\n" for path in matching_files(results, store)), nl=False)
    else:
        print_results(output(color), results, asked or "", store=store, context=context)
    if not results:
        typer.echo("nothing found" + (" that meets the conditions" if is_narrowed else ""), err=files)
    if retriever.has_model and mode != "bm25" and not encoded.is_complete:
        consequence = _what_follows(mode, encoded)
        typer.echo(f"{encoded.describe()}: {consequence}; flatcoat index encodes the rest", err=True)


def _what_follows(mode: Mode, encoded: "Encoded") -> str:
    if mode == "vectors":
        return "the others are not searched"
    return "the others are ranked by BM25 alone" if encoded.is_ranked_by else "BM25 alone ranks"


def _warn(behind: str | None, missing_shards: Sequence[int]) -> None:
    """Say on stderr what the results are without."""
    if behind:
        typer.echo(f"not all changes are searched: {behind}; flatcoat index reads them", err=True)
    if missing_shards:
        missing = ", ".join(map(str, missing_shards))
        typer.echo(f"searched without what is in these shards, which cannot be read: {missing}", err=True)


def _query(words: Sequence[str] | None, is_narrowed: bool) -> str | None:
    """The query, its words quoted or not, in the form of which explanations name the characters."""
    from flatcoat.indexing.documents import normalized

    query = " ".join(words) if words else None
    if query is not None and not query.strip():
        raise typer.BadParameter("the query is empty: say what to look for", param_hint="QUERY")
    if query is None and not is_narrowed:
        raise typer.BadParameter("say what to look for, or give --where or --regex", param_hint="QUERY")
    return query and normalized(query)


def _filters(where: Sequence[str] | None) -> "list[Filter]":
    from flatcoat.indexing.filters.forms import as_filters

    try:
        return as_filters(where)
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None


def _check_pattern(regex: str | None, fixed: str | None, case: "Case") -> None:
    from flatcoat.indexing.filters.text_pattern import TextPattern

    for option, pattern in (("--regex", (regex, None)), ("--fixed", (None, fixed))):
        try:
            TextPattern(*pattern, case)
        except FlatcoatError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
