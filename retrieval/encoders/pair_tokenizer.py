"""Pairs of texts to token ids, as transformers' fast tokenizers lay and cut them."""

from collections.abc import Sequence
from typing import NamedTuple

from flatcoat.errors import UsageError

from .fast_tokenizer import FastTokenizer


class Pair(NamedTuple):
    """Token ids of a pair with its special tokens, and the type of each."""

    ids: list[int]
    types: list[int]


class PairTokenizer:
    """Lays two texts end to end, with the tokenizer's special tokens around them.

    Raises ValueError for a tokenizer that does not lay the first text before the second.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        probe = tokenizer.backend_tokenizer.encode("a", "b")
        parts: list[int | None] = list(probe.sequence_ids)
        if 0 not in parts or 1 not in parts:
            raise ValueError("its tokenizer does not encode pairs")
        first, second = parts.index(0), parts.index(1)
        first_end, second_end = len(parts) - parts[::-1].index(0), len(parts) - parts[::-1].index(1)
        if set(parts[first:first_end]) != {0} or set(parts[second:second_end]) != {1} or first > second:
            raise ValueError("its tokenizer lays the texts of a pair in another order")
        spans = (slice(0, first), slice(first_end, second), slice(second_end, None))
        self._special = [probe.ids[span] for span in spans]
        self._special_types = [probe.type_ids[span] for span in spans]
        self._types = probe.type_ids[first], probe.type_ids[second]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts, without special tokens."""
        encode = self._tokenizer.backend_tokenizer.encode_batch_fast
        return [encoding.ids for encoding in encode(list(texts), add_special_tokens=False)]

    def pair(self, first: list[int], second: list[int], max_length: int) -> Pair:
        """The pair of two texts given as ``tokens``; the longer is cut where they are too long together.

        Raises UsageError where no token of a text fits.
        """
        room = max_length - sum(map(len, self._special))
        if room < 2:
            raise UsageError(
                f"{max_length} tokens per pair: at least {max_length - room + 2} are needed, one of each "
                "text beside the special ones"
            )
        first_length, second_length = _cut(len(first), len(second), room)
        texts = first[:first_length], second[:second_length]
        before, between, after = self._special
        ids = [*before, *texts[0], *between, *texts[1], *after]
        if not self._tokenizer.gives_types:
            return Pair(ids, [0] * len(ids))
        before, between, after = self._special_types
        first_types, second_types = ([kind] * len(it) for kind, it in zip(self._types, texts, strict=True))
        return Pair(ids, [*before, *first_types, *between, *second_types, *after])


def _cut(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths of two texts cut to ``room`` tokens together: the longer gives, down to equal halves.

    >>> _cut(3, 10, 8), _cut(9, 10, 9), _cut(10, 9, 9), _cut(2, 3, 9)
    ((3, 5), (4, 5), (5, 4), (2, 3))
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    longer = room - shorter
    return (shorter, longer) if first <= second else (longer, shorter)
