"""Commands on an index: ``flatcoat remove``, ``forget``, ``compact``, ``verify``, ``export`` and ``info``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from flatcoat.console import AsJson, Existing, counted

from . import index_command, search_command

app = typer.Typer()

app.command()(index_command.index)
app.command()(search_command.search)


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
