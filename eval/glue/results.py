"""GLUE: a backbone fine-tuned on a task with several seeds, and what the seeds say together.

Scores are those of the best epoch, chosen on the development set itself as the paper's early stopping does;
those of the last epoch stand beside them. Source: arXiv 1804.07461, and 2412.13663, appendix E.1.
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

from .data import GlueData
from .fine_tune import Encoded, EncodedData, Settings, Start, fine_tune
from .measures import Values, score
from .tasks import PAPER_AVERAGE, TASKS, GlueTask

LEARNING_RATES = (1e-5, 3e-5, 5e-5, 8e-5)
WEIGHT_DECAYS = (1e-6, 5e-6, 8e-6, 1e-5)
"""The paper's sweep."""


class Epoch(NamedTuple):
    """Mean training loss; measures over all development examples, and by set where there are several."""

    loss: float
    measures: dict[str, float]
    sets: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Run:
    """One fine-tuning; ``best`` is the number of the best epoch, counted from 1."""

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


@dataclass(frozen=True)
class TaskResult:
    """``runs`` are those of the chosen settings, a seed each; ``sweep`` those that chose, where it did.

    ``majority`` are the measures of answering every example alike: by the most frequent training label, or
    the mean of a regression's.
    """

    task: GlueTask
    start: str
    size: str
    source: str
    train_examples: int
    majority: dict[str, float]
    runs: list[Run]
    sweep: list[Run]
    notices: list[str]

    @property
    def score(self) -> float:
        """Mean over seeds of the measure that counts, at the best epoch."""
        return self.summary(self.task.measures[0])[0]

    def summary(self, measure: str, part: str = "", last: bool = False) -> tuple[float, float | None]:
        """Mean and standard deviation over seeds (None of one) of a measure, at the best or last epoch.

        ``part`` names one of several development sets; all of them together without it.
        """
        epochs = [run.epochs[-1 if last else run.best - 1] for run in self.runs]
        values = [(epoch.sets[part] if part else epoch.measures)[measure] for epoch in epochs]
        return mean(values), stdev(values) if len(values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        main = self.task.measures[0]
        best, spread = self.summary(main)
        last, last_spread = self.summary(main, last=True)
        return {
            "task": self.task.hub,
            "measure": main,
            "score": best,
            "spread": spread,
            "last_epoch_score": last,
            "last_epoch_spread": last_spread,
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
    task: GlueTask, size: str, learning_rate: float | None = None, epochs: int | None = None
) -> Settings:
    """The paper's for a model of ``size`` "base" or "large", but for what is given."""
    paper = task.large if size == "large" else task.base
    return Settings(learning_rate or paper.learning_rate, paper.weight_decay, epochs or paper.epochs)


def swept(settings: Settings) -> list[Settings]:
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
    start: Start,
    data: GlueData,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    folder: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda step, steps: None,
) -> TaskResult:
    """Fine-tune with every seed. Of several ``settings``, the best with the first seed serve for the rest.

    All ``settings`` have the same number of epochs. ``folder`` receives ``result.json`` and a checkpoint a
    seed, of its best epoch. ``on_progress`` is told the optimiser steps taken, and how many there will be.
    """
    encoded, notices = start.encode(data)
    total = settings[0].steps(len(data.train)) * (len(settings) + len(seeds) - 1)
    trainer = _Trainer(start, data.task, encoded, folder, lambda step: on_progress(step, total))
    tried = [trainer.run(one, seeds[0]) for one in settings]
    chosen = max(tried, key=lambda run: _main(data.task, run))
    runs = [chosen, *(trainer.run(chosen.settings, seed) for seed in seeds[1:])]
    result = TaskResult(
        data.task,
        start.path,
        start.size,
        data.source,
        len(data.train),
        majority(data.task, encoded),
        runs,
        tried if len(tried) > 1 else [],
        notices,
    )
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    return result


def majority(task: GlueTask, data: EncodedData) -> dict[str, float]:
    """The measures of one answer to every development example, the best that training labels suggest."""
    values, counts = np.unique(data.train.labels, return_counts=True)
    answer = values[counts.argmax()] if task.labels else data.train.labels.mean()
    labels_N = _pooled(data.dev)
    return score(task.measures, np.full(len(labels_N), answer), labels_N)


class _Trainer:
    """Run after run on the same data; a seed's checkpoint is the best of all its epochs so far."""

    def __init__(
        self,
        start: Start,
        task: GlueTask,
        data: EncodedData,
        folder: Path | None,
        on_step: Callable[[int], None],
    ) -> None:
        self._start, self._task, self._data = start, task, data
        self._folder, self._on_step = folder, on_step
        self._steps = 0
        self._saved: dict[int, float] = {}

    def run(self, settings: Settings, seed: int) -> Run:
        began = time.monotonic()
        model = self._start.classifier(self._task.outputs, seed)
        epochs: list[Epoch] = []

        def after_epoch(loss: float, found: dict[str, Values]) -> None:
            epochs.append(self._score(loss, found))
            self._save(model, seed, epochs[-1].measures[self._task.measures[0]])

        fine_tune(model, self._data, settings, seed, after_epoch, self._step)
        scores = [epoch.measures[self._task.measures[0]] for epoch in epochs]
        best = scores.index(max(scores)) + 1
        return Run(settings, seed, time.monotonic() - began, epochs, best)

    def _step(self) -> None:
        self._steps += 1
        self._on_step(self._steps)

    def _score(self, loss: float, found: dict[str, Values]) -> Epoch:
        dev, measures = self._data.dev, self._task.measures
        pooled_N = np.concatenate(list(found.values()))
        sets = {name: score(measures, found[name], dev[name].labels) for name in dev} if len(dev) > 1 else {}
        return Epoch(loss, score(measures, pooled_N, _pooled(dev)), sets)

    def _save(self, model: SequenceClassifier, seed: int, value: float) -> None:
        if self._folder and value > self._saved.get(seed, -np.inf):
            self._saved[seed] = value
            folder = self._folder / f"seed-{seed}"
            model.save_pretrained(folder)
            self._start.tokenizer.save_pretrained(folder)


def _main(task: GlueTask, run: Run) -> float:
    return run.epochs[run.best - 1].measures[task.measures[0]]


def _pooled(dev: dict[str, Encoded]) -> Values:
    return np.concatenate([encoded.labels for encoded in dev.values()])
