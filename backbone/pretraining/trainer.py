"""Optimiser steps of an objective over packed micro batches, on one device or many, and scores."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from flatcoat.backbone.environment import fast_precisions
from flatcoat.errors import FlatcoatError

from .batches import MaskedBatch, Step, Totals
from .distributed import Processes, replicated, shard, whole
from .objectives import Objective, Outcome
from .optimizer import make_optimizer, set_rates
from .schedule import learning_rate
from .settings import Optimization, Phase


class StepFigures(NamedTuple):
    """What a step came to: ``figures`` are means over its tokens, the loss and others of the objective."""

    figures: dict[str, float]
    gradient_norm: float
    learning_rate: float


class Trainer:
    """Takes optimiser steps; weights are float32, products in ``dtype`` by autocast.

    >>> from flatcoat.backbone.config import ModernBertConfig
    >>> from flatcoat.backbone.heads import MaskedLanguageModel
    >>> from .objectives import MaskedLanguageModelling
    >>> config = ModernBertConfig(vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> objective = MaskedLanguageModelling(MaskedLanguageModel(config))
    >>> Trainer(objective, Optimization(), Processes(0, 1, torch.device("cpu"))).optimizer.defaults["eps"]
    1e-06
    """

    def __init__(self, objective: Objective, settings: Optimization, processes: Processes):
        self.objective = objective
        self.processes = processes
        self.module = cast(nn.Module, objective).to(processes.device).train()
        self.dtype = _precision(settings.precision, processes.device)
        self.is_sharded = settings.parallel == "fsdp"
        encoder = objective.encoder
        encoder.gradient_checkpointing = settings.gradient_checkpointing
        if settings.compile:
            for layer in encoder.layers:
                cast(Any, layer).mlp.compile(dynamic=True)
        if self.is_sharded:
            shard(self.module, list(encoder.layers), self.dtype)
        self._parallel = self.module if self.is_sharded else replicated(self.module, processes)
        self.optimizer = make_optimizer(self.module, settings)

    def step(self, step: Step, phase: Phase) -> StepFigures:
        """One step of a phase. Raises FlatcoatError where the loss is no number."""
        totals = self._totals(step.batches)
        rate = learning_rate(phase, step.tokens_before + step.tokens)
        set_rates(self.optimizer, phase, rate)
        self.optimizer.zero_grad(set_to_none=True)
        outcomes = []
        for number, batch in enumerate(step.batches, 1):
            with self._synchronised(number == len(step.batches)):
                outcome = self._outcome(self._parallel, batch, totals)
                # Gradients are averaged over processes; the shares are to be summed.
                (outcome.loss * self.processes.count).backward()
            outcomes.append(outcome)
        figures = self._summed(outcomes)
        norm = self._gradient_norm()
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            raise FlatcoatError(
                f"the loss is {figures['loss']}, its gradient {norm}: lower the learning rate {rate:g} of "
                f"phase {phase.name}, or warm up longer"
            )
        self.optimizer.step()
        return StepFigures(figures, norm, rate)

    @torch.no_grad()
    def score(self, batches: Sequence[MaskedBatch]) -> dict[str, float]:
        """The objective's figures on batches without training on them, and the perplexity of their tokens.

        The processes share the batches, which are the same for all of them.
        """
        own = batches[self.processes.rank :: self.processes.count]
        if self.is_sharded or len(batches) < self.processes.count:
            own = batches  # Forwards of sharded weights are joint: each process scores them all.
        totals = self._totals(own)
        self.module.eval()
        try:
            figures = self._summed([self._outcome(self.module, batch, totals) for batch in own])
        finally:
            self.module.train()
        if "masked_loss" in figures:
            figures["perplexity"] = math.exp(min(figures["masked_loss"], 700.0))
        return figures

    def _outcome(self, module: nn.Module, batch: MaskedBatch, totals: Totals) -> Outcome:
        device = self.processes.device
        # Whatever is drawn in a forward depends on the micro batch alone: a resumed run draws the same.
        torch.manual_seed(batch.seed)
        half = self.dtype is not torch.float32
        with torch.autocast(device.type, self.dtype) if half else nullcontext():
            return module(batch.to(device), totals)

    def _totals(self, batches: Iterable[MaskedBatch]) -> Totals:
        counts = [0.0, 0.0, 0.0]
        for batch in batches:
            sizes = (len(batch.labels_M), len(batch.original_ids_T), len(batch.batch.lengths))
            counts = [count + size for count, size in zip(counts, sizes, strict=True)]
        return Totals(*(max(1, int(count)) for count in self.processes.sum(counts)))

    def _summed(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        parts = [{"loss": outcome.loss.detach(), **outcome.figures} for outcome in outcomes]
        shares = {name: torch.stack([part[name].float() for part in parts]).sum() for name in parts[0]}
        values = self.processes.sum(torch.stack(list(shares.values())).tolist())
        return dict(zip(shares, values, strict=True))

    def _gradient_norm(self) -> float:
        gradients = [weight.grad for weight in self.module.parameters() if weight.grad is not None]
        return float(whole(cast(Tensor, torch.nn.utils.get_total_norm(gradients))))

    @contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Within the context, gradients are exchanged only at the last micro batch of a step."""
        if self.is_sharded:
            cast(Any, self.module).set_requires_gradient_sync(last)
        no_sync = getattr(self._parallel, "no_sync", None)
        with nullcontext() if last or no_sync is None else no_sync():
            yield


def _precision(name: str, device: torch.device) -> torch.dtype:
    fast = name == "bf16" or (name == "auto" and "bf16" in fast_precisions(device))
    return torch.bfloat16 if fast else torch.float32
