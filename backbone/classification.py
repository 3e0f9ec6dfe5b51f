"""Classifiers on the encoder, of whole sequences and of tokens. Source: arXiv 2412.13663 and its checkpoints.

Axes: N sequences, T tokens of all sequences together, D width, C labels.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from .. import FlatcoatError
from .config import ModernBertConfig
from .heads import prediction_head
from .layers import truncated_normal
from .model import ModernBert
from .packing import PackedBatch
from .weightless import weightless
from .weights import EMBEDDINGS, ENCODER_PREFIX, fill, read_checkpoint, require_layers, save, under_head


class Classifier(nn.Module):
    """What the two classifiers share: head, dropout and a linear layer over the encoder.

    ``num_labels`` replaces the labels that the config names; without it they are those of ``id2label``.
    """

    architecture: ClassVar[str]
    """transformers' class for these weights."""

    def __init__(self, config: ModernBertConfig, num_labels: int | None = None):
        super().__init__()
        self.config = config if num_labels is None else with_labels(config, num_labels)
        self.model = ModernBert(config)
        self.head = prediction_head(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = classifier_layer(self.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        dtype: torch.dtype | None = None,
        num_labels: int | None = None,
    ) -> Self:
        """Load a classifier, or with ``num_labels`` start one from any checkpoint, in evaluation mode.

        A classifier that is started keeps the checkpoint's encoder, and its ``head`` where there is one (a
        masked language model or another classifier); the rest is drawn anew. Raises FlatcoatError where there
        is no such checkpoint, or it has no classifier and ``num_labels`` is not given.
        """
        config, state = read_checkpoint(name_or_path)
        state = under_head(state)
        if num_labels is None and "classifier.weight" not in state:
            raise FlatcoatError(
                f"{name_or_path} has no classifier: give num_labels to start one on its encoder"
            )
        if num_labels is not None:
            config = with_labels(config, num_labels)
            state = _new_classifier(config, state)
        require_layers(config, state, name_or_path)
        with weightless():
            model = cls(config)
        return fill(model, state, name_or_path, dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, with the labels, and ``model.safetensors`` as transformers reads them."""
        save(self, folder, config=self.config, architecture=self.architecture)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.classifier(self.drop(self.head(hidden)))


class SequenceClassifier(Classifier):
    """One set of logits for each sequence, from its first token or from the mean over its tokens.

    ``model(batch)`` returns logits [N, C] in the order of the batch (``unpad`` sorts its rows by length);
    the config's ``classifier_pooling`` chooses "cls" or "mean". One label makes a regression.
    """

    architecture = "ModernBertForSequenceClassification"

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden_TD = self.model(batch)
        if self.config.classifier_pooling == "mean":
            return self._logits(_means(hidden_TD, batch))
        return self._logits(hidden_TD[batch.cu_seqlens[:-1].long()])


class TokenClassifier(Classifier):
    """One set of logits for each token: ``model(batch)`` returns [T, C] in the order of the batch."""

    architecture = "ModernBertForTokenClassification"

    def forward(self, batch: PackedBatch) -> Tensor:
        return self._logits(self.model(batch))


def classifier_layer(config: ModernBertConfig) -> nn.Linear:
    """The linear layer from D to the labels of a config, newly drawn."""
    layer = nn.Linear(config.hidden_size, count_labels(config))
    truncated_normal(layer.weight, config.hidden_size**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def count_labels(config: ModernBertConfig) -> int:
    """How many labels a config names: ``id2label``, else ``num_labels``, else 2, as transformers has it."""
    named = config.extra.get("id2label")
    return len(named) if named else int(config.extra.get("num_labels") or 2)


def with_labels(config: ModernBertConfig, num_labels: int) -> ModernBertConfig:
    """The config for a new task of so many labels. Raises FlatcoatError below 1."""
    if num_labels < 1:
        raise FlatcoatError(f"num_labels is {num_labels}: a classifier needs at least 1")
    names = [f"LABEL_{label}" for label in range(num_labels)]
    # The loss that transformers would choose by it is another task's.
    extra = {
        name: value for name, value in config.extra.items() if name not in ("num_labels", "problem_type")
    }
    extra["id2label"] = {str(label): name for label, name in enumerate(names)}
    extra["label2id"] = {name: label for label, name in enumerate(names)}
    return replace(config, extra=extra)


def _new_classifier(config: ModernBertConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's encoder and head, and what a classifier needs beyond them drawn anew."""
    dtype = state[EMBEDDINGS].dtype if EMBEDDINGS in state else None
    parts = {"head": prediction_head(config), "classifier": classifier_layer(config)}
    drawn = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.to(dtype).state_dict().items()
    }
    return drawn | {
        name: tensor for name, tensor in state.items() if name.startswith((ENCODER_PREFIX, "head."))
    }


def _means(hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    lengths_N = torch.tensor(batch.lengths, dtype=torch.long, device=hidden_TD.device)
    sequence_T = torch.repeat_interleave(lengths_N, output_size=len(hidden_TD))
    # Thousands of tokens would be lost in a bfloat16 sum.
    sums_ND = torch.zeros(len(lengths_N), hidden_TD.shape[-1], device=hidden_TD.device)
    means_ND = sums_ND.index_add(0, sequence_T, hidden_TD.float()) / lengths_N[:, None]
    return means_ND.to(hidden_TD.dtype)
