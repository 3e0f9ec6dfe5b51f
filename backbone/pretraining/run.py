"""From settings to a pretrained checkpoint: tokenizer, shards, phases; resumed exactly where it was cut off.

A run's folder has ``tokenizer/``, ``shards/``, ``states/`` (to resume), ``phases/NAME/`` (a checkpoint each,
with the state that a later phase may start from), ``log.jsonl`` and ``curves.png``. At the end the last
phase's checkpoint stands in the folder itself, beside ``pretraining.json``.
"""

import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from flatcoat import __version__
from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import ConflictError

from .corpus import Corpus
from .distributed import joined, require_shared
from .phases import OnStep, PhaseResult, PhaseRunner
from .settings import PretrainingSettings
from .start import OnProgress, build_objective, prepare_tokenizer
from .watch import draw_curves

_START, _RECORD = "run.json", "pretraining.json"
_PACKAGES = ("torch", "transformers", "tokenizers")


def pretrain(
    settings: PretrainingSettings,
    output: Path,
    *,
    on_step: OnStep = lambda figures: None,
    on_progress: OnProgress = lambda what: None,
    resume: bool = False,
) -> list[PhaseResult]:
    """Carry out all phases and leave a checkpoint in ``output``, which must be missing or empty.

    With ``resume`` a run that was cut off there goes on with the same batches, losses and weights. Under
    torchrun all processes share each batch and ``output``. ``on_step`` has the figures that are logged.
    Raises NotFoundError for missing text or checkpoints, DataError for damaged ones, ConflictError for an
    output that is taken or an unfinished run of other settings, UsageError for an output that processes do
    not share, FlatcoatError for training that diverges.
    """
    with joined() as processes:
        require_shared(output)
        with processes.main_first() as is_main:
            if is_main:
                _begin(settings, output, resume=resume)
            tokenizer = prepare_tokenizer(settings, output / "tokenizer", on_progress=on_progress)
            shards = settings.shards or output / "shards"
            corpus = Corpus(settings, tokenizer, folder=shards, on_progress=on_progress)
        objective = build_objective(settings, tokenizer)
        runner = PhaseRunner(settings, corpus, objective, output=output, processes=processes, on_step=on_step)
        try:
            results = [runner.run(phase) for phase in settings.phases]
        finally:
            runner.close()
        if processes.is_main:
            _finish(settings, output, results)
        processes.wait()
    return results


def _begin(settings: PretrainingSettings, output: Path, *, resume: bool) -> None:
    """Mark the output as this run's, or check that it is."""
    # Places differ between machines; what is below them is the run's.
    values = settings.model_dump(mode="json", exclude={"data_root", "shards"})
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        output.mkdir(parents=True, exist_ok=True)
        atomic_write_text(output / _START, json.dumps(values, indent=1) + "\n")
        return
    if not (output / _START).is_file() or (output / _RECORD).is_file():
        raise ConflictError(f"{output} exists and is not empty: name another --output")
    if not resume:
        raise ConflictError(f"{output} holds an unfinished run: --resume it, or name another --output")
    before = json.loads((output / _START).read_text())
    if changed := [key for key in sorted({*before, *values}) if before.get(key) != values.get(key)]:
        raise ConflictError(
            f"the recipe changed since the run in {output} was started ({', '.join(changed)}): "
            "resume it with what it had, or name another --output"
        )


def _finish(settings: PretrainingSettings, output: Path, results: list[PhaseResult]) -> None:
    for file in (output / "phases" / settings.phases[-1].name).iterdir():
        if file.is_file() and file.name != "phase.json":
            shutil.copyfile(file, output / file.name)
    draw_curves(output)
    record = {
        "versions": {"flatcoat": __version__} | {name: version(name) for name in _PACKAGES},
        "licences": sorted({source.licence for source in settings.data if source.licence}),
        "phases": [asdict(result) for result in results],
    }
    atomic_write_text(output / _RECORD, json.dumps(record, indent=1) + "\n")
    shutil.rmtree(output / "states", ignore_errors=True)
