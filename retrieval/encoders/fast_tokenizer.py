"""A checkpoint's tokenizer from its ``tokenizer.json``, without importing transformers."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from flatcoat.errors import UsageError

from .token_counts import token_counts

_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_MARKS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
}
_WORDPIECE = {
    "do_basic_tokenize": True,
    "do_lower_case": True,
    "never_split": None,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "unk_token": "[UNK]",
}
_BERT = _WORDPIECE | {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
}
_REBUILT: dict[str, dict[str, Any]] = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "MPNetTokenizer": _WORDPIECE | _MARKS,
    "RobertaTokenizer": _MARKS
    | {"add_prefix_space": False, "errors": "replace", "trim_offsets": True, "unk_token": "<unk>"},
    "XLMRobertaTokenizer": _MARKS | {"add_prefix_space": True, "unk_token": "<unk>"},
}
"""Classes that rebuild the tokenizer from their settings, which must say what tokenizer.json says, and the
defaults of these settings."""

_WITH_TYPES = ("BertTokenizer", "ElectraTokenizer")
"""Classes that give token types, if the settings say nothing about it."""

_UNUSED = {
    "added_tokens_decoder",
    "backend",
    "clean_up_tokenization_spaces",
    "extra_special_tokens",
    "is_local",
    "local_files_only",
    "max_length",
    "model_input_names",
    "model_max_length",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "special_tokens_map_file",
    "stride",
    "tokenizer_class",
    "truncation_side",
    "truncation_strategy",
}
"""Settings that are read elsewhere, or do not change token ids."""

_ENDLESS = int(1e30)
"""transformers' maximum length where the settings name none."""

_NAMED = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")

_CHARACTERS = 32
"""Characters per token that are tokenised first: a long text is not read to its end to be truncated."""

_MARGIN = 64
"""Tokens at the end of a text cut off in the middle that may differ from those of the whole text."""


class FastTokenizer:
    """The methods of transformers' fast tokenizers that encoders use, with the same token ids.

    Threads may share it, since no call changes it: truncation happens here, not by a setting of the library.

    >>> import json
    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL
    >>> settings = json.loads((SHIPPED_MODEL / "tokenizer_config.json").read_text())
    >>> tokenizer = FastTokenizer(SHIPPED_MODEL / "tokenizer.json", settings)
    >>> tokenizer.counts(["", "cats purr"])
    [2, 5]
    """

    is_fast = True

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        """``settings`` are those of tokenizer_config.json.

        Raises ValueError for settings that would change token ids, and for a ``file`` that is no tokenizer.
        """
        name, side = settings.get("tokenizer_class"), settings.get("truncation_side", "right")
        rebuilt = name.removesuffix("Fast") if isinstance(name, str) else ""
        if (name not in _GENERIC and rebuilt not in _REBUILT) or side != "right":
            raise ValueError(f"tokenizer_class is {name!r:.60}, truncation_side {side!r:.60}")
        defaults = _REBUILT.get(rebuilt, {})
        if unknown := settings.keys() - _UNUSED - set(_NAMED) - defaults.keys():
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        settings = defaults | settings
        length = settings.get("model_max_length", _ENDLESS)
        if not isinstance(length, int):
            raise ValueError(f"model_max_length is {length!r:.60}")
        self.backend_tokenizer, (self._before, self._after) = _read(file)
        if defaults:
            _require_rebuilt(file, settings)
        self._settings = settings
        self.model_max_length = length
        self.pad_token_id = self.named("pad_token")
        given = settings.get("model_input_names", ["token_type_ids"] if rebuilt in _WITH_TYPES else [])
        self.gives_types = isinstance(given, list) and "token_type_ids" in given
        """Whether a model is told which of two texts a token belongs to."""
        special = self.backend_tokenizer.get_added_tokens_decoder()
        self.all_special_ids = [id for id, token in special.items() if token.special]

    def __call__(
        self,
        texts: Sequence[str],
        truncation: bool,
        max_length: int,
        return_attention_mask: bool,
        return_offsets_mapping: bool = False,
    ) -> dict[str, list[Any]]:
        """Token ids with special tokens, truncated to ``max_length``, and their character spans."""
        assert truncation and not return_attention_mask
        if max_length < self._before + self._after:
            raise UsageError(
                f"{max_length} tokens per text: at least {self._before + self._after} are needed, "
                "which this tokenizer adds to every text"
            )
        encodings = self._encoded(texts, max_length, with_offsets=return_offsets_mapping)
        columns = {"input_ids": [self._cut(encoding.ids, max_length) for encoding in encodings]}
        if return_offsets_mapping:
            columns["offset_mapping"] = [self._cut(encoding.offsets, max_length) for encoding in encodings]
        return columns

    def _encoded(self, texts: Sequence[str], tokens: int, with_offsets: bool) -> list[Encoding]:
        """Encodings whose first ``tokens`` tokens are those of the whole texts."""
        backend = self.backend_tokenizer
        encode = backend.encode_batch if with_offsets else backend.encode_batch_fast
        reach = _CHARACTERS * (tokens + _MARGIN)
        encodings = encode([text[:reach] for text in texts])
        # Long runs of blanks, or words of one token each, fill fewer tokens: double the characters.
        for index, text in enumerate(texts):
            read = reach
            while read < len(text) and len(encodings[index]) < tokens + _MARGIN:
                read *= 2
                (encodings[index],) = encode([text[:read]])
        return encodings

    def _cut(self, tokens: list[Any], length: int) -> list[Any]:
        """Truncated as the library truncates: special tokens stay at both ends."""
        if len(tokens) <= length:
            return tokens
        return tokens[: length - self._after] + tokens[len(tokens) - self._after :]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text, special tokens included, without truncation."""
        return self._counts(texts)

    @cached_property
    def _counts(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counts(self.backend_tokenizer)

    @property
    def highest_id(self) -> int:
        """The largest token id, added tokens included."""
        return max(self.backend_tokenizer.get_vocab().values(), default=0)

    @property
    def size(self) -> int:
        """The number of token ids, added tokens included."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def id(self, token: str) -> int:
        """The id of a token; ValueError for an unknown one."""
        number = self.backend_tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"no token {token!r}")
        return number

    def id_or_unknown(self, token: str) -> int:
        """The id of a token, or of the unknown token."""
        number = self.backend_tokenizer.token_to_id(token)
        return self.named("unk_token") if number is None else number

    def named(self, name: str) -> int:
        """The id of a token by its role in the settings, such as "mask_token"; ValueError if it has none."""
        token = self._settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if not isinstance(text, str):
            raise ValueError(f"{name} is {token!r:.60}")
        return self.id(text)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.backend_tokenizer.id_to_token(id) or "" for id in ids]


def _require_rebuilt(file: Path, settings: dict[str, Any]) -> None:
    """Raise ValueError unless the file is the tokenizer that transformers makes of the settings."""
    held = json.loads(file.read_bytes())
    kind = (held.get("model") or {}).get("type", "")
    expected = {"WordPiece": _wordpiece, "BPE": _byte_level, "Unigram": _unigram}.get(kind)
    is_wordpiece = "tokenize_chinese_chars" in settings
    if expected is None or (kind == "WordPiece") != is_wordpiece:
        raise ValueError(f"its tokenizer.json has a model {kind!r:.60}")
    for name, (found, wanted) in expected(held, settings).items():
        if found != wanted:
            raise ValueError(f"its tokenizer.json has {name} {found!r:.80}, its settings say {wanted!r:.80}")


Expected = dict[str, tuple[Any, Any]]
"""Parts of a tokenizer.json, as found and as wanted."""


def _wordpiece(held: dict[str, Any], settings: dict[str, Any]) -> Expected:
    model = held["model"]
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings["tokenize_chinese_chars"],
        "strip_accents": settings["strip_accents"],
        "lowercase": settings["do_lower_case"],
    }
    plain = {"do_basic_tokenize": True, "never_split": None}
    return {
        "normalizer": (held.get("normalizer"), normalizer),
        "pre_tokenizer": (held.get("pre_tokenizer"), {"type": "BertPreTokenizer"}),
        "prefix": (model.get("continuing_subword_prefix"), "##"),
        "longest word": (model.get("max_input_chars_per_word"), 100),
        "settings": ({name: settings[name] for name in plain}, plain),
    }


def _byte_level(held: dict[str, Any], settings: dict[str, Any]) -> Expected:
    model = held["model"]
    before = held.get("pre_tokenizer") or {}
    byte_level = {"type": "ByteLevel", "add_prefix_space": settings["add_prefix_space"]}
    plain = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
    return {
        "normalizer": (held.get("normalizer"), None),
        "pre_tokenizer": ({name: before.get(name) for name in byte_level}, byte_level),
        "use_regex": (before.get("use_regex", True), True),
        "model settings": ([name for name in plain if model.get(name)], []),
        "ignore_merges": (model.get("ignore_merges", False), False),
        "trim_offsets": (settings["trim_offsets"], True),
    }


def _unigram(held: dict[str, Any], settings: dict[str, Any]) -> Expected:
    before = held.get("pre_tokenizer") or {}
    parts = [dict(part) for part in before.get("pretokenizers") or []]
    for part in parts:
        # Older files say in one word what newer ones say in two.
        if "add_prefix_space" in part:
            part["prepend_scheme"] = "always" if part.pop("add_prefix_space") else "never"
        part.pop("split", None)
    scheme = "always" if settings["add_prefix_space"] else "never"
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme}
    return {
        "normalizer": ((held.get("normalizer") or {}).get("type", "Precompiled"), "Precompiled"),
        "pre_tokenizer": (parts, [{"type": "WhitespaceSplit"}, metaspace]),
        "unk_id": (held["model"].get("unk_id"), 3),
        "byte_fallback": (held["model"].get("byte_fallback", False), False),
    }


def _read(file: Path) -> tuple[Tokenizer, tuple[int, int]]:
    """The tokenizer, and the number of special tokens that it adds before and after every text.

    Raises ValueError for a file that is no tokenizer, and for special tokens in the middle of texts.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        special = tokenizer.encode("a b").special_tokens_mask
    except Exception as error:  # The library raises the base class itself.
        raise ValueError(f"{file.name} is no tokenizer: {error}") from None
    before = next((place for place, added in enumerate(special) if not added), 0)
    after = next((place for place, added in enumerate(reversed(special)) if not added), 0)
    if sum(special) != before + after:
        raise ValueError("its special tokens stand elsewhere than at the ends of a text")
    return tokenizer, (before, after)
