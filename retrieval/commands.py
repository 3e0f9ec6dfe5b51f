"""``flatcoat index``, ``search``, ``remove`` and ``info``."""

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import FlatcoatError
from ..indexing.engines import AUTO, EngineSettings
from ..indexing.engines import Name as EngineName
from .contract import Precision

if TYPE_CHECKING:
    from .retriever import Added, Retriever

app = typer.Typer()

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


@app.command()
def index(
    path: Annotated[
        Path, typer.Argument(exists=True, help="A folder, a file, a .jsonl file or a BEIR folder.")
    ],
    index: IndexFolder,
    model: Model = None,
    passage_tokens: Annotated[
        int | None, typer.Option(min=16, help="Tokens of a passage at most, for a new index.")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="What a ModernBERT computes in, for a new index; int8 on a CPU. Default there: fp32."
        ),
    ] = None,
    engine: Annotated[
        EngineName | None,
        typer.Option(help="What searches a new index. Default: auto, exact while that is as fast."),
    ] = None,
    bits: Annotated[int, typer.Option(help="1, 2 or 4 a dimension, of a new index that PLAID searches.")] = 4,
    factory: Annotated[
        str, typer.Option(help="What faiss.index_factory takes, for a new index that FAISS searches.")
    ] = "HNSW32",
    as_json: AsJson = False,
) -> None:
    """Make an index of PATH, or bring one up to date: unchanged files are not encoded again."""
    from rich.console import Console

    from .console import progress_bar

    began = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("loading the model", total=None)
        new = not (index / "index.sqlite").exists()
        settings = None if engine is None else EngineSettings(engine, bits, factory=factory)
        retriever = _open_or_create(index, model, passage_tokens, precision, settings)

        def report(added: "Added") -> None:
            done = f"{added.documents:,} documents, {added.passages:,} passages"
            progress.update(task, description=f"indexed {done}")

        progress.update(task, description=f"reading {path}")
        try:
            added = retriever.add_files(path, report)
        except KeyboardInterrupt:
            held = retriever.info().documents
            typer.echo(
                f"interrupted: {held:,} documents are safe in {index}; the same command goes on from there",
                err=True,
            )
            raise typer.Exit(130) from None
        except FlatcoatError:
            # An index that never held anything would only pin its model and be in the way.
            if new and not retriever.info().documents:
                retriever.close()
                shutil.rmtree(index)
            raise
    _report_added(retriever, added, index, time.monotonic() - began, as_json, Console())


def _open_or_create(
    index: Path,
    model: str | None,
    passage_tokens: int | None,
    precision: Precision | None,
    engine: EngineSettings | None,
) -> "Retriever":
    """What a new index was made with, the same command may say again: it goes on where it was cut off."""
    from .retriever import Retriever

    if not (index / "index.sqlite").exists():
        return Retriever.create(index, model, passage_tokens, precision, engine or AUTO)
    retriever = Retriever.open(index, model)
    if passage_tokens not in (None, retriever.passage_tokens):
        raise typer.BadParameter(
            f"{index} exists: its passage length stays {retriever.passage_tokens}",
            param_hint="--passage-tokens",
        )
    if engine not in (None, retriever.store.engine):
        raise typer.BadParameter(
            f"{index} exists: its engine stays {retriever.store.engine.name}", param_hint="--engine"
        )
    if precision not in (None, retriever.contract.precision):
        raise typer.BadParameter(
            f"{index} exists: its precision stays {retriever.contract.precision}", param_hint="--precision"
        )
    return retriever


def _report_added(retriever, added: "Added", index: Path, seconds: float, as_json: bool, console) -> None:
    stats = retriever.info()
    if as_json:
        skips = [{"path": skip.path, "reason": skip.reason} for skip in added.skipped]
        summary = {"added": added.documents, "unchanged": added.unchanged, "skipped": skips}
        typer.echo(json.dumps(summary | _stats_json(stats) | {"seconds": round(seconds, 2)}, indent=2))
        return
    console.print(
        f"{index}: {added.documents:,} documents indexed ({added.passages:,} passages), {added.unchanged:,} "
        f"unchanged, {len(added.skipped):,} skipped, in {seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    for reason, count in Counter(skip.reason for skip in added.skipped).most_common():
        example = next(skip.path for skip in added.skipped if skip.reason == reason)
        console.print(
            f"  skipped {count:,}: {reason}, as {example}", style="dim", highlight=False, markup=False
        )
    console.print(f"holds {_size(stats)}", highlight=False)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    index: Existing,
    k: Annotated[int, typer.Option("-k", min=1, help="Results.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE", help="A condition (=, !=, <, <=, >, >=, ^=, in); may be repeated."
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the best to be found, if not all passages are scored."),
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer QUERY."""
    from rich.console import Console

    from ..indexing.filters import parse_condition
    from .console import progress_bar, show_result
    from .retriever import Retriever

    if not query.strip():
        raise typer.BadParameter("the query is empty: say what to look for", param_hint="QUERY")
    try:
        conditions = [parse_condition(text) for text in where or ()]
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None
    with progress_bar() as progress:
        progress.add_task("searching", total=None)
        results = Retriever.open(index, model).search(query, k, conditions, recall)
    if as_json:
        values = {"query": query, "results": [result.to_json() for result in results]}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    console = Console()
    for result in results:
        console.print(show_result(result, query), soft_wrap=True)
    if not results:
        console.print("nothing found" + (" that meets the conditions" if conditions else ""))


@app.command()
def remove(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Documents as search names them.")],
    index: Existing,
) -> None:
    """Remove documents from an index."""
    from .retriever import Retriever

    removed = Retriever.open(index).remove(ids)
    typer.echo(f"{removed:,} of {len(ids):,} documents removed")


@app.command()
def compact(index: Existing) -> None:
    """Merge what additions and removals left behind, and train the index anew where it has grown."""
    from .console import progress_bar
    from .retriever import Retriever

    with progress_bar() as progress:
        progress.add_task("compacting", total=None)
        retriever = Retriever.open(index)
        before = retriever.info()
        retriever.compact()
    after = retriever.info()
    typer.echo(
        f"{before.segments:,} segments, {before.bytes / 1e6:,.1f} MB before; "
        f"{after.segments:,} segments, {after.bytes / 1e6:,.1f} MB, searched by {after.engine}"
    )


@app.command()
def verify(index: Existing) -> None:
    """Check every checksum and cross-reference of an index; exit code 1 where one is wrong."""
    from ..indexing.store import Store
    from .console import progress_bar

    with progress_bar() as progress:
        progress.add_task("verifying", total=None)
        with Store.open(index) as store:
            problems = store.verify()
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{index} is whole")


@app.command()
def info(
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", file_okay=False, exists=True, help="An index's folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds and which model made it; without --index, what computes on this machine."""
    if index is None:
        _show_environment(as_json)
        return
    from .retriever import Retriever

    retriever = Retriever.open(index)
    stats, contract = retriever.info(), retriever.store.contract
    if as_json:
        typer.echo(json.dumps(_stats_json(stats) | {"contract": contract}, indent=2))
        return
    typer.echo(f"{index}: {_size(stats)}")
    typer.echo(f"searched by: {stats.engine}")
    typer.echo(f"passage length: {contract['passage_tokens']} tokens")
    for name, value in contract["encoder"].items():
        shown = " ".join(value) if isinstance(value, list) else value
        typer.echo(
            f"{name.replace('_', ' ')}: {shown!r}"
            if name.endswith("prefix")
            else f"{name.replace('_', ' ')}: {shown}"
        )


def _show_environment(as_json: bool) -> None:
    from ..backbone.environment import environment

    found = environment()
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    typer.echo(f"flatcoat {found.flatcoat}, torch {found.torch}")
    typer.echo(f"device: {found.device}, {found.name}, {found.threads} threads")
    for precision, kernel in found.attention.items():
        typer.echo(f"attention in {precision}: {kernel}")
    for kernel, reason in found.obstacles.items():
        typer.echo(f"  {kernel} {reason}")
    typer.echo(f"elementwise steps: {found.elementwise}")
    typer.echo(f"fast precisions: {', '.join(found.fast_precisions)}")


def _stats_json(stats) -> dict[str, object]:
    names = ("documents", "passages", "vectors", "segments", "bytes", "engine")
    return {name: getattr(stats, name) for name in names}


def _size(stats) -> str:
    return (
        f"{stats.documents:,} documents, {stats.passages:,} passages, {stats.vectors:,} vectors, "
        f"{stats.bytes / 1e6:,.1f} MB"
    )
