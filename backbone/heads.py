"""Heads on the encoder: masked language model, sequence classifier, token classifier.

Source: arXiv 2412.13663 and the published checkpoints; of other encoders, what ``families`` says.
Axes: N sequences, T tokens of all sequences together, D width, V vocabulary, C labels.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from flatcoat.errors import DataError, UsageError

from .config import ModernBertConfig
from .elementwise import ACTIVATIONS
from .families.head import Head, Task
from .layers import make_norm, truncated_normal
from .model import ModernBert
from .packing import PackedBatch
from .weight_files import EMBEDDINGS, ENCODER_PREFIX
from .weights import fill, init_empty_weights, read_checkpoint, require_layers, save, weights_for


def _modernbert(task: str, last: str) -> Head:
    return Head(
        architecture=f"ModernBertFor{task}",
        modules={"head.dense": "head.dense", "head.norm": "head.norm", last: last},
        activation="classifier_activation",
        dense_bias="classifier_bias",
    )


_MODERNBERT: dict[Task, Head] = {
    "masked": _modernbert("MaskedLM", "decoder"),
    "sequence": _modernbert("SequenceClassification", "classifier"),
    "token": _modernbert("TokenClassification", "classifier"),
}
_ACTIVATIONS = ACTIVATIONS | {"tanh": torch.tanh}


class PredictionHead(nn.Module):
    """Dense, activation, norm: [..., D] to [..., ``width_out``]."""

    def __init__(
        self, width: int, width_out: int, *, activation: str, norm: nn.Module, bias: bool, std: float
    ):
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.dense = nn.Linear(width, width_out, bias=bias)
        self.norm = norm
        truncated_normal(self.dense.weight, std)
        if self.dense.bias is not None:
            nn.init.zeros_(self.dense.bias)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden_TD)))


def head_of(config: ModernBertConfig, task: Task) -> Head:
    """What the encoder's own library has between it and the logits of a task."""
    return _MODERNBERT[task] if config.published is None else config.published.heads[task]


def prediction_head(config: ModernBertConfig, task: Task) -> nn.Module:
    """A newly initialised head, without the last layer; an identity where the encoder has none."""
    head = head_of(config, task)
    if "head.dense" not in head.modules:
        return nn.Identity()
    width = config.hidden_size if task != "masked" else _decoded_width(config)
    norm: nn.Module = nn.Identity()
    if "head.norm" in head.modules:
        norm = make_norm(config.norm_kind, width, eps=config.norm_eps, bias=config.norm_bias)
    return PredictionHead(
        config.hidden_size,
        width,
        activation=getattr(config, head.activation, head.activation),
        norm=norm,
        bias=not head.dense_bias or getattr(config, head.dense_bias),
        std=config.initializer_range / (2 * config.num_hidden_layers) ** 0.5,
    )


def _decoded_width(config: ModernBertConfig) -> int:
    """The width of token embeddings, which a decoder shares."""
    return config.embedding_size or config.hidden_size


class MaskedLanguageModel(nn.Module):
    """The encoder with its masked-language-model head; the decoder shares the token embeddings.

    ``model(batch)`` returns logits [T, V]; ``positions`` (int64) limits them to those tokens.
    The decoder has weights of its own where the config's ``tie_word_embeddings`` is False.

    >>> sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    >>> model = MaskedLanguageModel(ModernBertConfig(vocab_size=10, **sizes))
    >>> model(PackedBatch.from_sequences([[1, 2], [3]]), torch.tensor([1])).shape
    torch.Size([1, 10])
    """

    task: ClassVar[Task] = "masked"

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        self.model = ModernBert(config)
        self.head = prediction_head(config, self.task)
        self.decoder = nn.Linear(_decoded_width(config), config.vocab_size, bias=config.decoder_bias)
        if config.tie_word_embeddings:
            self.decoder.weight = self.model.embeddings.tok_embeddings.weight
        else:
            truncated_normal(
                self.decoder.weight, config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
            )
        if self.decoder.bias is not None:
            nn.init.zeros_(self.decoder.bias)

    def forward(self, batch: PackedBatch, positions: Tensor | None = None) -> Tensor:
        hidden_TD = self.model(batch)
        if positions is not None:
            hidden_TD = hidden_TD[positions]
        return self.decoder(self.head(hidden_TD))

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "MaskedLanguageModel":
        """Load a masked-language-model checkpoint, the tied decoder present or missing.

        Raises NotFoundError where there is no such checkpoint, DataError where it has no such head.
        """
        config, whole = read_checkpoint(name_or_path)
        state = weights_for(config, whole, MaskedLanguageModel.task)
        require_layers(config, state, name=name_or_path)
        with init_empty_weights():
            model = MaskedLanguageModel(config)
        _keep_rest(model, whole)
        if config.tie_word_embeddings and EMBEDDINGS in state:
            state["decoder.weight"] = state[EMBEDDINGS]
        fill(model, state, name=name_or_path, dtype=dtype)
        if config.tie_word_embeddings:
            model.decoder.weight = model.model.embeddings.tok_embeddings.weight
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
        _save(self, folder)


class Classifier(nn.Module):
    """Base of the two classifiers: head, dropout and a linear layer over the encoder.

    ``num_labels`` replaces the labels of the config, which ``id2label`` names.
    """

    task: ClassVar[Task]

    def __init__(self, config: ModernBertConfig, num_labels: int | None = None):
        super().__init__()
        self.config = config if num_labels is None else with_labels(config, num_labels)
        self.model = ModernBert(config)
        self.head = prediction_head(config, self.task)
        self.drop = nn.Dropout(_dropout(config, head_of(config, self.task)))
        self.classifier = classifier_layer(self.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        dtype: torch.dtype | None = None,
        *,
        num_labels: int | None = None,
    ) -> Self:
        """Load a classifier, or with ``num_labels`` start one from any checkpoint, in evaluation mode.

        A new classifier keeps the checkpoint's encoder and its ``head``, if any (of a masked language model
        or another classifier); the rest is initialised. Raises NotFoundError
        where there is no such checkpoint, UsageError where it has no classifier and ``num_labels`` is None.
        """
        config, whole = read_checkpoint(name_or_path)
        return cls.of(config, whole, name=name_or_path, dtype=dtype, num_labels=num_labels)

    @classmethod
    def of(
        cls,
        config: ModernBertConfig,
        whole: dict[str, Tensor],
        *,
        name: str | Path,
        dtype: torch.dtype | None = None,
        num_labels: int | None = None,
    ) -> Self:
        """The same from a checkpoint's config and its weights by their names on disk."""
        state = weights_for(config, whole, cls.task)
        if num_labels is None and "classifier.weight" not in state:
            raise UsageError(f"{name} has no classifier: give num_labels to start one on its encoder")
        if num_labels is not None:
            config = with_labels(config, num_labels)
            state = _new_classifier(config, state, cls.task)
        require_layers(config, state, name=name)
        with init_empty_weights():
            model = cls(config)
        if num_labels is None:
            _keep_rest(model, whole)
        return fill(model, state, name=name, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, with the labels, and ``model.safetensors`` as transformers reads them."""
        _save(self, folder)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.classifier(self.drop(self.head(hidden)))


class SequenceClassifier(Classifier):
    """One set of logits for each sequence, from its first token or from the mean over its tokens.

    ``model(batch)`` returns logits [N, C] in the order of the batch (``unpad`` sorts its rows by length);
    the config's ``classifier_pooling`` chooses "cls", "mean" or "late". One label makes a regression.

    >>> sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    >>> model = SequenceClassifier(ModernBertConfig(vocab_size=10, **sizes), num_labels=3)
    >>> model(PackedBatch.from_sequences([[1, 2], [3]])).shape
    torch.Size([2, 3])
    """

    task = "sequence"

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden_TD = self.model(batch)
        if self.config.classifier_pooling == "late":
            return self.classifier(_means(self.drop(self.head(hidden_TD)), batch))
        if self.config.classifier_pooling == "mean":
            return self._logits(_means(hidden_TD, batch))
        return self._logits(hidden_TD[batch.cu_seqlens[:-1].long()])


class TokenClassifier(Classifier):
    """One set of logits for each token: ``model(batch)`` returns [T, C] in the order of the batch."""

    task = "token"

    def forward(self, batch: PackedBatch) -> Tensor:
        return self._logits(self.model(batch))


def classifier_layer(config: ModernBertConfig) -> nn.Linear:
    """A newly initialised linear layer from D to the labels of a config."""
    layer = nn.Linear(config.hidden_size, count_labels(config))
    truncated_normal(layer.weight, config.hidden_size**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def count_labels(config: ModernBertConfig) -> int:
    """Number of labels of a config: ``id2label``, else ``num_labels``, else 2, as transformers has it."""
    named = config.extra.get("id2label")
    return len(named) if named else int(config.extra.get("num_labels") or 2)


def with_labels(config: ModernBertConfig, num_labels: int) -> ModernBertConfig:
    """The config for a new task with ``num_labels`` labels. Raises UsageError below 1."""
    if num_labels < 1:
        raise UsageError(f"num_labels is {num_labels}: a classifier needs at least 1")
    names = [f"LABEL_{label}" for label in range(num_labels)]
    # The loss that transformers would choose by it is another task's.
    extra = {
        name: value for name, value in config.extra.items() if name not in ("num_labels", "problem_type")
    }
    extra["id2label"] = {str(label): name for label, name in enumerate(names)}
    extra["label2id"] = {name: label for label, name in enumerate(names)}
    return replace(config, extra=extra)


def _new_classifier(config: ModernBertConfig, state: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
    """The checkpoint's encoder and head; a head, if it has none, and the classifier are initialised."""
    dtype = state[EMBEDDINGS].dtype if EMBEDDINGS in state else None
    parts = {"head": prediction_head(config, task), "classifier": classifier_layer(config)}
    drawn = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.to(dtype).state_dict().items()
    }
    return drawn | {
        name: tensor for name, tensor in state.items() if name.startswith((ENCODER_PREFIX, "head."))
    }


def _dropout(config: ModernBertConfig, head: Head) -> float:
    values = [config.extra[key] for key in head.dropout if config.extra.get(key) is not None]
    if not values:
        return 0.1 if head.dropout else config.classifier_dropout
    if type(values[0]) not in (int, float) or not 0 <= values[0] <= 1:
        raise DataError(f"the dropout of its classifier is {values[0]!r:.40}: a number from 0 to 1 is wanted")
    return float(values[0])


def _keep_rest(model: MaskedLanguageModel | Classifier, whole: dict[str, Tensor]) -> None:
    """Keep the weights that the family's library uses and this does not, to be saved again."""
    config = model.config
    if config.published is not None:
        model.model.rest = config.published.beside_head(
            model.task, whole, layers=config.layer_count, tied=config.tie_word_embeddings
        )


def _save(model: MaskedLanguageModel | Classifier, folder: str | Path) -> None:
    architecture = head_of(model.config, model.task).architecture
    save(
        model,
        folder,
        config=model.config,
        architecture=architecture,
        rest=model.model.rest,
        task=model.task,
    )


def _means(hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    lengths_N = torch.tensor(batch.lengths, dtype=torch.long, device=hidden_TD.device)
    sequence_T = torch.repeat_interleave(lengths_N, output_size=len(hidden_TD))
    # Thousands of tokens would be lost in a bfloat16 sum.
    sums_ND = torch.zeros(len(lengths_N), hidden_TD.shape[-1], device=hidden_TD.device)
    means_ND = sums_ND.index_add(0, sequence_T, hidden_TD.float()) / lengths_N[:, None]
    return means_ND.to(hidden_TD.dtype)
