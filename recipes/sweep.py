"""A learning-rate sweep: one run per rate, the best chosen on the recipe's dev sets."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flatcoat.errors import UsageError
from flatcoat.retrieval.training.callbacks import OnStep

from .record import is_finished, read_record
from .run import run
from .schema import Recipe


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its best step, and the scores there by dev set, ``mean`` among them."""

    learning_rate: float
    folder: str
    step: int
    scores: dict[str, float]


def sweep(
    recipe: Recipe,
    rates: Sequence[float],
    *,
    output: Path,
    on_step: OnStep = lambda step, steps, loss: None,
    resume: bool = False,
) -> list[Trial]:
    """Run a recipe at every rate, in ``output/lr-RATE``; trials by mean score, the best first.

    ``output/sweep.json`` has them too. With ``resume``, finished runs are kept and an unfinished one
    continues. Raises UsageError for a recipe without dev sets.
    """
    if not recipe.dev:
        raise UsageError("a sweep chooses on dev sets: name BEIR folders under dev in the recipe")
    trials = []
    for rate in rates:
        folder = output / f"lr-{rate:g}"
        if not (resume and is_finished(folder)):
            training = recipe.training.model_copy(update={"learning_rate": rate})
            run(recipe.model_copy(update={"training": training}), folder, on_step=on_step, resume=resume)
        record = read_record(folder)
        step, scores = next((step, scores) for step, scores in record["dev"] if step == record["best_step"])
        trials.append(Trial(rate, folder.name, step, scores))
    trials.sort(key=lambda trial: -trial.scores["mean"])
    values = {"recipe": recipe.name, "best": trials[0].folder, "trials": [asdict(trial) for trial in trials]}
    (output / "sweep.json").write_text(json.dumps(values, indent=1) + "\n")
    return trials
