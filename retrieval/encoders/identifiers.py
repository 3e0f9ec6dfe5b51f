"""Identifiers cut into their words by a tokenizer: parseHttpResponse is read as parse Http Response."""

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, normalizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_INSIDE = r"(?<=\p{Ll}\p{Ll})(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll}\p{Ll})"
"""Between the words of an identifier in camel case. Single letters are none: mRNA, eBay and PCBs stay."""


def splitting(tokenizer: Any) -> "PreTrainedTokenizerFast":
    """A tokenizer of transformers that cuts identifiers, otherwise like this one.

    It is of the class that reads tokenizer.json as it stands: those of BERT and its kin build their own.
    """
    from transformers import PreTrainedTokenizerFast

    backend = deepcopy(tokenizer.backend_tokenizer)
    parts = [normalizers.Replace(Regex(_INSIDE), " ")]
    backend.normalizer = normalizers.Sequence(parts + ([backend.normalizer] if backend.normalizer else []))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    )


def is_splitting(normalizer: dict[str, Any]) -> bool:
    """Whether a normalizer, as tokenizer.json has it, is the one that cuts identifiers."""
    return normalizer == {"type": "Replace", "pattern": {"Regex": _INSIDE}, "content": " "}


def are_split(tokenizer: Any) -> bool:
    """Whether a tokenizer, of transformers or flatcoat's, cuts identifiers.

    >>> from flatcoat.retrieval.encoders.load import load_encoder
    >>> are_split(load_encoder().model.tokenizer)
    True
    """
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return normalizer is not None and json.dumps(_INSIDE).encode() in normalizer.__getstate__()  # JSON
