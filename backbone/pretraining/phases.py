"""The phases of a run, one after the other: steps, scores of held-back text, states and checkpoints."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flatcoat.atomic_files import atomic_write, atomic_write_text

from .batches import MaskedBatch, PhasePlan, Step, prefetch
from .corpus import Corpus
from .distributed import Processes
from .flops import matrix_rate, training_flops
from .objectives import Objective
from .settings import Phase, PretrainingSettings
from .state import (
    Progress,
    fill_weights,
    keep_last,
    load_state,
    mean_weights,
    read_progress,
    save_state,
    saved_states,
    whole_weights,
)
from .trainer import StepFigures, Trainer
from .watch import RunLog

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class PhaseResult:
    """A finished phase: ``packing`` is the share of its batches that tokens fill."""

    name: str
    steps: int
    tokens: int
    packing: float
    seconds: float
    held_back: dict[str, float]


class PhaseRunner:
    """Trains the phases of a run in ``output``, from its last state where there is one."""

    def __init__(
        self,
        settings: PretrainingSettings,
        corpus: Corpus,
        objective: Objective,
        *,
        output: Path,
        processes: Processes,
        on_step: OnStep,
    ):
        self._settings, self._corpus, self._output = settings, corpus, output
        self._processes, self._on_step = processes, on_step
        self._trainer = Trainer(objective, settings.optimization, processes)
        self._own_theta = objective.encoder.config.global_rope_theta
        self._rate = matrix_rate(processes.device, self._trainer.dtype)
        self._states = output / "states"
        states = saved_states(self._states)
        self._progress = self._load(states[-1]) if states else Progress.start(self._trainer.is_sharded)
        watching = settings.watching
        self._log = RunLog(output, self._progress.step, log_to=watching.log_to) if processes.is_main else None

    def run(self, phase: Phase) -> PhaseResult:
        """Train a phase, or what is left of it; its result is read where it is finished."""
        folder = self._output / "phases" / phase.name
        if (folder / "phase.json").is_file():
            return PhaseResult(**json.loads((folder / "phase.json").read_text()))
        plan = self._corpus.plan(phase)
        if self._progress.phase == phase.name:
            plan.restore(self._progress.plan)
        else:
            if phase.start is not None:
                self._start_from(self._output / "phases" / phase.start)
            self._progress = replace(self._progress, phase=phase.name, plan=plan.state(), seconds=0.0)
        set_rope_theta(self._trainer.objective, self._settings.rope_theta(phase) or self._own_theta)
        meter = _Meter(self._trainer, self._rate)
        held_back = self._corpus.evaluation(phase.length)
        for step in prefetch(plan.steps(self._processes.rank, self._processes.count)):
            self._take(step, phase, meter, held_back)
        return self._finish(phase, plan, folder, held_back)

    def close(self) -> None:
        """Close the loggers."""
        if self._log is not None:
            self._log.close()

    def _take(self, step: Step, phase: Phase, meter: "_Meter", held_back: list[MaskedBatch]) -> None:
        began = time.perf_counter()
        figures = self._trainer.step(step, phase)
        seconds = time.perf_counter() - began
        before = self._progress
        self._progress = replace(
            before,
            step=before.step + 1,
            tokens=before.tokens + step.tokens,
            plan=step.state,
            seconds=before.seconds + seconds,
        )
        meter.add(step, figures, seconds)
        watching, number = self._settings.watching, self._progress.step
        is_last = step.tokens_before + step.tokens >= phase.tokens
        if number % watching.log_every == 0 or is_last:
            self._write("training", meter.take())
        if held_back and number % watching.evaluate_every == 0 and not is_last:
            self._write("held back", self._trainer.score(held_back))
        if number % watching.save_every == 0 or is_last:
            self._save(phase)

    def _write(self, kind: str, figures: dict[str, float]) -> None:
        progress = self._progress
        place = {"phase": progress.phase, "step": progress.step, "tokens": progress.tokens}
        if self._log is not None:
            self._log.write(kind, progress.step, place | figures)
        self._on_step({"kind": kind} | place | figures)

    def _save(self, phase: Phase) -> None:
        save_state(
            self._states,
            self._progress,
            self._trainer.module,
            self._trainer.optimizer,
            processes=self._processes,
        )
        if self._processes.is_main:
            keep_last(self._states, phase.average)
        self._processes.wait()

    def _load(self, place: Path) -> Progress:
        return load_state(place, self._trainer.module, self._trainer.optimizer, processes=self._processes)

    def _start_from(self, folder: Path) -> None:
        """Weights and optimiser of an earlier phase's end; the counts of the run go on."""
        (state,) = saved_states(folder)
        self._load(state)

    def _finish(
        self, phase: Phase, plan: PhasePlan, folder: Path, held_back: list[MaskedBatch]
    ) -> PhaseResult:
        """Score and save the phase's checkpoint; it is finished once ``phase.json`` is there."""
        states = [place for place in saved_states(self._states) if read_progress(place).phase == phase.name]
        averaged = states[-phase.average :]
        if len(averaged) > 1:
            fill_weights(self._trainer.module, mean_weights(averaged, self._processes))
        scores = self._trainer.score(held_back) if held_back else {}
        if scores:
            self._write("held back", scores)
        export(self._trainer, self._corpus, folder, processes=self._processes)
        if len(averaged) > 1:
            self._load(states[-1])
        result = PhaseResult(
            phase.name, plan.steps_done, plan.tokens, plan.packing, self._progress.seconds, scores
        )
        if self._processes.is_main:
            shutil.copytree(states[-1], folder / states[-1].name, copy_function=os.link)
            atomic_write_text(folder / "phase.json", json.dumps(asdict(result)) + "\n")
        self._processes.wait()
        return result


def set_rope_theta(objective: Objective, theta: float) -> None:
    """Change the rotary base of global layers: no weight depends on it."""
    for part in {objective.encoder, objective.product}:
        part.config = replace(part.config, global_rope_theta=theta)


def export(trainer: Trainer, corpus: Corpus, folder: Path, *, processes: Processes) -> None:
    """Write what was trained as a checkpoint that transformers loads, with its tokenizer, in float32."""
    product = trainer.objective.product
    state = whole_weights(product)  # All processes take part where weights are sharded.
    if processes.is_main:
        fresh = type(product)(replace(product.config, attention_dropout=0.0))
        fresh.load_state_dict(state)
        if folder.exists():
            shutil.rmtree(folder)  # Of a run that was cut off before phase.json.
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as unfinished:
            fresh.save_pretrained(unfinished)
            corpus.tokenizer.save_pretrained(str(unfinished))
    processes.wait()


class _Meter:
    """Means of the figures since they were last taken."""

    def __init__(self, trainer: Trainer, rate: float):
        self._trainer, self._rate = trainer, rate
        self._clear()

    def add(self, step: Step, figures: StepFigures, seconds: float) -> None:
        self._steps.append(figures)
        self._tokens += step.tokens
        self._room += step.batch_room
        self._seconds += seconds
        config = self._trainer.objective.encoder.config
        self._flops += sum(
            training_flops(config, batch.batch, predicted=len(batch.labels_M)) for batch in step.batches
        )

    def take(self) -> dict[str, float]:
        last = self._steps[-1]
        means = {
            name: sum(step.figures[name] for step in self._steps) / len(self._steps) for name in last.figures
        }
        figures = means | {
            "gradient_norm": sum(step.gradient_norm for step in self._steps) / len(self._steps),
            "learning_rate": last.learning_rate,
            "batch_tokens": self._tokens / len(self._steps),
            "packing": self._tokens / self._room,
            "tokens_per_second": self._tokens / self._seconds,
            "mfu": self._flops / self._seconds / self._rate,
        }
        self._clear()
        return figures

    def _clear(self) -> None:
        self._steps: list[StepFigures] = []
        self._tokens = self._room = 0
        self._seconds = self._flops = 0.0
