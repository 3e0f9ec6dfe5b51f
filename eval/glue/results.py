"""GLUE results: a checkpoint fine-tuned on a task with several seeds, and the mean over the seeds.

Scores are of the best epoch, chosen on the development set itself as the paper's early stopping does, and of
the last epoch. Sources: arXiv 1804.07461, and 2412.13663, appendix E.1.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from flatcoat.backbone.heads import SequenceClassifier

from .checkpoint import Checkpoint, Encoded, EncodedData
from .data import GlueData
from .fine_tune import Settings, fine_tune
from .tasks import PAPER_AVERAGE, TASKS, GlueTask, Values, score

LEARNING_RATES = (1e-5, 3e-5, 5e-5, 8e-5)
WEIGHT_DECAYS = (1e-6, 5e-6, 8e-6, 1e-5)
"""The paper's sweep."""


class Epoch(NamedTuple):
    """Mean training loss; measures over all development examples, and per set where there are several."""

    loss: float
    measures: dict[str, float]
    sets: dict[str, dict[str, float]]


class Summary(NamedTuple):
    """Mean and standard deviation over seeds; ``spread`` is None for a single seed."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class FineTuneRun:
    """One fine-tuning; ``best`` is the number of the best epoch, from 1."""

    settings: Settings
    seed: int
    seconds: float
    epochs: list[Epoch]
    best: int

    def to_json(self) -> dict[str, Any]:
        epochs = [epoch._asdict() for epoch in self.epochs]
        return asdict(self.settings) | {
            "seed": self.seed,
            "seconds": self.seconds,
            "best_epoch": self.best,
            "epochs": epochs,
        }


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """``runs`` have the chosen settings and one seed each; ``sweep`` are the runs that chose the settings.

    ``majority`` are the measures of one answer to every example: the most frequent training label, or for a
    regression the mean.
    """

    task: GlueTask
    start: str
    size: str
    source: str
    train_examples: int
    majority: dict[str, float]
    runs: list[FineTuneRun]
    sweep: list[FineTuneRun]
    notices: list[str]

    @property
    def score(self) -> float:
        """Mean over seeds of the main measure, at the best epoch."""
        return self.summary(self.task.measures[0]).mean

    def summary(self, measure: str, *, part: str = "", last: bool = False) -> Summary:
        """A measure over seeds, at the best or last epoch.

        ``part`` names one of several development sets; the default is all of them together.
        """
        epochs = [run.epochs[-1 if last else run.best - 1] for run in self.runs]
        values = [(epoch.sets[part] if part else epoch.measures)[measure] for epoch in epochs]
        return Summary(mean(values), stdev(values) if len(values) > 1 else None)

    def to_json(self) -> dict[str, Any]:
        main = self.task.measures[0]
        best, last = self.summary(main), self.summary(main, last=True)
        return {
            "task": self.task.hub,
            "measure": main,
            "score": best.mean,
            "spread": best.spread,
            "last_epoch_score": last.mean,
            "last_epoch_spread": last.spread,
            "majority": self.majority,
            "paper": {size: round(getattr(self.task, size).score / 100, 3) for size in PAPER_AVERAGE},
            "start": self.start,
            "data": self.source,
            "train_examples": self.train_examples,
            "runs": [run.to_json() for run in self.runs],
            "sweep": [run.to_json() for run in self.sweep],
            "notices": self.notices,
        }


def settings_for(
    task: GlueTask, size: str, *, learning_rate: float | None = None, epochs: int | None = None
) -> Settings:
    """The paper's settings for a "base" or "large" model, with the given values in place of its own.

    >>> settings_for(TASKS["rte"], "base", epochs=7).epochs
    7
    """
    paper = task.large if size == "large" else task.base
    return Settings(learning_rate or paper.learning_rate, paper.weight_decay, epochs or paper.epochs)


def sweep_of(settings: Settings) -> list[Settings]:
    """``settings`` with every learning rate and weight decay of the paper's sweep."""
    return [
        replace(settings, learning_rate=learning_rate, weight_decay=weight_decay)
        for learning_rate in LEARNING_RATES
        for weight_decay in WEIGHT_DECAYS
    ]


def average(results: Sequence[TaskResult]) -> float | None:
    """GLUE as the paper has it: the mean score over its eight tasks; None unless all are there."""
    complete = {result.task.hub for result in results} == set(TASKS)
    return mean(result.score for result in results) if complete else None


def measure_task(
    start: Checkpoint,
    data: GlueData,
    *,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    folder: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda step, steps: None,
) -> TaskResult:
    """Fine-tune with every seed. Of several ``settings``, the best with the first seed are used for the rest.

    All ``settings`` have the same number of epochs. ``folder`` receives ``result.json`` and, per seed, the
    checkpoint of the best epoch. ``on_progress`` is called with the optimiser steps done and in all.
    """
    encoded, notices = start.encode(data)
    total = settings[0].steps(len(data.train)) * (len(settings) + len(seeds) - 1)
    trainer = _Trainer(start, data.task, encoded, folder, lambda step: on_progress(step, total))
    tried = [trainer.run(one, seeds[0]) for one in settings]
    chosen = max(tried, key=lambda run: _main(data.task, run))
    runs = [chosen, *(trainer.run(chosen.settings, seed) for seed in seeds[1:])]
    result = TaskResult(
        task=data.task,
        start=start.path,
        size=start.size,
        source=data.source,
        train_examples=len(data.train),
        majority=majority(data.task, encoded),
        runs=runs,
        sweep=tried if len(tried) > 1 else [],
        notices=notices,
    )
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    return result


def majority(task: GlueTask, data: EncodedData) -> dict[str, float]:
    """The measures of one answer to every development example: the training labels' mode, or their mean."""
    values, counts = np.unique(data.train.labels, return_counts=True)
    answer = values[counts.argmax()] if task.labels else data.train.labels.mean()
    labels_N = _pooled(data.dev)
    return score(np.full(len(labels_N), answer), labels_N, measures=task.measures)


class _Trainer:
    """Runs on the same data; saves for each seed the checkpoint of its best epoch so far."""

    def __init__(
        self,
        start: Checkpoint,
        task: GlueTask,
        data: EncodedData,
        folder: Path | None,
        on_step: Callable[[int], None],
    ) -> None:
        self._start, self._task, self._data = start, task, data
        self._folder, self._on_step = folder, on_step
        self._steps = 0
        self._saved: dict[int, float] = {}

    def run(self, settings: Settings, seed: int) -> FineTuneRun:
        began = time.monotonic()
        model = self._start.classifier(self._task.outputs, seed)
        epochs: list[Epoch] = []

        def after_epoch(loss: float, predicted: dict[str, Values]) -> None:
            epochs.append(self._score(loss, predicted))
            self._save(model, seed, epochs[-1].measures[self._task.measures[0]])

        fine_tune(
            model,
            self._data,
            settings=settings,
            seed=seed,
            after_epoch=after_epoch,
            on_step=self._step,
        )
        scores = [epoch.measures[self._task.measures[0]] for epoch in epochs]
        best = scores.index(max(scores)) + 1
        return FineTuneRun(settings, seed, time.monotonic() - began, epochs, best)

    def _step(self) -> None:
        self._steps += 1
        self._on_step(self._steps)

    def _score(self, loss: float, predicted: dict[str, Values]) -> Epoch:
        dev, measures = self._data.dev, self._task.measures
        sets = {name: score(predicted[name], dev[name].labels, measures=measures) for name in dev}
        pooled_N = np.concatenate(list(predicted.values()))
        together = score(pooled_N, _pooled(dev), measures=measures)
        return Epoch(loss, together, sets if len(dev) > 1 else {})

    def _save(self, model: SequenceClassifier, seed: int, value: float) -> None:
        if self._folder and value > self._saved.get(seed, -np.inf):
            self._saved[seed] = value
            folder = self._folder / f"seed-{seed}"
            model.save_pretrained(folder)
            self._start.tokenizer.save_pretrained(folder)


def _main(task: GlueTask, run: FineTuneRun) -> float:
    return run.epochs[run.best - 1].measures[task.measures[0]]


def _pooled(dev: dict[str, Encoded]) -> Values:
    return np.concatenate([encoded.labels for encoded in dev.values()])
