"""``flatcoat check``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.console import counted
from flatcoat.retrieval.results import Mode

if TYPE_CHECKING:
    from .queries import CheckQuery
    from .record import CheckRecord

app = typer.Typer()

Index = Annotated[
    Path | None,
    typer.Argument(
        metavar="INDEX",
        file_okay=False,
        help="Folder of the index. Default: .flatcoat of this folder or of one above it in its repository.",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help='Queries with their answers, JSONL or Parquet: {"query": "…", "document": "id"}, one row per '
        "answer. Default: drawn from the documents.",
    ),
]
Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Queries to draw.")]
Seed = Annotated[int, typer.Option(help="Seed of the draw.")]
RankBy = Annotated[
    Mode | None,
    typer.Option(help="Mode of the search. Default: hybrid, bm25 for an index without a model."),
]
Recall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Target recall to search with, for PLAID indexes."),
]
EncodeAgain = Annotated[
    bool,
    typer.Option(
        "--encode-again",
        help="Encode all passages again for exact search, so that what the bits of PLAID lose counts too.",
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Encoder: a checkpoint folder or hub name. Default: that of the index.")
]
Output = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write the record of this check (JSON).")
]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Record of an earlier check: ask its queries again, and exit with 1 where the index is "
        "significantly worse.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with measures between 0 and 1.")]


@app.command("check")
def check_index(
    index: Index = None,
    queries: Queries = None,
    number: Number = 100,
    seed: Seed = 0,
    mode: RankBy = None,
    recall: Recall = None,
    encode_again: EncodeAgain = False,
    model: Model = None,
    output: Output = None,
    against: Against = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well an index answers, on queries drawn from its own documents or from a file.

    Queries are docstrings, headings and first sentences, each with its document as the answer; their own
    text is cut out of a copy of the index before it is searched. Shown are nDCG@10 and the recall of the
    engine against exact search, with 95 % intervals over queries.

    flatcoat check --output before.json

    flatcoat check other.index --against before.json
    """
    from flatcoat.console import progress_bar
    from flatcoat.retrieval.discovery import required_index

    from . import report
    from .check import CheckSettings, check
    from .comparison import compare
    from .record import read_record

    if against and queries:
        raise typer.BadParameter("--against asks the queries of that record: leave out --queries")
    index = index or required_index()
    earlier = read_record(against) if against else None
    settings = CheckSettings(mode=mode, recall=recall, encode_again=encode_again)
    with progress_bar() as progress:
        task = progress.add_task("choosing queries", total=None)
        asked = _queries(index, earlier, queries, number=number, seed=seed)
        progress.update(task, description=f"asking {counted(len(asked), 'query', 'queries')}")

        def show(done: int, total: int) -> None:
            progress.update(task, description="exact search", completed=done, total=total)

        record = check(index, asked, model=model, settings=settings, on_progress=show)
    if output:
        record.write(output)
    comparison = compare(record, earlier) if earlier else None
    report.show(record, comparison, title=str(index), as_json=as_json)
    if comparison and comparison.worse:
        raise typer.Exit(1)


def _queries(
    index: Path, earlier: "CheckRecord | None", file: Path | None, *, number: int, seed: int
) -> "Sequence[CheckQuery]":
    from flatcoat.errors import DataError
    from flatcoat.indexing.store.store import Store

    from .queries import draw_queries, read_queries, still_answerable

    with Store.open(index) as store:
        if earlier is None:
            return read_queries(file, store) if file else draw_queries(store, number, seed=seed)
        kept = still_answerable(earlier.queries, store)
    if not kept:
        raise DataError(
            f"index {index} holds no document that the earlier queries ask for, such as "
            f"{earlier.queries[0].documents[0]!r}: both indexes must be of the same documents, read from the "
            "same folder"
        )
    return kept
