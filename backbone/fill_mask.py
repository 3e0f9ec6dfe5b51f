"""Fill the masks of a text with the tokens that a masked language model finds most likely."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast, overload

import torch

from flatcoat.errors import ConflictError, NotFoundError, UsageError

from .heads import MaskedLanguageModel
from .packing import PackedBatch, budget_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_TOKENS = 8192
"""Tokens that go through the model together."""


class Filled(NamedTuple):
    """A token for a mask, its probability among all tokens, and the text with it in the mask's place.

    ``text`` is decoded from tokens. Special tokens are left out of it, but where a text has several masks all
    of them stay, so that the other masks show (as in transformers' fill-mask pipeline).
    """

    token: str
    token_id: int
    score: float
    text: str


class FillMask:
    """Fills masks with the likeliest tokens of a masked language model.

    >>> fill = FillMask.from_pretrained("model")  # doctest: +SKIP
    >>> fill("Dogs like to [MASK].", top_k=1)[0][0].token  # doctest: +SKIP
    'bark'

    The model is put into evaluation mode. Raises UsageError for a tokenizer without a
    mask token, ConflictError for one with more tokens than the model.
    """

    def __init__(self, model: MaskedLanguageModel, tokenizer: "PreTrainedTokenizerBase"):
        mask_token, mask_id = tokenizer.mask_token, tokenizer.mask_token_id
        if not isinstance(mask_token, str) or not isinstance(mask_id, int):
            raise UsageError("the tokenizer has no mask token: take the one that the model was trained with")
        if len(tokenizer) > model.config.vocab_size:
            raise ConflictError(
                f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}: "
                "take the one that the model was trained with"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.mask_token = mask_token
        self.mask_id = mask_id

    @staticmethod
    def from_pretrained(name_or_path: str | Path, dtype: torch.dtype | None = None) -> "FillMask":
        """Load a masked language model and the tokenizer beside it.

        Raises as ``MaskedLanguageModel.from_pretrained`` does, and NotFoundError where there is no tokenizer.
        """
        from transformers import AutoTokenizer

        model = MaskedLanguageModel.from_pretrained(name_or_path, dtype)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
        except (OSError, ValueError, ImportError) as error:
            raise NotFoundError(
                f"{name_or_path} has no tokenizer that transformers loads: save the one that the model was "
                "trained with beside it"
            ) from error
        return FillMask(model, tokenizer)

    @overload
    def __call__(self, texts: str, top_k: int = 5) -> list[list[Filled]]: ...

    @overload
    def __call__(self, texts: list[str], top_k: int = 5) -> list[list[list[Filled]]]: ...

    def __call__(
        self, texts: str | list[str], top_k: int = 5
    ) -> list[list[Filled]] | list[list[list[Filled]]]:
        """For each mask of a text, from left to right, ``top_k`` fillings, the likeliest first.

        A list of texts gives a list of such lists. Each mask is judged with the others still in place. Raises
        UsageError for a text without a mask or longer than the model reads, or a ``top_k`` out of range.
        """
        vocab_size = self.model.config.vocab_size
        if not 1 <= top_k <= vocab_size:
            raise UsageError(f"top_k is {top_k}: the model has 1 to {vocab_size} tokens to offer")
        if isinstance(texts, str):
            return self._fill([self._tokenize(texts)], top_k)[0]
        sequences = [self._tokenize(text) for text in texts]
        filled: list[list[list[Filled]]] = [[] for _ in sequences]
        for batch in budget_batches([len(ids) for ids in sequences], BATCH_TOKENS):
            found = self._fill([sequences[index] for index in batch], top_k)
            for index, masks in zip(batch, found, strict=True):
                filled[index] = masks
        return filled

    def _tokenize(self, text: str) -> list[int]:
        ids = cast(list[int], self.tokenizer(text, verbose=False)["input_ids"])
        longest = self.model.config.max_position_embeddings
        if self.mask_id not in ids:
            raise UsageError(f"no {self.mask_token} in {text[:60]!r}: write one where a token is wanted")
        if len(ids) > longest:
            raise UsageError(f"{text[:60]!r} has {len(ids)} tokens, the model reads {longest}: shorten it")
        return ids

    @torch.inference_mode()
    def _fill(self, sequences: list[list[int]], top_k: int) -> list[list[list[Filled]]]:
        device = self.model.decoder.weight.device
        batch = PackedBatch.from_sequences(sequences, device)
        positions = torch.nonzero(batch.input_ids_T == self.mask_id).flatten()
        scores, tokens = self.model(batch, positions).float().softmax(dim=-1).topk(top_k)
        best = zip(scores.tolist(), tokens.tolist(), strict=True)
        return [
            [self._name(ids, place, *next(best)) for place, token in enumerate(ids) if token == self.mask_id]
            for ids in sequences
        ]

    def _name(self, ids: list[int], place: int, scores: list[float], tokens: list[int]) -> list[Filled]:
        alone = ids.count(self.mask_id) == 1
        filled = []
        for score, token in zip(scores, tokens, strict=True):
            text = self._decode([*ids[:place], token, *ids[place + 1 :]], skip_special_tokens=alone)
            filled.append(Filled(self._decode([token]), token, score, text))
        return filled

    def _decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
