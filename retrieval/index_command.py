"""``flatcoat index``."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flatcoat.console import AsJson, NewIndex, counted
from flatcoat.errors import FlatcoatError
from flatcoat.indexing.store.engines import AUTO, EngineSettings
from flatcoat.retrieval.encoders.contract import Precision

from .index_options import (
    Bits,
    ColumnNames,
    Encoding,
    Engine,
    Exclude,
    Factory,
    Hidden,
    Include,
    InPrecision,
    Model,
    Overlap,
    PassageTokens,
    Ray,
    Roots,
    Shards,
    TokenPooling,
    Watch,
    WithVectors,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from flatcoat.indexing.reading.columns import Columns
    from flatcoat.indexing.store.stats import Stats

    from .ingest import Added
    from .retriever import Retriever


def index(
    paths: Roots = None,
    index: NewIndex = None,
    model: Model = None,
    vectors: WithVectors = None,
    passage_tokens: PassageTokens = None,
    overlap: Overlap = None,
    token_pooling: TokenPooling = None,
    precision: InPrecision = None,
    engine: Engine = None,
    bits: Bits = 4,
    factory: Factory = "HNSW32",
    shards: Shards = None,
    ray: Ray = None,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = None,
    columns: ColumnNames = None,
    encoding: Encoding = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Create an index of PATHs, or update it: only new and changed files are read and encoded.

    A text is found once it is stored, before its vectors are; an interrupted command goes on when run again.
    """
    from .discovery import target_of

    settings = None if engine is None else EngineSettings(engine, bits, factory=factory)
    is_found = index is None
    target, roots = target_of(index if index is None or "://" in index else Path(index), paths or ())
    new = not _is_index(target)
    _check(roots, new)
    if isinstance(target, Path) and is_found:
        _enter(target, new)
    try:
        retriever = _open_or_create(
            target,
            model,
            vectors=vectors,
            passage_tokens=passage_tokens,
            overlap=overlap,
            token_pooling=token_pooling,
            precision=precision,
            engine=settings,
            shards=shards,
        )
    except FlatcoatError:
        if new and is_found:
            shutil.rmtree(target, ignore_errors=True)
        raise
    if watch and retriever.collection:
        raise typer.BadParameter("a collection of shards is built, not watched: run the command again")

    def sync(on_progress: "Callable[[Added], None]") -> "Added":
        named = _columns(columns) if columns else None
        return retriever.add_files(
            *roots,
            include=include,
            exclude=exclude,
            hidden=hidden,
            columns=named,
            encoding=encoding,
            ray=ray,
            on_progress=on_progress,
        )

    try:
        _run(sync, retriever, as_json)
        if watch:
            _follow(sync, retriever, as_json)
    except FlatcoatError:
        # An index without documents would only fix the model of the next attempt.
        if new and isinstance(target, Path) and not retriever.info().documents:
            retriever.close()
            shutil.rmtree(target, ignore_errors=True)
        raise


def _is_index(path: Path | str) -> bool:
    from flatcoat.indexing.collection.folder import folder_at
    from flatcoat.indexing.collection.manifest import is_manifest

    try:
        if isinstance(path, Path) and (path / "index.sqlite").exists():
            return True
        return any(map(is_manifest, folder_at(path).names()))
    except OSError as error:
        raise typer.BadParameter(f"{str(path)[:80]!r}: {error.strerror}", param_hint="--index") from None


def _enter(index: Path, new: bool) -> None:
    """Make the folder of a new index that nobody named, or make sure that an old one is of its folder."""
    from flatcoat.indexing.store.store import Store

    from .discovery import make_folder, take_over

    if new:
        make_folder(index)
        return
    with Store.open(index) as store:
        if moved := take_over(store):
            typer.echo(moved, err=True)


def _check(paths: Sequence[str | Path], new: bool) -> None:
    from .sync import existing_root

    if new and not paths:
        raise typer.BadParameter("name what a new index is to be made of", param_hint="PATH")
    try:
        for path in paths:
            existing_root(path)
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="PATH") from None


def _run(sync: "Callable[[Callable[[Added], None]], Added]", retriever: "Retriever", as_json: bool) -> None:
    from rich.console import Console

    from flatcoat.console import progress_bar

    began = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("comparing files", total=None)

        def report(added: "Added") -> None:
            if added.encoded or added.waiting:
                _report_encoding(progress, task, added)
                return
            rate = added.bytes / 1e6 / (time.monotonic() - began)
            done = f"{counted(added.documents, 'document')}, {counted(added.passages, 'passage')}"
            progress.update(task, description=f"read {done}, {rate:.2f} MB/s")

        try:
            added = sync(report)
        except KeyboardInterrupt:
            safe = f"{retriever.path} holds {retriever.info().describe()} so far"
            typer.echo(f"interrupted: {safe}: the same command goes on", err=True)
            raise typer.Exit(130) from None
    _show(added, retriever.info(), retriever.path, time.monotonic() - began, as_json, Console())


def _report_encoding(progress: "Progress", task: "TaskID", added: "Added") -> None:
    from .ingest import BATCH

    total = added.encoded + added.waiting
    if not added.encoded and total > BATCH:
        typer.echo(f"searches have answers by BM25 now; vectors of {total:,} passages follow", err=True)
    progress.update(task, description="encoding passages", completed=added.encoded, total=total)


def _follow(
    sync: "Callable[[Callable[[Added], None]], Added]", retriever: "Retriever", as_json: bool
) -> None:
    from .sync import changes, watched_places

    roots = watched_places(retriever.store)
    typer.echo(f"watching {', '.join(map(str, roots))}; Ctrl-C ends it", err=True)
    for _ in changes(roots, retriever.store.path):
        try:
            _run(sync, retriever, as_json)
        except FlatcoatError as error:  # A folder may be empty for a moment, another process may write.
            typer.echo(f"error: {error}", err=True)


def _open_or_create(
    index: Path | str,
    model: str | None,
    *,
    vectors: bool | None,
    passage_tokens: int | None,
    overlap: int | None,
    token_pooling: int | None,
    precision: Precision | None,
    engine: EngineSettings | None,
    shards: int | None,
) -> "Retriever":
    """A new index, or the one that an earlier run of the same command began; other options are refused."""
    from flatcoat.retrieval.encoders.load import SHIPPED_NAME

    from .retriever import Retriever

    if not _is_index(index):
        if vectors is False and (model or precision):
            raise typer.BadParameter("an index without vectors has no model and no precision")
        return Retriever.create(
            index,
            None if vectors is False else model or SHIPPED_NAME,
            passage_tokens=passage_tokens,
            precision=precision,
            index=engine or AUTO,
            overlap=overlap or 0,
            shards=shards,
            token_pooling=token_pooling or 1,
        )
    retriever = _with_model(index, model, vectors, precision)
    options: tuple[tuple[str, Any, Any], ...] = (
        ("passage length", passage_tokens, retriever.passage_tokens),
        ("overlap", overlap, retriever.overlap),
        ("token pooling", token_pooling, retriever.token_pooling),
        ("engine", engine, retriever.engine),
        ("number of shards", shards, retriever.collection.manifest.shards if retriever.collection else 1),
        ("precision", precision, retriever.contract.precision if retriever.has_model else "that of none"),
    )
    for name, option, stored in options:
        if option not in (None, stored):
            shown = stored.name if isinstance(stored, EngineSettings) else stored
            raise typer.BadParameter(f"{index} exists: its {name} stays {shown}")
    return retriever


def _with_model(
    index: Path | str, model: str | None, vectors: bool | None, precision: Precision | None
) -> "Retriever":
    """An index that exists; one that was made without vectors gets a model where they are wanted now."""
    from flatcoat.retrieval.encoders.load import SHIPPED_NAME

    from .retriever import Retriever

    retriever = Retriever.open(index)
    if retriever.has_model:
        if vectors is False:
            raise typer.BadParameter(f"{index} has a model: --no-vectors is for new indexes")
        return Retriever.open(index, model) if model else retriever
    if vectors:
        retriever.add_model(model or SHIPPED_NAME, precision=precision)
    elif model:
        raise typer.BadParameter(f"{index} was made without vectors: --vectors adds them by the model")
    return retriever


def _columns(text: str) -> "Columns":
    from flatcoat.indexing.reading.columns import Columns

    named: dict[str, str] = {}
    for pair in text.split(","):
        key, _, column = pair.partition("=")
        if key not in ("text", "id", "title") or not column:
            raise typer.BadParameter(f"{pair}: write text=A+B,id=C,title=D", param_hint="--columns")
        named[key] = column
    return Columns(named.get("id"), tuple(named.get("text", "text").split("+")), named.get("title"))


def _show(
    added: "Added", stats: "Stats", index: Path | str, seconds: float, as_json: bool, console: "Console"
) -> None:
    counts = {name: getattr(added, name) for name in ("unchanged", "renamed", "removed")}
    if as_json:
        skips = [{"path": skip.path, "reason": skip.reason} for skip in added.skipped]
        summary = {"found": added.found, "added": added.documents, **counts, "skipped": skips}
        summary["encoded"] = added.encoded
        typer.echo(json.dumps(summary | stats.to_json() | {"seconds": round(seconds, 2)}, indent=2))
        return
    done = [f"{counted(added.documents, 'document')} indexed ({counted(added.passages, 'passage')})"]
    done.append(f"{added.unchanged:,} unchanged")
    done += [f"{added.renamed:,} renamed"] if added.renamed else []
    done.append(f"{len(added.skipped):,} skipped")
    removed = f"; {added.removed:,} removed" if added.removed else ""
    text = f"{index}: {added.found:,} found: {', '.join(done)}{removed}, in {seconds:.1f} s"
    console.print(text, highlight=False, soft_wrap=True)
    for reason, count in Counter(skip.reason for skip in added.skipped).most_common():
        example = next(skip.path for skip in added.skipped if skip.reason == reason)
        console.print(
            f"  skipped {count:,}: {reason}, as {example}",
            style="dim",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(f"holds {stats.describe()}", highlight=False)
