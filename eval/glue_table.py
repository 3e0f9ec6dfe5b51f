"""GLUE's results as a table: ours, the majority answer, the paper."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from .glue import TaskResult
from .glue_tasks import PAPER_AVERAGE

_MEASURES = {
    "matthews": "Matthews",
    "accuracy": "Accuracy",
    "f1": "F1",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def print_table(results: Sequence[TaskResult], average: float | None) -> None:
    """Print measures x 100, then what the runs were; ``average`` is None unless all eight tasks are there."""
    console = Console(markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Task", no_wrap=True)
    table.add_column("Measure", no_wrap=True)
    for title in ("Best epoch", "Last epoch", "Majority", "Paper base", "Paper large"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        for row in _rows(result):
            table.add_row(*row)
    paper = [f"{score:.1f}" for score in PAPER_AVERAGE.values()]
    table.add_row("GLUE", "Average", "" if average is None else f"{100 * average:.1f}", "", "", *paper)
    console.print(table)
    console.print(
        "development sets, measures x 100, mean ± standard deviation over seeds; the best epoch is chosen on "
        "these sets, as the paper's early stopping does; majority: one answer to everything",
        soft_wrap=True,
    )
    for result in results:
        console.print(_description(result), soft_wrap=True)


def _rows(result: TaskResult) -> Iterator[list[str]]:
    task = result.task
    for measure in task.measures:
        first = measure == task.measures[0]
        paper = [f"{task.base.score:.1f}", f"{task.large.score:.1f}"] if first else ["", ""]
        scores = [_figure(*result.summary(measure)), _figure(*result.summary(measure, last=True))]
        majority = f"{100 * result.majority[measure]:.1f}"
        yield [task.title if first else "", _MEASURES[measure], *scores, majority, *paper]
    for name in result.runs[0].epochs[0].sets:
        main = task.measures[0]
        scores = [_figure(*result.summary(main, name)), _figure(*result.summary(main, name, last=True))]
        yield ["", f"{_MEASURES[main]}, {name}", *scores, "", "", ""]


def _figure(mean: float, spread: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _description(result: TaskResult) -> str:
    settings = result.runs[0].settings
    best = ", ".join(str(run.best) for run in result.runs)
    seconds = sum(run.seconds for run in result.runs) / len(result.runs)
    swept = f", the best of {len(result.sweep)} with seed 0" if result.sweep else ""
    return (
        f"{result.task.title}: {result.train_examples:,} examples of {result.source} on {result.start}, "
        f"learning rate {settings.learning_rate:g}, weight decay {settings.weight_decay:g}{swept}; "
        f"best epoch {best} of {settings.epochs}; {seconds:.0f} s a run"
    )
