"""The tokenizer of a checkpoint, over its ``tokenizer.json`` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

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


class FastTokenizer:
    """What encoders ask of transformers' fast tokenizers: the same ids, without importing transformers."""

    is_fast = True

    def __init__(self, file: Path, said: dict[str, Any]) -> None:
        """``said`` is tokenizer_config.json; ValueError where it says what would change the ids."""
        if said["tokenizer_class"] not in _CLASSES or said.get("truncation_side", "right") != "right":
            raise ValueError("another tokenizer")
        if unknown := said.keys() - _UNUSED - set(_NAMED):
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        self.backend_tokenizer = Tokenizer.from_file(str(file))
        self.backend_tokenizer.no_padding()
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
        backend = self.backend_tokenizer
        backend.enable_truncation(max_length)
        if not return_offsets_mapping:
            return {"input_ids": [encoding.ids for encoding in backend.encode_batch_fast(list(texts))]}
        encodings = backend.encode_batch(list(texts))
        return {
            "input_ids": [encoding.ids for encoding in encodings],
            "offset_mapping": [encoding.offsets for encoding in encodings],
        }

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
