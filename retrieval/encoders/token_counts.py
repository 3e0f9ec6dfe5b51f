"""Tokens per text, counted without tokenising it again and again: words come back, in code above all."""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tokenizers import Tokenizer

from .identifiers import is_splitting

_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
"""What BERT's pre-tokenizer makes of printable ASCII: runs of letters and digits, and single marks."""

_PLAIN = re.compile(r"[\t\n\r -~]*")
_SPACE = re.compile(r"[\t\n\r ]+")

_LONGEST = 100
"""Characters of a word that is remembered."""

_MOST = 200_000
"""Words that are remembered: some 30 MB."""


def token_counts(backend: Tokenizer) -> Callable[[Sequence[str]], list[int]]:
    """A function that counts the tokens of each text as ``backend`` does, special tokens included.

    Threads may share it.
    """
    count = partial(_counted, backend)
    return _WordCounts(backend, count) if _is_by_words(backend) else count


def _counted(backend: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [len(encoding) for encoding in backend.encode_batch_fast(list(texts))]


class _WordCounts:
    """Counts by the counts of words, for a tokenizer that cuts each word for itself."""

    def __init__(self, backend: Tokenizer, count: Callable[[Sequence[str]], list[int]]) -> None:
        self._count = count
        (self._base,) = count([""])
        self._known: dict[str, int] = {}
        named = backend.get_added_tokens_decoder().values()
        # A token that is named in a text is found before words are.
        self._named = re.compile("|".join(re.escape(token.content) for token in named) or "(?!)")

    def __call__(self, texts: Sequence[str]) -> list[int]:
        rows = [None if self._named.search(text) else _words(text) for text in texts]
        known = self._counts_of(set[str]().union(*filter(None, rows)))
        of_words = known.__getitem__
        return [
            self._count([text])[0] if row is None else self._base + sum(map(of_words, row))
            for text, row in zip(texts, rows, strict=True)
        ]

    def _counts_of(self, words: set[str]) -> dict[str, int]:
        """The tokens of each word, without special ones."""
        known = self._known  # Another thread may put an empty one in its place.
        if len(known) > _MOST:
            known = self._known = {}
        unknown = [word for word in words if word not in known]
        if not unknown:
            return known
        counts = [count - self._base for count in self._count(unknown)]
        new = dict(zip(unknown, counts, strict=True))
        short = {word: count for word, count in new.items() if len(word) <= _LONGEST}
        known.update(short)
        return known if len(short) == len(new) else known | new


def _words(text: str) -> list[str]:
    """Parts of a text that are tokenised as they would be alone."""
    if _PLAIN.fullmatch(text):
        return _WORDS.findall(text)
    words: list[str] = []
    for part in _SPACE.split(text):
        words += _WORDS.findall(part) if _PLAIN.fullmatch(part) else [part]
    return words


def _is_by_words(backend: Tokenizer) -> bool:
    """Whether a tokenizer splits and normalises as BERT's does, identifiers cut or not."""
    *before, normalizer = _parts(backend.normalizer, "normalizers")
    (pre_tokenizer, *others) = _parts(backend.pre_tokenizer, "pretokenizers")
    is_of_bert = (
        normalizer.get("type") == "BertNormalizer"
        and all(map(is_splitting, before))
        and pre_tokenizer.get("type") == "BertPreTokenizer"
        and not others
    )
    added = backend.get_added_tokens_decoder().values()
    is_plain = not any(token.normalized or token.single_word for token in added)
    return is_of_bert and is_plain and len(backend.encode("a")) == len(backend.encode("")) + 1


def _parts(component: Any, name: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as tokenizer.json has it, or those of a sequence of them."""
    value = {} if component is None else json.loads(component.__getstate__())
    parts: list[dict[str, Any]] = value.get(name, [value]) if value.get("type") == "Sequence" else [value]
    return parts or [{}]
