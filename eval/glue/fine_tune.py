"""Fine-tune a classifier on a task, over packed batches, with predictions after every epoch.

AdamW with betas .9 and .98, a learning rate that rises and falls linearly, and a weight decay that does not
scale with it: MosaicBERT's recipe for GLUE (arXiv 2312.17482), the basis of ModernBERT's. A step splits its
examples into parts of a token budget, which bounds memory.

Axes: N examples, C labels.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from flatcoat.backbone.heads import SequenceClassifier
from flatcoat.backbone.packing import PackedBatch, budget_batches
from flatcoat.errors import UsageError

from .checkpoint import Encoded, EncodedData
from .tasks import Values

PART_TOKENS = 8192
"""Tokens in one forward pass."""

WARMUP = 0.06
"""Share of the steps over which the learning rate rises."""


AfterEpoch = Callable[[float, dict[str, Values]], None]
"""Called with the mean training loss of an epoch and the predictions for each development set [N]."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a run; ``batch_size`` in examples. Raises UsageError for a bad learning rate.

    >>> Settings(learning_rate=8e-5, weight_decay=1e-6, epochs=5).steps(100)
    20
    """

    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"the learning rate is {self.learning_rate}: it must be above 0 and finite")

    def steps(self, examples: int) -> int:
        """Optimiser steps of a run on this many examples."""
        return self.epochs * -(-examples // self.batch_size)


def fine_tune(
    model: SequenceClassifier,
    data: EncodedData,
    *,
    settings: Settings,
    seed: int,
    after_epoch: AfterEpoch,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train ``model`` in place, a regression where it has one label. On a CPU runs of one seed are equal.

    Raises UsageError at the first loss or gradient norm that is not finite, before the step: the learning
    rate is too high.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    examples = len(data.train.ids)
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_and_decay(settings.steps(examples)))
    step = 0
    for _ in range(settings.epochs):
        model.train()
        loss = 0.0
        for batch in torch.randperm(examples, generator=generator).split(settings.batch_size):
            step += 1
            batch_loss = backward(model, data.train, batch=batch.tolist())
            _require_finite(batch_loss, f"step {step}: the loss", batch, settings)
            norm = torch.nn.utils.get_total_norm(_gradients(model))
            _require_finite(norm.item(), f"step {step}: the gradient norm", batch, settings)
            loss += batch_loss * len(batch)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            on_step()
        predicted = {name: predict(model, encoded.ids) for name, encoded in data.dev.items()}
        after_epoch(loss / examples, predicted)


def _optimizer(model: SequenceClassifier, settings: Settings) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        # AdamW multiplies it by the learning rate: at the peak of that, a step decays by weight_decay itself.
        weight_decay=settings.weight_decay / settings.learning_rate,
        fused=True,
    )


def _gradients(model: SequenceClassifier) -> list[Tensor]:
    return [weights.grad for weights in model.parameters() if weights.grad is not None]


def _require_finite(value: float, what: str, batch: Tensor, settings: Settings) -> None:
    if not math.isfinite(value):
        rows = ", ".join(str(row + 1) for row in batch.tolist())
        raise UsageError(
            f"{what} is {value} on the training examples {rows}: lower the learning rate "
            f"({settings.learning_rate:g}), or look at them"
        )


def backward(
    model: SequenceClassifier, train: Encoded, *, batch: Sequence[int], max_tokens: int = PART_TOKENS
) -> float:
    """Add the gradients of a batch's mean loss, part by part, and return that loss."""
    total = 0.0
    for part in budget_batches([len(train.ids[index]) for index in batch], max_tokens):
        chosen = [batch[index] for index in part]
        logits_NC = _logits(model, [train.ids[index] for index in chosen])
        loss = _loss(logits_NC, torch.from_numpy(train.labels[chosen]).to(logits_NC.device)) / len(batch)
        loss.backward()
        total += loss.item()
    return total


@torch.inference_mode()
def predict(model: SequenceClassifier, ids: Sequence[Sequence[int]]) -> Values:
    """The predicted label of each sequence, or a regression's value: [N]; leaves the model in eval mode.

    Raises UsageError where a logit is not finite: training diverged.
    """
    model.eval()
    predicted_N = np.empty(len(ids))
    for part in budget_batches([len(tokens) for tokens in ids], PART_TOKENS):
        logits_NC = _logits(model, [ids[index] for index in part])
        if not logits_NC.isfinite().all():
            raise UsageError("what the model answers is no finite number: lower the learning rate")
        best_N = logits_NC.argmax(dim=1) if logits_NC.shape[1] > 1 else logits_NC[:, 0]
        predicted_N[part] = best_N.cpu().numpy()
    return predicted_N


def _loss(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Summed over examples: squared error of a single label, else cross-entropy."""
    if logits_NC.shape[1] == 1:
        return mse_loss(logits_NC[:, 0], labels_N.float(), reduction="sum")
    return cross_entropy(logits_NC, labels_N.long(), reduction="sum")


def _logits(model: SequenceClassifier, ids: Sequence[Sequence[int]]) -> Tensor:
    device = model.classifier.weight.device
    with _precision(device):
        return model(PackedBatch.from_sequences(ids, device)).float()


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU, where kernels without padding know no float32; the weights stay in float32."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def _warmup_and_decay(steps: int) -> Callable[[int], float]:
    warmup = max(1, round(WARMUP * steps))
    return lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
