"""What dense encoders make of texts before vectors: prompts, token ids, and the contract."""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .checkpoint import DenseCheckpoint, max_positions, weights_of
from .checkpoint_modules import POOLING_ORDER, POOLINGS
from .contract import Contract, Precision
from .encoder import checked_texts
from .identifiers import are_split
from .tokenization import token_counter, token_ids

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of prompts, the first that a checkpoint has being used."""

CLS_AFTER_PROMPT = "cls-after-prompt"
"""The mode that takes the first token after a prompt that does not count, of a text that is no more than that
its first."""

NO_MAXIMUM = -1e9
"""The maximum over no tokens, as in sentence-transformers."""


class DenseTexts:
    """The part of single-vector encoders that runs no model."""

    def __init__(
        self, model: "SentenceTransformer | DenseCheckpoint", name: str, precision: Precision
    ) -> None:
        # Any: the two have the same attributes, and no common type.
        self.model: Any = model
        self.name = name
        self.precision: Precision = precision
        self._own_length = model.max_seq_length

    @property
    def width(self) -> int:
        """Components of one vector."""
        # Not through the contract, which would hash every weight before the first text.
        return embedding_width(self.model)

    @cached_property
    def _weights(self) -> str:
        return weights_of(self.model)

    @property
    def _pooling(self) -> Any:
        """The pooling after the backbone, None where a library's model has none."""
        modules = self.model.after if isinstance(self.model, DenseCheckpoint) else self.model
        return next(filter(is_pooling, modules), None)

    @property
    def _modes(self) -> str:
        """The modes of the pooling, by the rules of the sentence-transformers installed.

        Up to release 5, "cls" takes the first token, and from 6 on the first that counts: the two stand apart
        in the contract.
        """
        modes, pooling = pooling_modes(self._pooling), self._pooling
        if "cls" in modes.split("+") and not pooling.include_prompt and _release() >= 6:
            return modes.replace("cls", CLS_AFTER_PROMPT)
        return modes

    @property
    def contract(self) -> Contract:
        """The settings and weights that determine the vectors of a text."""
        model = self.model
        length = int(model.max_seq_length or model.tokenizer.model_max_length)
        return Contract(
            kind="dense",
            model=self.name,
            weights=self._weights,
            width=self.width,
            query_prefix=self._prompt(QUERY_PROMPTS),
            document_prefix=self._prompt(DOCUMENT_PROMPTS),
            query_length=length,
            document_length=length,
            pooling=self._modes,
            precision=self.precision,
            split_identifiers=are_split(model.tokenizer),
        )

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counter(self.model.tokenizer)

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens and prompt included, without truncation."""
        prompt = self._prompt(QUERY_PROMPTS if is_query else DOCUMENT_PROMPTS)
        return self._count([prompt + text for text in checked_texts(texts)])

    def truncate_documents(self, length: int | None) -> None:
        """Truncate texts at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        self.model.max_seq_length = (
            self._own_length if length is None else min(length, max_positions(self.model))
        )

    def _prompt(self, names: Sequence[str]) -> str:
        """The checkpoint's first prompt among these names, else its default, as in sentence-transformers."""
        prompts = self.model.prompts
        return next(
            (prompts[name] for name in (*names, self.model.default_prompt_name) if name in prompts), ""
        )

    def _prompt_tokens(self, prompt: str) -> int:
        """Number of tokens at the start of every text that the checkpoint leaves out of pooling."""
        if not prompt or self._pooling.include_prompt:
            return 0
        (ids,) = token_ids(self.model, [prompt], max_length=self.model.max_seq_length)
        return len(ids) - (ids[-1] in self.model.tokenizer.all_special_ids)


@cache
def _release() -> int:
    """The installed sentence-transformers' release, which is not imported for it."""
    return int(version("sentence-transformers").partition(".")[0])


def is_pooling(module: object) -> bool:
    """Whether a module of a checkpoint or of sentence-transformers makes one vector of several."""
    return bool(pooling_modes(module))


def pooling_modes(module: Any) -> str:
    """The modes of a pooling, such as "cls+mean"; "" for another module, and for modes in another order."""
    if hasattr(module, "get_pooling_mode_str"):
        return module.get_pooling_mode_str()
    named = getattr(module, "pooling_mode", ())  # In sentence-transformers 6.
    named = (named,) if isinstance(named, str) else tuple(named)
    if named != tuple(mode for mode in POOLING_ORDER if mode in named):
        return ""
    return "+".join(mode for mode in POOLINGS if mode in named)


def embedding_width(model: Any) -> int:
    """Components of the vectors of a model of sentence-transformers, whose releases have two names for it."""
    width = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(width() or 0)
