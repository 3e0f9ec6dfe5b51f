"""``flatcoat pretrain``, ``flatcoat tokenizer`` and ``flatcoat bench pretrain``."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatcoat.console import AsJson
from flatcoat.errors import FlatcoatError
from flatcoat.eval.bench import commands as bench

from .commands import Changes, Named, Resume, find_recipe, is_main_process, resumable

if TYPE_CHECKING:
    from flatcoat.backbone.pretraining.phases import PhaseResult

    from .pretraining import PretrainingRecipe

app = typer.Typer()
tokenizer_app = typer.Typer(no_args_is_help=True, help="Train tokenizers and compare them.")

Texts = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES...", help="Text files, JSONL (.jsonl, .jsonl.gz) or Parquet; quoted patterns too."
    ),
]
Column = Annotated[str, typer.Option("--text", metavar="COLUMN", help="Column of the text in rows.")]
_UNSEEN = 1_000  # documents that tokenizers are compared on


@app.command()
def pretrain(
    recipe: Named,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", file_okay=False, help="Folder of the model and its states. Default: runs/NAME."
        ),
    ] = None,
    set_: Changes = None,
    resume: Resume = False,
) -> None:
    """Pretrain a ModernBERT as RECIPE says, on several GPUs under torchrun."""
    # A recipe is checked before anything heavy is loaded.
    loaded = _load(recipe, set_ or [])
    from flatcoat.backbone.pretraining.run import pretrain as run
    from flatcoat.backbone.pretraining.watch import check_loggers

    check_loggers(loaded.watching.log_to)
    folder = output or Path("runs") / loaded.name
    with resumable(folder), _progress(loaded) as (on_step, on_progress):
        results = run(loaded.settings, folder, on_step=on_step, on_progress=on_progress, resume=resume)
    if is_main_process():
        _show(results)
        typer.echo(f"{folder}: the checkpoint, its curves in curves.png")


@tokenizer_app.command("train")
def train_tokenizer(
    files: Texts,
    output: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="Folder of the tokenizer: missing or empty.")
    ],
    vocab_size: Annotated[
        int, typer.Option(min=384, help="Entries of all kinds, a multiple of 64.")
    ] = 50_368,
    unused: Annotated[int, typer.Option(min=0, help="Entries left for later use.")] = 83,
    text: Column = "text",
) -> None:
    """Train a byte-level BPE tokenizer on FILES; the same files give the same bytes."""
    from flatcoat.atomic_files import atomic_write
    from flatcoat.backbone.pretraining.tokenizer import train_byte_level_bpe
    from flatcoat.console import progress_bar
    from flatcoat.errors import ConflictError, UsageError

    if vocab_size % 64:
        raise UsageError(f"--vocab-size is {vocab_size}: a multiple of 64 is wanted")
    if output.exists() and any(output.iterdir()):
        raise ConflictError(f"{output} exists and is not empty: name another --output")
    with progress_bar() as progress:
        progress.add_task("training the tokenizer", total=None)
        tokenizer = train_byte_level_bpe(_texts(files, text), vocab_size, unused=unused)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as unfinished:
        tokenizer.save_pretrained(str(unfinished))
    typer.echo(f"{output}: {len(tokenizer):,} entries")


@tokenizer_app.command("compare")
def compare_tokenizers(
    tokenizers: Annotated[
        list[str], typer.Argument(metavar="TOKENIZERS...", help="Folders or hub names of tokenizers.")
    ],
    on: Annotated[
        list[str],
        typer.Option("--on", metavar="FILES", help="Text or code to compare on; may be repeated."),
    ],
    text: Column = "text",
    as_json: AsJson = False,
) -> None:
    """Fertility of TOKENIZERS side by side: tokens per word and bytes per token."""
    from itertools import islice

    from flatcoat.backbone.pretraining.start import load_tokenizer
    from flatcoat.backbone.pretraining.tokenizer import fertility
    from flatcoat.console import print_table

    samples = {name: list(islice(_texts([name], text), _UNSEEN)) for name in on}
    rows = []
    for name in tokenizers:
        tokenizer = load_tokenizer(name)
        for sample, texts in samples.items():
            rows.append((name, len(tokenizer), sample, fertility(tokenizer, texts)))
    if as_json:
        keys = ("tokenizer", "entries", "text")
        typer.echo(
            json.dumps([dict(zip(keys, row[:3], strict=True)) | row[3]._asdict() for row in rows], indent=2)
        )
        return
    print_table(
        ["Tokenizer", "Entries", "Text", "Tokens per word", "Bytes per token", "Unknown"],
        [
            [name, f"{entries:,}", sample, f"{cut.tokens_per_word:.3f}", f"{cut.bytes_per_token:.2f}",
             f"{cut.unknown:.2%}"]
            for name, entries, sample, cut in rows
        ],
        words=["Text"],
    )  # fmt: skip


@bench.app.command("pretrain")
def bench_pretrain(
    recipe: Named,
    set_: Changes = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed training steps per pass.")] = 5,
    passes: bench.Passes = 3,
    as_json: bench.AsJson = False,
) -> None:
    """Time pretraining steps of RECIPE here and in transformers' Trainer with a padding collator."""
    from flatcoat.console import print_table, progress_bar
    from flatcoat.eval.bench.encode import describe_machine

    from .pretraining_speed import bench_pretraining

    loaded = _load(recipe, set_ or [])
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)
        rows = bench_pretraining(
            loaded, steps, passes=passes, on_progress=lambda what: progress.update(task, description=what)
        )
    if as_json:
        report = {"machine": describe_machine(), "recipe": loaded.name}
        typer.echo(json.dumps(report | {"rows": [row.to_json() for row in rows]}, indent=2))
        return
    print_table(
        ["Implementation", "Tokens/s", "Ours is", "MFU", "Padding"],
        [
            [
                row.implementation,
                f"{row.tokens_per_second:,.0f}",
                f"{1 / row.ratio_to_ours:.2f}x",
                f"{row.mfu:.1%}",
                f"{row.padding:.1%}",
            ]
            for row in rows
        ],
    )
    typer.echo(f"{loaded.name}, first phase, median pass; {describe_machine()}")


def _texts(patterns: list[str], column: str) -> Iterator[str]:
    from flatcoat.backbone.pretraining.settings import TextSource
    from flatcoat.backbone.pretraining.texts import read_texts

    for pattern in patterns:
        kind = next(
            (kind for kind in ("jsonl", "parquet") if f".{kind}" in Path(pattern).name.lower()), "files"
        )
        yield from read_texts(TextSource.model_validate({kind: (pattern,), "text": column}), Path())


def _load(name: str, overrides: list[str]) -> "PretrainingRecipe":
    from .pretraining import PretrainingRecipe

    try:
        return PretrainingRecipe.load(find_recipe(name), overrides)
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="RECIPE") from None


@contextmanager
def _progress(
    recipe: "PretrainingRecipe",
) -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[str], None]]]:
    """A progress bar of tokens with the figures of the last steps, drawn by the first process only."""
    if not is_main_process():
        yield (lambda figures: None), (lambda what: None)
        return
    from flatcoat.backbone.pretraining.watch import status_line
    from flatcoat.console import progress_bar

    total = sum(phase.tokens for phase in recipe.phases)
    with progress_bar() as progress:
        task = progress.add_task("reading the text", total=None)

        def show(figures: dict[str, Any]) -> None:
            if figures["kind"] == "training":
                line = status_line(figures)
                progress.update(task, completed=figures["tokens"], total=total, description=line)

        yield show, lambda what: progress.update(task, description=what)


def _show(results: "list[PhaseResult]") -> None:
    from flatcoat.console import print_table

    scores = [("Held-back accuracy", "masked_accuracy", "{:.1%}"), ("Perplexity", "perplexity", "{:.2f}")]
    if any("detection_accuracy" in result.held_back for result in results):
        # Masks are filled by the generator, which is not saved.
        scores = [("Detection accuracy", "detection_accuracy", "{:.1%}"), ("Replaced", "replaced", "{:.1%}")]
    print_table(
        ["Phase", "Steps", "Tokens", "Full", "Tokens/s", *(title for title, _, _ in scores)],
        [
            [
                result.name,
                f"{result.steps:,}",
                f"{result.tokens:,}",
                f"{result.packing:.2%}",
                f"{result.tokens / max(result.seconds, 1e-9):,.0f}",
                *(form.format(held[key]) if key in held else "" for _, key, form in scores),
            ]
            for result in results
            for held in [result.held_back]
        ],
    )
