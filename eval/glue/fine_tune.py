"""One fine-tuning run of a classifier on a task, over packed batches, scored after every epoch.

AdamW with betas .9 and .98, a learning rate that rises and falls linearly, and a weight decay that does not
scale with it: MosaicBERT's recipe for GLUE (arXiv 2312.17482), from which ModernBERT's comes. A step takes
so many examples, in parts of a token budget that bounds memory. Axes: N examples, C labels.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from flatcoat.backbone.heads import SequenceClassifier
from flatcoat.backbone.packing import PackedBatch, budget_batches
from flatcoat.backbone.weights import read_checkpoint
from flatcoat.errors import FlatcoatError

from .data import Example, GlueData
from .measures import Values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART_TOKENS = 8192
"""Tokens that go through the model together."""

WARMUP = 0.06
"""Share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a run; ``batch_size`` in examples. Raises FlatcoatError for a bad learning rate."""

    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise FlatcoatError(f"the learning rate is {self.learning_rate}: it must be above 0 and finite")

    def steps(self, examples: int) -> int:
        """Optimiser steps over so many examples."""
        return self.epochs * -(-examples // self.batch_size)


class Encoded(NamedTuple):
    """Examples as token ids, a list each, and their labels [N]."""

    ids: list[list[int]]
    labels: Values


class EncodedData(NamedTuple):
    """A task's examples as a model reads them, the development ones by set."""

    train: Encoded
    dev: dict[str, Encoded]


AfterEpoch = Callable[[float, dict[str, Values]], None]
"""Called with the mean training loss of an epoch, and what was then found on each development set [N]."""


def fine_tune(
    model: SequenceClassifier,
    data: EncodedData,
    settings: Settings,
    seed: int,
    after_epoch: AfterEpoch,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train ``model`` in place; one label makes a regression. On a CPU a seed gives the same model again.

    Raises FlatcoatError at the first loss or gradient norm that is not finite, before the step is taken.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    examples = len(data.train.ids)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        # AdamW multiplies it by the learning rate: at the peak of that, a step decays by weight_decay itself.
        weight_decay=settings.weight_decay / settings.learning_rate,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_and_decay(settings.steps(examples)))
    step = 0
    for _ in range(settings.epochs):
        model.train()
        loss = 0.0
        for batch in torch.randperm(examples, generator=generator).split(settings.batch_size):
            step += 1
            of_batch = backward(model, data.train, batch.tolist())
            _require_finite(of_batch, f"step {step}: the loss", batch, settings)
            norm = torch.nn.utils.get_total_norm(_gradients(model))
            _require_finite(norm.item(), f"step {step}: the gradient norm", batch, settings)
            loss += of_batch * len(batch)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            on_step()
        after_epoch(
            loss / examples, {name: predict(model, encoded.ids) for name, encoded in data.dev.items()}
        )


def _gradients(model: SequenceClassifier) -> list[Tensor]:
    return [weights.grad for weights in model.parameters() if weights.grad is not None]


def _require_finite(value: float, what: str, batch: Tensor, settings: Settings) -> None:
    if not math.isfinite(value):
        rows = ", ".join(str(row + 1) for row in batch.tolist())
        raise FlatcoatError(
            f"{what} is {value} on the training examples {rows}: lower the learning rate "
            f"({settings.learning_rate:g}), or look at them"
        )


def backward(
    model: SequenceClassifier, train: Encoded, batch: Sequence[int], max_tokens: int = PART_TOKENS
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
    """The label found for each sequence, or a regression's value: [N]; the model is left evaluating.

    Raises FlatcoatError where the model gives no finite number.
    """
    model.eval()
    found_N = np.empty(len(ids))
    for part in budget_batches([len(tokens) for tokens in ids], PART_TOKENS):
        logits_NC = _logits(model, [ids[index] for index in part])
        if not logits_NC.isfinite().all():
            raise FlatcoatError("what the model answers is no finite number: lower the learning rate")
        best_N = logits_NC.argmax(dim=1) if logits_NC.shape[1] > 1 else logits_NC[:, 0]
        found_N[part] = best_N.cpu().numpy()
    return found_N


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


_LARGE = 1024
"""Width of ModernBERT-large."""


@dataclass(frozen=True)
class Start:
    """A ModernBERT checkpoint; ``size`` says whose hyper-parameters suit it, ``limit`` is in tokens."""

    path: str
    size: Literal["base", "large"]
    limit: int
    tokenizer: "PreTrainedTokenizerBase"

    @staticmethod
    def open(name_or_path: str | Path) -> "Start":
        """Raises FlatcoatError where there is no such checkpoint, or no tokenizer beside it."""
        from transformers import AutoTokenizer

        config, _ = read_checkpoint(name_or_path)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
        except (OSError, ValueError, ImportError) as error:
            raise FlatcoatError(
                f"{name_or_path} has no tokenizer that transformers loads: save its own beside it"
            ) from error
        size = "large" if config.hidden_size >= _LARGE else "base"
        return Start(str(name_or_path), size, config.max_position_embeddings, tokenizer)

    def classifier(self, num_labels: int, seed: int) -> SequenceClassifier:
        """The encoder under a newly drawn classifier, in float32, on the GPU where there is one."""
        torch.manual_seed(seed)
        model = SequenceClassifier.from_pretrained(self.path, torch.float32, num_labels)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def encode(self, data: GlueData) -> tuple[EncodedData, list[str]]:
        """Token ids of a task's examples, and notices that count those longer than the model reads: cut."""
        notices: list[str] = []
        train = self._encode(data.train, "training examples", notices)
        dev = {name: self._encode(examples, f"of {name}", notices) for name, examples in data.dev.items()}
        return EncodedData(train, dev), notices

    def _encode(self, examples: Sequence[Example], what: str, notices: list[str]) -> Encoded:
        ids = self._tokenize(examples, truncation=False)
        long = [index for index, tokens in enumerate(ids) if len(tokens) > self.limit]
        if long:
            cut = self._tokenize([examples[index] for index in long], truncation=True, max_length=self.limit)
            for index, tokens in zip(long, cut, strict=True):
                ids[index] = tokens
            notices.append(f"{len(long):,} {what} are longer than the model's {self.limit:,} tokens: cut")
        return Encoded(ids, np.array([example.label for example in examples]))

    def _tokenize(self, examples: Sequence[Example], **options: Any) -> list[list[int]]:
        columns = [list(column) for column in zip(*(example.texts for example in examples), strict=True)]
        pairs = columns[1] if len(columns) > 1 else None
        return cast(list[list[int]], self.tokenizer(columns[0], pairs, verbose=False, **options)["input_ids"])
