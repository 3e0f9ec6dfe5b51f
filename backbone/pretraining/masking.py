"""Masked language modelling: which tokens are predicted, and what stands in their place (arXiv 1810.04805).

Axes: T tokens of all sequences together, M tokens that are predicted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tokenizer import word_starts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MASKED, _REPLACED = 0.8, 0.1
"""Shares of the predicted tokens; the rest is left alone."""


class Masked(NamedTuple):
    """The ids that the model sees [T], the positions to predict [M] and the ids that stood there [M]."""

    input_ids_T: NDArray[np.int64]
    positions_M: NDArray[np.int64]
    labels_M: NDArray[np.int64]


@dataclass(frozen=True)
class Masker:
    """Chooses ``share`` of the tokens that are not special; of these 80 % are masked, 10 % get a random id.

    Random ids are drawn from the whole vocabulary. ``starts_word_V``, where given, says which tokens begin a
    word: words are then chosen whole, and each of their tokens is masked, replaced or left by itself.

    >>> masker = Masker(mask_id=4, vocab_size=100, special_ids=(0, 1, 4), share=0.5)
    >>> masked = masker(np.arange(1000) % 100, np.random.default_rng(0))
    >>> len(masked.positions_M), bool(np.isin(masked.labels_M, (0, 1, 4)).any())
    (460, False)
    """

    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    share: float
    starts_word_V: NDArray[np.bool_] | None = None

    @staticmethod
    def of(tokenizer: "PreTrainedTokenizerBase", share: float, *, whole_words: bool = False) -> "Masker":
        """The masker for a tokenizer, which has a mask token."""
        assert isinstance(tokenizer.mask_token_id, int)
        starts = np.array(word_starts(tokenizer)) if whole_words else None
        return Masker(
            tokenizer.mask_token_id, len(tokenizer), tuple(tokenizer.all_special_ids), share, starts
        )

    def __call__(self, ids_T: NDArray[np.int64], generator: np.random.Generator) -> Masked:
        chosen_T = self._choose(ids_T, generator) & ~np.isin(ids_T, self.special_ids)
        (positions_M,) = np.nonzero(chosen_T)
        labels_M = ids_T[positions_M]
        draws_M = generator.random(len(positions_M))
        random_M = generator.integers(self.vocab_size, size=len(positions_M))
        shown_M = np.where(draws_M < _MASKED, self.mask_id, labels_M)
        is_replaced_M = (draws_M >= _MASKED) & (draws_M < _MASKED + _REPLACED)
        input_ids_T = ids_T.copy()
        input_ids_T[positions_M] = np.where(is_replaced_M, random_M, shown_M)
        return Masked(input_ids_T, positions_M, labels_M)

    def _choose(self, ids_T: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
        if self.starts_word_V is None:
            return generator.random(len(ids_T)) < self.share
        word_T = np.cumsum(self.starts_word_V[ids_T])
        return (generator.random(len(ids_T) + 1) < self.share)[word_T]
