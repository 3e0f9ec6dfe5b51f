"""Texts to token ids, token counts and character spans, by the tokenizer of an encoder's model."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from flatcoat.errors import UsageError

from .fast_tokenizer import FastTokenizer
from .token_counts import token_counts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

    from .checkpoint import Checkpoint

    TextModel = SentenceTransformer | Checkpoint

_turns: "WeakKeyDictionary[Any, tuple[Lock, Lock]]" = WeakKeyDictionary()
"""Per tokenizer, the lock of the queue and the lock of the thread whose turn it is."""


class TokenSpan(NamedTuple):
    """A token's text, and its character span in the text; None for special, prefix and expansion tokens."""

    text: str
    span: tuple[int, int] | None


def token_ids(
    model: "TextModel", texts: Sequence[str], *, max_length: int, strip: bool = True
) -> list[list[int]]:
    """Token ids as in sentence-transformers: special tokens included, truncated to ``max_length``.

    Blanks around a text do not count, unless ``strip`` is False.
    """
    return _tokenized(model, texts, max_length, strip)["input_ids"] if texts else []


def character_spans(
    model: "TextModel", texts: Sequence[str], *, max_length: int, strip: bool = True
) -> list[list[tuple[int, int] | None]]:
    """The character span of each of the ``token_ids`` without blanks around it; None for special tokens.

    Raises UsageError if the tokenizer is a slow one, which does not know spans.
    """
    if not model.tokenizer.is_fast:
        raise UsageError("the model's tokenizer does not say where its tokens stand: a fast one is needed")
    offsets = _tokenized(model, texts, max_length, strip, return_offsets_mapping=True)["offset_mapping"]
    return [
        [_trimmed(text, len(text) - len(text.lstrip()) if strip else 0, span) for span in spans]
        for text, spans in zip(texts, offsets, strict=True)
    ]


def _trimmed(text: str, blanks: int, span: tuple[int, int]) -> tuple[int, int] | None:
    """A span of the stripped text as a stripped span of ``text``, which begins with ``blanks`` blanks."""
    first, last = span[0] + blanks, span[1] + blanks
    token = text[first:last]
    if not token.strip():
        return (first, last) if token else None
    return first + len(token) - len(token.lstrip()), last - len(token) + len(token.rstrip())


def _tokenized(
    model: "TextModel", texts: Sequence[str], max_length: int, strip: bool, **options: bool
) -> Any:
    library: Any = model
    # A checkpoint that flatcoat reads itself folds case in its tokenizer.json, if at all.
    lower = not isinstance(model.tokenizer, FastTokenizer) and getattr(library[0], "do_lower_case", False)
    texts = [text.strip() if strip else text for text in texts]
    with taking_turns(model.tokenizer):
        return model.tokenizer(
            [text.lower() for text in texts] if lower else texts,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            **options,
        )


def token_counter(
    tokenizer: "PreTrainedTokenizerBase | FastTokenizer",
) -> Callable[[Sequence[str]], list[int]]:
    """A function that counts the tokens per text, special tokens included, without truncation.

    It uses a copy of a tokenizer that threads must not share, so that no thread waits for it.
    """
    if isinstance(tokenizer, FastTokenizer):
        return tokenizer.counts
    with taking_turns(tokenizer):
        copied: Any = copy.deepcopy(tokenizer)
    if not copied.is_fast:
        return lambda texts: (
            [len(ids) for ids in copied(list(texts), verbose=False)["input_ids"]] if texts else []
        )
    backend = copied.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return token_counts(backend)


@contextmanager
def taking_turns(tokenizer: "PreTrainedTokenizerBase | FastTokenizer") -> Iterator[None]:
    """A lock around a use of a transformers tokenizer: one thread at a time, first come, first served.

    Such a tokenizer keeps its truncation length from call to call, and so does PyLate. A thread that encodes
    batch after batch lets waiting threads in between two batches, which a plain lock does not: hence a queue,
    in which the next thread waits while the lock is held.
    """
    if isinstance(tokenizer, FastTokenizer):
        yield
        return
    queue, turn = _turns.setdefault(tokenizer, (Lock(), Lock()))
    with queue:
        turn.acquire()
    try:
        yield
    finally:
        turn.release()
