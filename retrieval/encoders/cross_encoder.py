"""Cross-encoders read from their files and computed packed, without importing transformers.

Any other than those of the backbone's families, and any with a setting unknown here, is left to
sentence-transformers. Axes: P pairs of a query and a document.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch

from flatcoat.backbone.heads import SequenceClassifier, count_labels, head_of
from flatcoat.backbone.packing import PackedBatch, budget_batches
from flatcoat.backbone.weight_files import FLOAT_FILE
from flatcoat.errors import DataError, FlatcoatError

from .backbone import beneath_head
from .batches import TOKEN_BUDGET
from .checkpoint import MAX_TOKENS, read_config, saved_dtype
from .checkpoint_files import Find, read_json
from .checkpoint_modules import Unsupported, arrays_in, class_name, present, require, settings_in
from .contract import Precision, weights_hash
from .fast_tokenizer import FastTokenizer
from .pair_tokenizer import Pair, PairTokenizer
from .weights_cache import remembered_hash

logger = logging.getLogger(__name__)


def try_load_cross_encoder(
    find: Find,
    name: str,
    *,
    precision: Precision | None = None,
    max_length: int | None = None,
    device: str | None = None,
) -> "PackedCrossEncoder | None":
    """A cross-encoder with the same scores as by sentence-transformers; None where that must load it.

    The reason for None is logged (debug). Raises DataError for a model with several outputs, and UsageError
    for a precision that the model does not have.
    """
    if device is None and torch.backends.mps.is_available():
        logger.debug("a cross-encoder is left to its own library: it chooses Apple's GPU")
        return None
    try:
        files = read_cross_encoder(find)
    except Unsupported as reason:
        logger.debug("a cross-encoder is left to its own library: %s", reason)
        return None
    return PackedCrossEncoder(files, name, precision=precision, max_length=max_length, device=device)


def read_cross_encoder(find: Find) -> "CrossEncoderFiles":
    """The files of a cross-encoder, read as data. Raises Unsupported, with the reason, for any other."""
    try:
        return CrossEncoderFiles(find)
    except FlatcoatError as error:
        raise Unsupported(str(error)) from error
    # Errors that only a mistake in the code raises (TypeError, AttributeError, KeyError) are let through.
    except (OSError, ValueError) as error:
        raise Unsupported(f"{type(error).__name__}: {error}") from error


class CrossEncoderFiles:
    """Tokenizer, config and weights of a cross-encoder."""

    def __init__(self, find: Find) -> None:
        _require_plain(find)
        self.tokenizer = FastTokenizer(
            present(find, "tokenizer.json"), settings_in(find, "tokenizer_config.json")
        )
        self.pairs = PairTokenizer(self.tokenizer)
        values = settings_in(find, "config.json")
        self.config = read_config(values)
        known = head_of(self.config, "sequence").architecture
        require(values.get("architectures") == [known], f"its class is {values.get('architectures')!r:.60}")
        rows = self.config.vocab_size
        require(self.tokenizer.highest_id < rows, f"it has {rows} rows for more token ids")
        self.weights = arrays_in(find, FLOAT_FILE, as_float32=saved_dtype(values) is not None)
        self.file = present(find, FLOAT_FILE)
        self.classifier = SequenceClassifier.of(
            self.config,
            {name: torch.from_numpy(array) for name, array in self.weights.items()},
            name=self.file.parent,
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest pair by default, as sentence-transformers infers it."""
        return min(self.tokenizer.model_max_length, self.config.max_position_embeddings, self.bound)

    @property
    def bound(self) -> int:
        """Tokens for which the model has positions."""
        return min(self.config.longest, MAX_TOKENS)


class PackedCrossEncoder:
    """Scores pairs of a query and a document by reading both together; a ``Reranker``.

    ``precision`` is that of the encoder; the default is float32, in which its head always computes.
    """

    def __init__(
        self,
        files: CrossEncoderFiles,
        name: str,
        *,
        precision: Precision | None = None,
        max_length: int | None = None,
        device: str | None = None,
    ) -> None:
        labels = count_labels(files.config)
        if labels != 1:
            raise DataError(
                f"cross-encoder {name} gives {labels} scores per pair: a model with one score is needed"
            )
        self.name, self._files, self._precision = name, files, precision
        self.max_length = files.longest if max_length is None else min(max_length, files.bound)
        chosen = "cpu" if precision == "int8" else "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or chosen)
        self._classifier = files.classifier.to(self.device)
        if precision is not None:
            # The head reads float32 whatever the encoder computes in.
            self._classifier.set_submodule("model", beneath_head(files.classifier.model, precision))

    def describe(self) -> dict[str, Any]:
        """Weights and length, and the precision where one was named."""
        described = {"kind": "cross-encoder", "weights": self._weights_hash, "length": self.max_length}
        return described | ({"precision": self._precision} if self._precision else {})

    @cached_property
    def _weights_hash(self) -> str:
        return remembered_hash([self._files.file], lambda: weights_hash(self._files.weights))

    def scorer(self, queries: Sequence[str]) -> Callable[[Sequence[str], np.ndarray], np.ndarray]:
        """A function from documents and pairs (int64 [P, 2]) to logits (float32 [P])."""
        tokenizer, length = self._files.pairs, self.max_length
        queries_ids = tokenizer.tokens(queries)

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            documents_ids = tokenizer.tokens(documents)
            pairs = [
                tokenizer.pair(queries_ids[query], documents_ids[place], length)
                for query, place in pairs_P2.tolist()
            ]
            return self._scores(pairs)

        return score

    @torch.inference_mode()
    def _scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        scores_P = np.zeros(len(pairs), dtype=np.float32)
        for indices in budget_batches([len(pair.ids) for pair in pairs], TOKEN_BUDGET):
            batch = PackedBatch.from_sequences([pairs[index].ids for index in indices], self.device)
            if self._files.config.type_vocab_size > 1:
                types = list(chain.from_iterable(pairs[index].types for index in indices))
                batch = replace(batch, token_types_T=torch.tensor(types, device=self.device))
            scores_P[indices] = self._classifier(batch)[:, 0].float().cpu().numpy()
        return scores_P


def _require_plain(find: Find) -> None:
    """That sentence-transformers 6, which lists a model's modules, would run the classifier alone."""
    listed = find("modules.json")
    if listed is None:
        return
    modules = read_json(listed, list)
    plain = [class_name(module) for module in modules] == ["Transformer"] and modules[0]["path"] == ""
    require(plain, "its modules.json names more than a transformer")
    settings = settings_in(find, "sentence_bert_config.json")
    require(settings.get("transformer_task") == "sequence-classification", "its transformer is no classifier")
