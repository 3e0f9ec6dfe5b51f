"""The tokenizer of a checkpoint, over its ``tokenizer.json`` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from flatcoat.errors import FlatcoatError

_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
_UNUSED = {
    "added_tokens_decoder",
    "backend",
    "clean_up_tokenization_spaces",
    "extra_special_tokens",
    "is_local",
    "max_length",
    "model_input_names",
    "model_max_length",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "stride",
    "tokenizer_class",
    "truncation_side",
    "truncation_strategy",
}
"""Settings that are read elsewhere, or change no ids."""

_NAMED = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")


_CHARACTERS = 32
"""Of a text, for each token that is wanted, as far as it is read first."""

_MARGIN = 64
"""Tokens before the end of what was read that may be others than in the whole text."""


class FastTokenizer:
    """What encoders ask of transformers' fast tokenizers: the same ids, without importing transformers.

    Threads may share it: no call changes it, so ids are cut here and not by the library.
    """

    is_fast = True

    def __init__(self, file: Path, said: dict[str, Any]) -> None:
        """``said`` is tokenizer_config.json.

        ValueError where that says what would change the ids, or ``file`` is no tokenizer.
        """
        if said["tokenizer_class"] not in _CLASSES or said.get("truncation_side", "right") != "right":
            raise ValueError("another tokenizer")
        if unknown := said.keys() - _UNUSED - set(_NAMED):
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        self.backend_tokenizer = _read(file)
        self._before, self._after = _special_tokens(self.backend_tokenizer)
        self._said = said
        self.pad_token_id = self.named("pad_token")
        special = self.backend_tokenizer.get_added_tokens_decoder()
        self.all_special_ids = [id for id, token in special.items() if token.special]
        self.model_max_length = int(said["model_max_length"])

    def __call__(
        self,
        texts: Sequence[str],
        truncation: bool,
        max_length: int,
        return_attention_mask: bool,
        return_offsets_mapping: bool = False,
    ) -> dict[str, list[Any]]:
        """Ids, special ones included, cut to ``max_length``, and where their tokens stand."""
        assert truncation and not return_attention_mask
        if max_length < self._before + self._after:
            raise FlatcoatError(
                f"{max_length} tokens a text: at least {self._before + self._after} are needed, "
                "which this tokenizer adds to every text"
            )
        encodings = self._encoded(texts, max_length, with_offsets=return_offsets_mapping)
        found = {"input_ids": [self._cut(encoding.ids, max_length) for encoding in encodings]}
        if return_offsets_mapping:
            found["offset_mapping"] = [self._cut(encoding.offsets, max_length) for encoding in encodings]
        return found

    def _encoded(self, texts: Sequence[str], tokens: int, with_offsets: bool) -> list[Encoding]:
        """Encodings that begin as those of the whole texts, ``tokens`` of them at least or all there are."""
        backend = self.backend_tokenizer
        encode = backend.encode_batch if with_offsets else backend.encode_batch_fast
        reach = _CHARACTERS * (tokens + _MARGIN)
        encodings = encode([text[:reach] for text in texts])
        # Blanks and words that are one token fill less: read on, twice as far each time.
        for index, text in enumerate(texts):
            read = reach
            while read < len(text) and len(encodings[index]) < tokens + _MARGIN:
                read *= 2
                (encodings[index],) = encode([text[:read]])
        return encodings

    def _cut(self, tokens: list[Any], length: int) -> list[Any]:
        """As the library cuts: special tokens stay at both ends."""
        if len(tokens) <= length:
            return tokens
        return tokens[: length - self._after] + tokens[len(tokens) - self._after :]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones counted and nothing cut off."""
        return [len(encoding) for encoding in self.backend_tokenizer.encode_batch_fast(list(texts))]

    @property
    def highest_id(self) -> int:
        """Of all tokens, added ones too."""
        return max(self.backend_tokenizer.get_vocab().values(), default=0)

    @property
    def size(self) -> int:
        """Ids, added tokens counted."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def id(self, token: str) -> int:
        """ValueError for an unknown token."""
        found = self.backend_tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"no token {token!r}")
        return found

    def id_or_unknown(self, token: str) -> int:
        """The id of a token, or of the one that stands for unknown ones."""
        found = self.backend_tokenizer.token_to_id(token)
        return self.named("unk_token") if found is None else found

    def named(self, name: str) -> int:
        """The id of the token that the checkpoint calls so, such as "mask_token"."""
        token = self._said[name]
        return self.id(token["content"] if isinstance(token, dict) else token)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.backend_tokenizer.id_to_token(id) or "" for id in ids]


def _read(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # The library knows no narrower one.
        raise ValueError(f"{file.name} is no tokenizer: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _special_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """How many tokens are added before and after every text; ValueError where they stand elsewhere too."""
    special = tokenizer.encode("a b").special_tokens_mask
    before = next((place for place, added in enumerate(special) if not added), 0)
    after = next((place for place, added in enumerate(reversed(special)) if not added), 0)
    if sum(special) != before + after:
        raise ValueError("its special tokens stand elsewhere than at the ends of a text")
    return before, after
