"""``flatcoat glue``: a ModernBERT fine-tuned on GLUE's tasks, beside the majority answer and the paper."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from .checkpoint import Checkpoint
    from .data import GlueData
    from .fine_tune import Settings
    from .results import Summary, TaskResult
    from .tasks import GlueTask

app = typer.Typer()

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="ModernBERT checkpoint: a folder or hub name. Default: the model shipped with flatcoat.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="GLUE task: cola, sst2, ...; may be repeated. Default: all eight."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="GLUE data: the files of one task, or one folder per task (CoLA, SST-2, ...). Default: "
        "downloaded from the hub.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(min=1, help="Runs per task, with seeds 0, 1, ...; mean and standard deviation are shown."),
]
Sweep = Annotated[
    bool,
    typer.Option("--sweep", help="Search the paper's grid of learning rates and weight decays first."),
]
Mnli = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="CHECKPOINT",
        help="Checkpoint fine-tuned on MNLI, the start for RTE, MRPC and STS-B.",
    ),
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate. Default: the paper's.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Training epochs. Default: the paper's.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Size of a random sample of the training examples. Default: all.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Folder of results: DIR/TASK has result.json and the best checkpoint per seed.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with measures between 0 and 1.")]


@app.command()
def glue(
    model: Model = None,
    task: Tasks = None,
    data: Data = None,
    seeds: Seeds = 1,
    sweep: Sweep = False,
    mnli: Mnli = None,
    lr: Rate = None,
    epochs: Epochs = None,
    limit: Limit = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a ModernBERT on the GLUE tasks and measure it on their development sets."""
    if sweep and lr:
        raise typer.BadParameter("the sweep chooses the learning rate: give one or the other")
    tasks = _chosen(task, mnli)
    from flatcoat.console import progress_bar

    from .checkpoint import Checkpoint

    datasets = [_load(task, data, len(tasks) > 1, limit) for task in tasks]
    start = Checkpoint.open(model or _shipped())
    mnli_start = Checkpoint.open(mnli) if mnli else start
    results: list[TaskResult] = []
    with progress_bar() as progress:
        for dataset in datasets:
            checkpoint = mnli_start if dataset.task.from_mnli else start
            settings = _settings(dataset.task, checkpoint, lr, epochs, sweep)
            results.append(_measure(checkpoint, dataset, settings, seeds, output, progress))
    _show(results, as_json)


def _measure(
    start: "Checkpoint",
    data: "GlueData",
    settings: "Sequence[Settings]",
    seeds: int,
    output: Path | None,
    progress: "Progress",
) -> "TaskResult":
    from .results import measure_task

    folder = output / data.task.hub if output else None
    bar = progress.add_task(data.task.title, total=None)

    def show(step: int, steps: int) -> None:
        progress.update(bar, completed=step, total=steps)

    result = measure_task(start, data, settings=settings, seeds=range(seeds), folder=folder, on_progress=show)
    progress.remove_task(bar)
    return result


def _chosen(names: Sequence[str] | None, mnli: str | None) -> "list[GlueTask]":
    from .tasks import TASKS

    if unknown := sorted(set(names or ()) - set(TASKS)):
        raise typer.BadParameter(f"no task {unknown[0]}: known are {', '.join(TASKS)}", param_hint="--task")
    tasks = [TASKS[name] for name in dict.fromkeys(names or TASKS)]
    if mnli and not any(task.from_mnli for task in tasks):
        raise typer.BadParameter("only rte, mrpc and stsb start from it", param_hint="--from")
    return tasks


def _shipped() -> Path:
    from flatcoat.retrieval.encoders.load import SHIPPED_MODEL

    return SHIPPED_MODEL


def _load(task: "GlueTask", folder: Path | None, several: bool, limit: int | None) -> "GlueData":
    from .data import load_folder, load_hub

    if folder is None:
        data = load_hub(task)
    else:
        below = folder / task.title
        data = load_folder(task, below if several or below.is_dir() else folder)
    return data.sample(limit) if limit else data


def _settings(
    task: "GlueTask", start: "Checkpoint", lr: float | None, epochs: int | None, sweep: bool
) -> "list[Settings]":
    from .results import settings_for, sweep_of

    settings = settings_for(task, start.size, learning_rate=lr, epochs=epochs)
    return sweep_of(settings) if sweep else [settings]


def _show(results: "Sequence[TaskResult]", as_json: bool) -> None:
    from .results import average
    from .tasks import PAPER_AVERAGE

    mean = average(results)
    if as_json:
        paper = {size: round(score / 100, 3) for size, score in PAPER_AVERAGE.items()}
        report = {
            "average": mean,
            "paper_average": paper,
            "tasks": [result.to_json() for result in results],
        }
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_results(results, mean)
    for result in results:
        for notice in result.notices:
            typer.echo(f"{result.task.title}: {notice}", err=as_json)


def _print_results(results: "Sequence[TaskResult]", average: float | None) -> None:
    """Print measures x 100, then the settings of the runs; ``average`` is None without all eight tasks."""
    from flatcoat.console import print_table

    from .tasks import PAPER_AVERAGE

    mean = "" if average is None else f"{100 * average:.1f}"
    paper = [f"{score:.1f}" for score in PAPER_AVERAGE.values()]
    header = ["Task", "Measure", "Best epoch", "Last epoch", "Majority", "Paper base", "Paper large"]
    rows = [row for result in results for row in _rows(result)]
    print_table(header, [*rows, ["GLUE", "Average", mean, "", "", *paper]], words=["Measure"])
    typer.echo(
        "development sets, measures x 100, mean ± standard deviation over seeds; the best epoch is chosen on "
        "these sets, as the paper's early stopping does; majority: one answer to everything"
    )
    for result in results:
        typer.echo(_description(result))


def _rows(result: "TaskResult") -> Iterator[list[str]]:
    from flatcoat.eval.metrics import title_of

    task = result.task
    main = task.measures[0]
    for measure in task.measures:
        paper = [f"{task.base.score:.1f}", f"{task.large.score:.1f}"] if measure == main else ["", ""]
        scores = [_figure(result.summary(measure)), _figure(result.summary(measure, last=True))]
        majority = f"{100 * result.majority[measure]:.1f}"
        yield [task.title if measure == main else "", title_of(measure), *scores, majority, *paper]
    for name in result.runs[0].epochs[0].sets:
        scores = [_figure(result.summary(main, part=name, last=last)) for last in (False, True)]
        yield ["", f"{title_of(main)}, {name}", *scores, "", "", ""]


def _figure(summary: "Summary") -> str:
    spread = "" if summary.spread is None else f" ± {100 * summary.spread:.1f}"
    return f"{100 * summary.mean:.1f}{spread}"


def _description(result: "TaskResult") -> str:
    settings = result.runs[0].settings
    best = ", ".join(str(run.best) for run in result.runs)
    seconds = sum(run.seconds for run in result.runs) / len(result.runs)
    sweep = f", the best of {len(result.sweep)} with seed 0" if result.sweep else ""
    return (
        f"{result.task.title}: {result.train_examples:,} examples of {result.source} on {result.start}, "
        f"learning rate {settings.learning_rate:g}, weight decay {settings.weight_decay:g}{sweep}; "
        f"best epoch {best} of {settings.epochs}; {seconds:.0f} s per run"
    )
