"""``flatcoat glue``: a ModernBERT fine-tuned on GLUE's tasks, beside the majority answer and the paper."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import TaskID

    from .glue import TaskResult
    from .glue_data import GlueData
    from .glue_start import Start
    from .glue_tasks import GlueTask
    from .glue_training import Settings

Model = Annotated[
    str | None, typer.Argument(help="A ModernBERT's folder or hub name. Default: the model inside flatcoat.")
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", help="cola, sst2, ...; may be repeated. Default: all eight.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="A task's files, or GLUE's folder of folders (CoLA, SST-2, ...). Default: the hub.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Runs a task, seeds 0, 1, ...; mean and spread are shown.")]
Sweep = Annotated[
    bool, typer.Option("--sweep", help="First choose among the paper's learning rates and weight decays.")
]
Mnli = Annotated[
    str | None,
    typer.Option("--from", metavar="CHECKPOINT", help="Fine-tuned on MNLI: RTE, MRPC and STS-B start there."),
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate. Default: the paper's.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Default: the paper's.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Train on so many examples, drawn by chance.")]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", file_okay=False, help="Write result.json and each seed's best checkpoint to DIR/TASK."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, measures as fractions of 1.")]


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
    """Fine-tune a ModernBERT on GLUE's tasks and score it on their development sets."""
    if sweep and lr:
        raise typer.BadParameter("the sweep chooses the learning rate: give one or the other")
    tasks = _chosen(task, mnli)
    from ..retrieval.console import progress_bar
    from .glue import measure_task
    from .glue_start import Start

    sets = [_load(task, data, len(tasks) > 1, limit) for task in tasks]
    own = Start.open(model or _shipped())
    advanced = Start.open(mnli) if mnli else own
    results: list[TaskResult] = []
    with progress_bar() as progress:
        for one in sets:
            start = advanced if one.task.from_mnli else own
            grid = _grid(one.task, start, lr, epochs, sweep)
            folder = output / one.task.hub if output else None
            bar = progress.add_task(one.task.title, total=None)

            def show(step: int, steps: int, bar: "TaskID" = bar) -> None:
                progress.update(bar, completed=step, total=steps)

            results.append(measure_task(start, one, grid, range(seeds), folder, show))
            progress.remove_task(bar)
    _show(results, as_json)


def _chosen(names: "Sequence[str] | None", mnli: str | None) -> "list[GlueTask]":
    from .glue_tasks import TASKS

    if unknown := sorted(set(names or ()) - set(TASKS)):
        raise typer.BadParameter(f"no task {unknown[0]}: known are {', '.join(TASKS)}", param_hint="--task")
    tasks = [TASKS[name] for name in dict.fromkeys(names or TASKS)]
    if mnli and not any(task.from_mnli for task in tasks):
        raise typer.BadParameter("only rte, mrpc and stsb start from it", param_hint="--from")
    return tasks


def _shipped() -> Path:
    from ..retrieval.load import SHIPPED_MODEL

    return SHIPPED_MODEL


def _load(task: "GlueTask", folder: Path | None, several: bool, limit: int | None) -> "GlueData":
    from .glue_data import load_folder, load_hub

    if folder is None:
        found = load_hub(task)
    else:
        own = folder / task.title
        found = load_folder(task, own if several or own.is_dir() else folder)
    return found.sample(limit) if limit else found


def _grid(
    task: "GlueTask", start: "Start", lr: float | None, epochs: int | None, sweep: bool
) -> "list[Settings]":
    from .glue import settings_for, swept

    settings = settings_for(task, start.size, lr, epochs)
    return swept(settings) if sweep else [settings]


def _show(results: "Sequence[TaskResult]", as_json: bool) -> None:
    from .glue import average
    from .glue_tasks import PAPER_AVERAGE

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
        from .glue_table import print_table

        print_table(results, mean)
    for result in results:
        for notice in result.notices:
            typer.echo(f"{result.task.title}: {notice}", err=as_json)
