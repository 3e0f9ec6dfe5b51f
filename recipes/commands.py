"""``flatcoat train``, ``flatcoat push`` and ``flatcoat bench train``."""

import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.errors import FlatcoatError, MissingExtraError, NotFoundError, first_line
from flatcoat.eval.bench import commands as bench

if TYPE_CHECKING:
    from .schema import Recipe
    from .sweep import Trial
    from .train_speed import TrainSpeed

app = typer.Typer()

NOT_PUSHED = ("checkpoints/*", "run.json")
"""Files that only resuming needs."""

Named = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a recipe shipped with flatcoat.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the recipe, such as training.batch_size=64; may be repeated.",
    ),
]

Resume = Annotated[bool, typer.Option("--resume", help="Resume the interrupted run in the output folder.")]


@app.command()
def train(
    recipe: Named,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", file_okay=False, help="Folder of the model and checkpoints. Default: runs/NAME."
        ),
    ] = None,
    set_: Changes = None,
    resume: Resume = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="RATES",
            help="Learning-rate sweep, such as 1e-5,3e-5: one run per rate, ranked by score on the dev sets.",
        ),
    ] = None,
) -> None:
    """Train a retriever from RECIPE, on several GPUs under torchrun."""
    # A recipe is checked before anything heavy is loaded.
    loaded = _load(recipe, set_ or ())
    rates = _rates(sweep) if sweep is not None else []
    check_loggers(loaded.training.log_to)
    folder = output or Path("runs") / loaded.name
    if rates:
        from .sweep import sweep as run_sweep

        with resumable(folder), _progress() as on_step:
            trials = run_sweep(loaded, rates, output=folder, on_step=on_step, resume=resume)
        if is_main_process():
            _show_trials(trials)
        return
    from .run import run

    with resumable(folder), _progress() as on_step:
        log = run(loaded, folder, on_step=on_step, resume=resume)
    last = f", last logged loss {log.losses[-1].value:.3f}" if log.losses else ""
    if is_main_process():
        typer.echo(f"{folder}: {log.steps:,} steps in {log.seconds / 60:.1f} minutes{last}")
        typer.echo(f"flatcoat index PATHS --model {folder} indexes with it, flatcoat eval measures it")


@app.command()
def push(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", exists=True, file_okay=False, help="Folder of a finished training run."
        ),
    ],
    repo: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Hugging Face hub repository; created if new.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
) -> None:
    """Upload a trained model with its model card to the Hugging Face hub."""

    typer.echo(push_folder(folder, repo, private=private))


@bench.app.command("train")
def bench_train(
    recipe: Named,
    set_: Changes = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed training steps per pass.")] = 5,
    passes: bench.Passes = 3,
    as_json: bench.AsJson = False,
) -> None:
    """Time training steps of RECIPE with flatcoat's unpadded backbone and with transformers' padded one."""
    from flatcoat.console import progress_bar
    from flatcoat.eval.bench.encode import describe_machine

    from .train_speed import bench_training

    loaded = _load(recipe, set_ or ())
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)
        rows = bench_training(
            loaded, steps, passes=passes, on_progress=lambda what: progress.update(task, description=what)
        )
    if as_json:
        report = {
            "machine": describe_machine(),
            "recipe": loaded.name,
            "rows": [row.to_json() for row in rows],
        }
        typer.echo(json.dumps(report, indent=2))
        return
    _show_speeds(rows)
    typer.echo(
        f"{loaded.name}, steps of {loaded.training.batch_size} rows, median pass; {describe_machine()}"
    )


def _load(name: str, overrides: Sequence[str]) -> "Recipe":
    from .schema import Recipe

    try:
        return Recipe.load(find_recipe(name), overrides)
    except FlatcoatError as error:
        raise typer.BadParameter(str(error), param_hint="RECIPE") from None


def _show_speeds(rows: "Sequence[TrainSpeed]") -> None:
    from flatcoat.console import print_table

    print_table(
        ["Implementation", "Steps/s", "Ours is", "Peak GiB", "Loss"],
        [
            [
                row.implementation,
                f"{row.steps_per_second:.3g}",
                f"{1 / row.ratio_to_ours:.2f}x",
                f"{row.peak_bytes / 2**30:.2f}",
                f"{row.loss:.4f}",
            ]
            for row in rows
        ],
    )


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or min(rates) <= 0:
        raise typer.BadParameter(f"{text!r}: positive numbers with commas between", param_hint="--sweep")
    return rates


def check_loggers(names: Sequence[str]) -> None:
    """Raise MissingExtraError for a logger that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"training.log_to names {name}, which is not installed: pip install {name}"
            )


def is_main_process() -> bool:
    """Whether this is the process of a run that reports, the first under torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Say of an interrupted run how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if is_main_process():
            typer.echo(f"interrupted: the same command with --resume goes on with {folder}", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar of training steps, drawn by the first process only."""
    if not is_main_process():
        yield lambda step, steps, loss: None
        return
    from flatcoat.console import progress_bar

    with progress_bar() as progress:
        task = progress.add_task("reading the data", total=None)

        def show(step: int, steps: int, loss: float) -> None:
            logged = "" if math.isnan(loss) else f", loss {loss:.3f}"
            progress.update(task, completed=step, total=steps, description=f"training{logged}: step")

        yield show


def _show_trials(trials: "Sequence[Trial]") -> None:
    from flatcoat.console import print_table

    print_table(
        ["Learning rate", "Best step", *trials[0].scores, "Folder"],
        [
            [
                f"{trial.learning_rate:g}",
                f"{trial.step:,}",
                *(f"{100 * score:.1f}" for score in trial.scores.values()),
                trial.folder,
            ]
            for trial in trials
        ],
        words={"Folder"},
    )


def find_recipe(name: str) -> Path:
    """The file ``name``, or the shipped recipe of that name; NotFoundError lists the shipped recipes.

    >>> find_recipe("squad-dense").name
    'squad-dense.yaml'
    """
    if os.path.exists(name):  # noqa: PTH110 - False for impossible paths, too
        return Path(name)
    shipped = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
    if name.removesuffix(".yaml") in shipped:
        return shipped[name.removesuffix(".yaml")]
    raise NotFoundError(f"no recipe {name}: give a file, or one of {', '.join(shipped)}")


def push_folder(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a run's model, card, recipe and results to a hub repository; its URL. A new one is created.

    Raises NotFoundError for a folder without a finished run, and FlatcoatError if the hub refuses or cannot
    be reached.
    """
    from .record import is_finished

    if not is_finished(folder):
        raise NotFoundError(f"{folder} holds no finished run: train it first, or --resume it")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            ignore_patterns=list(NOT_PUSHED),
            commit_message=f"Upload {folder.resolve().name}, trained with flatcoat",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FlatcoatError(
            f"{repo} cannot be pushed: {first_line(error)} (log in with `hf auth login`)"
        ) from error
    return str(address)
