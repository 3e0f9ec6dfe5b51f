"""Commands on an index: ``flatcoat search``, ``remove``, ``forget``, ``compact``, ``verify`` and ``info``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flatcoat.console import AsJson, Color, Existing, counted
from flatcoat.errors import FlatcoatError

from . import index_command
from .results import Mode

if TYPE_CHECKING:
    from flatcoat.indexing.filters.condition import Filter
    from flatcoat.indexing.filters.text_pattern import Case

app = typer.Typer()

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
    str | None, typer.Argument(metavar="QUERY", help="Question, keywords or code to search for.")
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

app.command()(index_command.index)


@app.command()
def search(
    query: Query = None,
    index: Existing = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 5,
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
    query = _query(query, is_narrowed)
    with progress_bar() as progress:
        progress.add_task("searching", total=None)
        retriever = open_index(index, model)
        behind = retriever.refresh() if sync else None
        results = retriever.search(
            query,
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
    store = None if retriever.collection else retriever.store
    if behind:
        typer.echo(f"searched as it is, flatcoat index brings it up to date: {behind}", err=True)
    if results.missing_shards:
        missing = ", ".join(map(str, results.missing_shards))
        typer.echo(f"searched without what is in these shards, which cannot be read: {missing}", err=True)
    encoded = retriever.encoded()
    if as_json:
        held = {"passages": encoded.of, "passages_with_vectors": encoded.passages, "behind": behind}
        held["missing_shards"] = results.missing_shards
        values = {"query": query, "results": [result.to_json() for result in results], "index": held}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    if budget is not None:
        typer.echo(as_prompt(results))
    elif files:
        typer.echo("".join(f"{path}\n" for path in matching_files(results, store)), nl=False)
    else:
        print_results(output(color), results, query or "", store=store, context=context)
    if not results:
        typer.echo("nothing found" + (" that meets the conditions" if is_narrowed else ""), err=files)
    if retriever.has_model and mode != "bm25" and not encoded.is_complete:
        others = "are not searched" if mode == "vectors" else "are ranked by BM25 alone"
        typer.echo(f"{encoded.describe()} so far: the others {others}", err=True)


def _query(query: str | None, is_narrowed: bool) -> str | None:
    """The query in the form of which explanations name the characters."""
    from flatcoat.indexing.documents import normalized

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


@app.command()
def remove(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Documents: ids, or files as shown by search.")
    ],
    index: Existing = None,
) -> None:
    """Remove documents from an index by id, or by the file that they were read from.

    A file that is still there comes back when its folder is read again: flatcoat index --exclude prevents it.
    """
    from .discovery import open_index

    retriever = open_index(index)
    if retriever.collection is None:
        # A file as search shows it from here comes before the document that has this id.
        ids = [retriever.store.document_in(id) or id for id in ids]
    removed = retriever.remove(ids)
    typer.echo(f"{removed:,} of {counted(len(ids), 'document')} removed")


@app.command()
def forget(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder, file or data set, as listed by info.")
    ],
    index: Existing = None,
) -> None:
    """Remove a source (a folder, file or data set) and all its documents from an index."""
    from .discovery import open_index

    removed = open_index(index).forget(source)
    typer.echo(f"{source} forgotten, {counted(removed, 'document')} removed")


@app.command()
def compact(index: Existing = None) -> None:
    """Merge segments, drop removed passages, and retrain PLAID or FAISS if the index has grown."""
    from flatcoat.console import progress_bar

    from .discovery import open_index

    with progress_bar() as progress:
        progress.add_task("compacting", total=None)
        retriever = open_index(index)
        before = retriever.info()
        retriever.compact()
    after = retriever.info()
    typer.echo(
        f"{counted(before.segments, 'segment')}, {before.bytes / 1e6:,.1f} MB before; "
        f"{counted(after.segments, 'segment')}, {after.bytes / 1e6:,.1f} MB, searched by {after.engine}"
    )


@app.command()
def verify(index: Existing = None) -> None:
    """Check all checksums and cross-references of an index; exit code 1 if one is wrong."""
    from flatcoat.console import progress_bar

    from .discovery import required_index
    from .retriever import opened

    where = index or required_index()
    with progress_bar() as progress:
        progress.add_task("verifying", total=None)
        found = opened(where)
        problems = found.verify()
        found.close()
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{where} is whole")


@app.command()
def export(
    index: Annotated[
        str,
        typer.Argument(metavar="INDEX", help="Folder of an index; of a collection of shards also its URL."),
    ],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="File to write: .parquet, or .jsonl.")],
    format: Annotated[
        Literal["parquet", "vespa"] | None,
        typer.Option(
            help="parquet: a table that LanceDB and Qdrant read, vectors in float16. vespa: Vespa's JSON "
            "feed. Default: by the suffix of FILE."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Namespace of the ids of documents in Vespa.")] = "flatcoat",
) -> None:
    """Write all passages of an index, with metadata and vectors, to a file for another system."""
    from flatcoat.console import progress_bar

    from .export import export as write
    from .retriever import opened

    with progress_bar() as progress:
        progress.add_task("exporting", total=None)
        found = opened(index)
        written = write(found, output, format, name=name)
        found.close()
    typer.echo(f"{output}: {counted(written, 'passage')}, {output.stat().st_size / 1e6:,.1f} MB")


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Folder or hub name of a model: say how it runs, and why."),
    ] = None,
    index: Existing = None,
    environment: Annotated[
        bool,
        typer.Option("--environment", help="Show the device and kernels in use, as without any index."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how MODEL runs; or the size, sources and model of an index; or the device and kernels in use."""
    from .discovery import find_index, open_index

    if model is not None:
        _show_model(model, as_json)
        return
    if environment or (index is None and find_index() is None):
        _show_environment(as_json)
        return
    from flatcoat.indexing.store.sources import Reading, place

    retriever = open_index(index)
    stats = retriever.info()
    sources: list[tuple[str, Reading]]
    if retriever.collection:
        contract = retriever.collection.contract
        sources = [(path, Reading()) for path in retriever.collection.manifest.sources]
    else:
        store, contract = retriever.store, retriever.store.contract
        sources = [(str(place(store.path, source)), source.reading) for source in store.sources()]
    if as_json:
        paths = [path for path, _ in sources]
        reading = {path: reading.to_json() for path, reading in sources}
        values = {"sources": paths, "reading": reading, "contract": contract}
        typer.echo(json.dumps(stats.to_json() | values, indent=2))
        return
    shards = f" in {counted(retriever.collection.manifest.shards, 'shard')}" if retriever.collection else ""
    typer.echo(f"{retriever.path}{shards}: {stats.describe()}")
    for path, reading in sources:
        typer.echo(f"made of: {path}{reading.describe()}")
    typer.echo(f"searched by: {stats.engine if retriever.has_model else 'BM25 alone, made without vectors'}")
    overlap = f", {retriever.overlap} of them of the passage before" if retriever.overlap else ""
    typer.echo(f"passage length: {counted(retriever.passage_tokens, 'token')}{overlap}")
    if retriever.token_pooling > 1:
        typer.echo(f"token pooling: one vector for {retriever.token_pooling} tokens")
    for name, value in (contract["encoder"] or {}).items():
        shown = " ".join(value) if isinstance(value, list) else value
        typer.echo(
            f"{name.replace('_', ' ')}: {shown!r}"
            if name.endswith("prefix")
            else f"{name.replace('_', ' ')}: {shown}"
        )


def _show_model(name: str, as_json: bool) -> None:
    from .encoders.how_it_runs import how_it_runs

    found = how_it_runs(name)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    typer.echo(f"{name}: {found.kind}, {found.backbone}")
    typer.echo(
        f"computed by: {found.computed_by}{f' ({found.why_not_packed})' if found.why_not_packed else ''}"
    )
    typer.echo(f"loaded by: {found.loaded_by}{f' ({found.why_not_read})' if found.why_not_read else ''}")


def _show_environment(as_json: bool) -> None:
    from flatcoat.backbone.environment import environment

    machine = environment()
    if as_json:
        typer.echo(json.dumps(machine.to_json(), indent=2))
        return
    typer.echo(f"flatcoat {machine.flatcoat}, torch {machine.torch}")
    typer.echo(f"device: {machine.device}, {machine.name}, {counted(machine.threads, 'thread')}")
    for precision, kernel in machine.attention.items():
        typer.echo(f"attention in {precision}: {kernel}")
    for kernel, reason in machine.obstacles.items():
        typer.echo(f"  {kernel} {reason}")
    typer.echo(f"elementwise steps: {machine.elementwise}")
    typer.echo(f"fast precisions: {', '.join(machine.fast_precisions)}")
