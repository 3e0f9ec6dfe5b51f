"""The ModernBERT checkpoint that fine-tuning starts from, with its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch

from flatcoat.backbone.heads import SequenceClassifier
from flatcoat.backbone.weights import read_checkpoint
from flatcoat.errors import DataError

from .data import Example, GlueData
from .tasks import Values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LARGE_WIDTH = 1024  # of ModernBERT-large


class Encoded(NamedTuple):
    """The token ids of every example, and the labels [N]."""

    ids: list[list[int]]
    labels: Values


class EncodedData(NamedTuple):
    """A task's encoded examples, development examples by set."""

    train: Encoded
    dev: dict[str, Encoded]


@dataclass(frozen=True)
class Checkpoint:
    """A ModernBERT checkpoint; ``size`` chooses the paper's hyper-parameters, ``max_tokens`` bounds a text.

    >>> Checkpoint.open("answerdotai/ModernBERT-base").size  # doctest: +SKIP
    'base'
    """

    path: str
    size: Literal["base", "large"]
    max_tokens: int
    tokenizer: "PreTrainedTokenizerBase"

    @staticmethod
    def open(name_or_path: str | Path) -> "Checkpoint":
        """Open a folder or a hub name.

        Raises DataError for a checkpoint without a tokenizer, and as ``read_checkpoint`` does.
        """
        from transformers import AutoTokenizer

        config, _ = read_checkpoint(name_or_path)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
        except (OSError, ValueError, ImportError) as error:
            raise DataError(
                f"{name_or_path} has no tokenizer that transformers loads: save its own beside it"
            ) from error
        size = "large" if config.hidden_size >= _LARGE_WIDTH else "base"
        return Checkpoint(str(name_or_path), size, config.max_position_embeddings, tokenizer)

    def classifier(self, num_labels: int, seed: int) -> SequenceClassifier:
        """The encoder with a randomly initialised classifier, in float32, on the GPU where there is one."""
        torch.manual_seed(seed)
        model = SequenceClassifier.from_pretrained(self.path, torch.float32, num_labels=num_labels)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def encode(self, data: GlueData) -> tuple[EncodedData, list[str]]:
        """Token ids of a task's examples, and notices that count the texts cut at ``max_tokens``."""
        notices: list[str] = []
        train = self._encode(data.train, "training examples", notices)
        dev = {name: self._encode(examples, f"of {name}", notices) for name, examples in data.dev.items()}
        return EncodedData(train, dev), notices

    def _encode(self, examples: Sequence[Example], what: str, notices: list[str]) -> Encoded:
        ids = self._tokenize(examples, truncation=False)
        long = [index for index, tokens in enumerate(ids) if len(tokens) > self.max_tokens]
        if long:
            cut = self._tokenize(
                [examples[index] for index in long], truncation=True, max_length=self.max_tokens
            )
            for index, tokens in zip(long, cut, strict=True):
                ids[index] = tokens
            notices.append(
                f"{len(long):,} {what} are longer than the model's {self.max_tokens:,} tokens: cut"
            )
        return Encoded(ids, np.array([example.label for example in examples]))

    def _tokenize(self, examples: Sequence[Example], **options: Any) -> list[list[int]]:
        columns = [list(column) for column in zip(*(example.texts for example in examples), strict=True)]
        pairs = columns[1] if len(columns) > 1 else None
        return cast(list[list[int]], self.tokenizer(columns[0], pairs, verbose=False, **options)["input_ids"])
