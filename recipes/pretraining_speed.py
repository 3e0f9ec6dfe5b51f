"""How fast a recipe pretrains here and in transformers' Trainer with a padding collator, in turns.

Both train the same model, from the same weights, on the same sequences with the same share of masks; a step
has as many tokens in the mean. Tokens are counted without padding.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flatcoat.backbone.pretraining.settings import Phase
from flatcoat.eval.bench import OURS

from .pretraining import PretrainingRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from flatcoat.backbone.pretraining.batches import Step
    from flatcoat.backbone.pretraining.trainer import Trainer

PADDED = "transformers' Trainer, padded"

_WARM_UP = 1
"""Steps before timing starts."""


@dataclass(frozen=True)
class PretrainSpeed:
    """Tokens per second in the median pass; ``padding`` is the share of the positions computed for nothing.

    ``mfu`` counts the operations of the real tokens, against the measured rate of matrix products.
    """

    implementation: str
    tokens_per_second: float
    ratio_to_ours: float
    mfu: float
    padding: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class _Pass(NamedTuple):
    tokens: int
    positions: int
    seconds: float


def bench_pretraining(
    recipe: PretrainingRecipe,
    steps: int,
    *,
    passes: int,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[PretrainSpeed]:
    """Time ``steps`` steps of the recipe's first phase at its full batch, ``passes`` times each, ours first.

    Raises the errors of ``pretrain``.
    """
    from flatcoat.backbone.pretraining.corpus import Corpus
    from flatcoat.backbone.pretraining.distributed import joined
    from flatcoat.backbone.pretraining.flops import matrix_rate, training_flops
    from flatcoat.backbone.pretraining.start import build_objective, prepare_tokenizer
    from flatcoat.backbone.pretraining.trainer import Trainer

    settings = recipe.settings
    phase = settings.phases[0].model_copy(update={"first_batch_tokens": None, "batch_warmup_tokens": 0})
    settings = settings.model_copy(update={"phases": (phase,), "held_back": ()})
    done: dict[str, list[_Pass]] = {OURS: [], PADDED: []}
    with tempfile.TemporaryDirectory() as place, joined() as processes:
        tokenizer = prepare_tokenizer(settings, Path(place) / "tokenizer", on_progress=on_progress)
        shards = settings.shards or Path(place) / "shards"
        corpus = Corpus(settings, tokenizer, folder=shards, on_progress=on_progress)
        trainer = Trainer(build_objective(settings, tokenizer), settings.optimization, processes)
        plan = list(islice(corpus.plan(phase).steps(), steps + _WARM_UP))
        theirs = _PaddedTrainer(recipe, trainer, tokenizer, plan=plan, place=Path(place))
        for number in range(passes):
            on_progress(f"{OURS}, pass {number + 1} of {passes}")
            done[OURS].append(_time_ours(trainer, plan, phase))
            on_progress(f"{PADDED}, pass {number + 1} of {passes}")
            done[PADDED].append(theirs.time())
        config, timed = trainer.objective.encoder.config, plan[_WARM_UP:]
        flops = sum(
            training_flops(config, batch.batch, predicted=len(batch.labels_M))
            for step in timed
            for batch in step.batches
        )
        per_token = flops / sum(step.tokens for step in timed)
        rate = matrix_rate(processes.device, trainer.dtype)
    speeds = {
        name: statistics.median(one.tokens / one.seconds for one in passes_of)
        for name, passes_of in done.items()
    }
    return [
        PretrainSpeed(
            implementation=name,
            tokens_per_second=speeds[name],
            ratio_to_ours=speeds[name] / speeds[OURS],
            mfu=speeds[name] * per_token / rate,
            padding=1 - done[name][0].tokens / done[name][0].positions,
        )
        for name in done
    ]


def _time_ours(trainer: "Trainer", plan: "list[Step]", phase: Phase) -> _Pass:
    for step in plan[:_WARM_UP]:
        trainer.step(step, phase)
    began = time.perf_counter()
    for step in plan[_WARM_UP:]:
        trainer.step(step, phase)
    seconds = time.perf_counter() - began
    tokens = sum(step.tokens for step in plan[_WARM_UP:])
    return _Pass(tokens, tokens, seconds)


class _PaddedTrainer:
    """transformers' Trainer over the plan's sequences, with ModernBERT of transformers."""

    def __init__(
        self,
        recipe: PretrainingRecipe,
        trainer: "Trainer",
        tokenizer: "PreTrainedTokenizerFast",
        *,
        plan: "list[Step]",
        place: Path,
    ):
        import torch
        from transformers import DataCollatorForLanguageModeling, ModernBertConfig, ModernBertForMaskedLM

        product = trainer.objective.product
        config = replace(product.config, attention_dropout=0.0)
        self._model = ModernBertForMaskedLM(ModernBertConfig(**config.to_hf()))
        self._model.load_state_dict(product.state_dict())
        self._collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=recipe.masking.share)
        batches = [batch for step in plan for batch in step.batches]
        self._rows = [
            {"input_ids": ids}
            for batch in batches
            for ids in batch.original_ids_T.split(list(batch.batch.lengths))
        ]
        self._steps, self._place = len(plan), place
        self._half = trainer.dtype is torch.bfloat16
        self._on_cpu = trainer.processes.device.type == "cpu"

    def time(self) -> _Pass:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        counts: list[tuple[int, int]] = []
        ends: list[float] = []

        def collate(rows: list[Any]) -> Any:
            batch = self._collate(rows)
            counts.append((int(batch["attention_mask"].sum()), batch["input_ids"].numel()))
            return batch

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.perf_counter())

        logging.disable(logging.WARNING)
        arguments = TrainingArguments(
            output_dir=str(self._place / "transformers"),
            max_steps=self._steps,
            per_device_train_batch_size=max(1, round(len(self._rows) / self._steps)),
            bf16=self._half,
            use_cpu=self._on_cpu,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=self._model,
            args=arguments,
            train_dataset=self._rows,  # type: ignore[arg-type]
            data_collator=collate,
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        logging.disable(logging.NOTSET)
        timed = counts[_WARM_UP : self._steps]
        tokens, positions = (sum(column) for column in zip(*timed, strict=True))
        return _Pass(tokens, positions, ends[-1] - ends[_WARM_UP - 1])
