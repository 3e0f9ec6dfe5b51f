"""The checkpoint that fine-tuning starts from, and GLUE's examples as its tokenizer reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from .. import FlatcoatError
from ..backbone.classification import SequenceClassifier
from ..backbone.weights import read_checkpoint
from .glue_data import Example, GlueData
from .glue_training import Encoded, EncodedData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
