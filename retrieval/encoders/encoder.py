"""From token ids to arrays without padding, and what dense and late-interaction encoders share.

Axes: N texts, T tokens, D width.
"""

import copy
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch, budget_batches
from flatcoat.errors import DataError, FlatcoatError, first_line
from flatcoat.hub import model_error
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.vectors import Vectors

from .contract import Contract, Precision
from .tokenization import FastTokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

TOKEN_BUDGET = 16_384
"""Tokens of one forward: enough for the cores of a CPU to share evenly."""

_BATCH = 32
"""Texts of one forward where transformers runs it, as sentence-transformers and PyLate choose."""

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

_SURROGATE = re.compile("[\ud800-\udfff]")

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """What the rest of flatcoat asks of a dense or late-interaction encoder."""

    @property
    def name(self) -> str:
        """The folder or hub name it was loaded from."""
        ...

    @property
    def contract(self) -> Contract:
        """Everything that decides which vectors a text gets."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, in their order."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents, in their order."""
        ...

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text encoded as a document, special tokens counted and nothing cut off."""
        ...

    def read_documents(self, length: int | None) -> None:
        """Cut documents at ``length`` tokens, or where the model ends; None: where the checkpoint says."""
        ...


def most_tokens(model: "SentenceTransformer") -> int:
    """How long a text the model has positions for."""
    config: Any = cast(Any, model[0]).auto_model.config
    # RoBERTa's positions start behind the padding token's.
    used = 1 + config.pad_token_id if "roberta" in getattr(config, "model_type", "") else 0
    return config.max_position_embeddings - used


class HiddenBatch(NamedTuple):
    """Token vectors of the texts ``indices`` (positions in the input), laid end to end as in ``batch``."""

    indices: list[int]
    batch: PackedBatch
    hidden_TD: Tensor


def hidden_batches(
    encode: Callable[[PackedBatch], Tensor],
    sequences: Sequence[Sequence[int]],
    key_masks: Sequence[Sequence[bool]] | None = None,
    max_tokens: int = TOKEN_BUDGET,
    device: torch.device | str = "cpu",
) -> Iterator[HiddenBatch]:
    """Run sequences of token ids through a packed encoder, similar lengths together.

    ``key_masks`` is False where a token is not attended to. Runs without gradients.
    """
    for indices in budget_batches([len(sequence) for sequence in sequences], max_tokens):
        batch = PackedBatch.from_sequences([sequences[index] for index in indices], device)
        if key_masks is not None:
            flat = [attended for index in indices for attended in key_masks[index]]
            batch = PackedBatch(
                batch.input_ids_T, batch.cu_seqlens, batch.lengths, torch.tensor(flat, device=device)
            )
        with torch.inference_mode():
            yield HiddenBatch(indices, batch, encode(batch))


def unpad_backbone(model: "SentenceTransformer") -> bool:
    """Put flatcoat's backbone into a sentence-transformers or PyLate model built on ModernBERT.

    The weights are shared, not copied. Returns False, and changes nothing, where the backbone is another.
    """
    from sentence_transformers.models import Transformer
    from transformers import ModernBertModel

    from flatcoat.backbone import hf_model

    module = model[0]
    if not isinstance(module, Transformer) or not isinstance(module.auto_model, ModernBertModel):
        return False
    module.auto_model = hf_model.ModernBertModel.of(module.auto_model)
    module.model_forward_params.add("keep_mask")
    return True


def packed_backbone(model: "SentenceTransformer") -> "ModernBert | None":
    """The packed encoder of a model that ``unpad_backbone`` has changed or that is one, None of another."""
    backbone = getattr(model[0], "auto_model", None)
    if isinstance(backbone, ModernBert):
        return backbone
    from flatcoat.backbone import hf_model

    return backbone.packed if isinstance(backbone, hf_model.ModernBertModel) else None


def default_precision(model: "SentenceTransformer") -> Precision:
    """What a model computes in unless told otherwise: the dtype of its weights, but float32 on a CPU.

    A processor without instructions for float16 takes twelve times as long in it.
    """
    if model.device.type == "cpu" and packed_backbone(model) is not None:
        return "fp32"
    return _weights_precision(model)


def backbone_in(model: "SentenceTransformer", precision: Precision) -> "ModernBert | None":
    """The packed encoder of a model in a precision, None where transformers runs the model.

    Another precision than that of the weights takes a copy of them, made here: what is trained, saved and
    hashed stays as it was loaded. Raises FlatcoatError for an unknown precision, for int8 on a GPU, and for
    another precision than that of the weights where transformers runs the model.
    """
    if precision not in get_args(Precision):
        raise FlatcoatError(f"no precision {precision!r}: {', '.join(get_args(Precision))} are known")
    backbone = packed_backbone(model)
    own = _weights_precision(model)
    if precision == own:
        return backbone
    if backbone is None:
        raise FlatcoatError(
            f"precision {precision} is for ModernBERT checkpoints; this one, whose weights are {own}, runs "
            "through transformers: leave the precision out"
        )
    if precision == "int8":
        from flatcoat.backbone.quantization import quantize

        return quantize(backbone)
    return copy.deepcopy(backbone).to(_DTYPES[precision])


def _weights_precision(model: "SentenceTransformer") -> Precision:
    dtypes = {parameter.dtype for parameter in model.parameters()}
    known: list[Precision] = [name for name, dtype in _DTYPES.items() if dtype in dtypes]
    return known[0] if known else "fp32"


def token_ids(model: "SentenceTransformer", texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids as sentence-transformers forms them, special tokens included, cut to ``max_length``."""
    return _tokenized(model, texts, max_length)["input_ids"] if texts else []


class TokenSpan(NamedTuple):
    """A token as it is written, and where: None of special, prefix and expansion tokens."""

    text: str
    span: tuple[int, int] | None


def character_spans(
    model: "SentenceTransformer", texts: Sequence[str], max_length: int
) -> list[list[tuple[int, int] | None]]:
    """Where each of the ``token_ids`` stands in its text, blanks around it aside; None of special tokens.

    Raises FlatcoatError where the tokenizer does not say.
    """
    if not model.tokenizer.is_fast:
        raise FlatcoatError("the model's tokenizer does not say where its tokens stand: a fast one is needed")
    offsets = _tokenized(model, texts, max_length, return_offsets_mapping=True)["offset_mapping"]
    return [
        [_trimmed(text, len(text) - len(text.lstrip()), span) for span in spans]
        for text, spans in zip(texts, offsets, strict=True)
    ]


def _trimmed(text: str, blanks: int, span: tuple[int, int]) -> tuple[int, int] | None:
    first, last = span[0] + blanks, span[1] + blanks
    token = text[first:last]
    if not token.strip():
        return (first, last) if token else None
    return first + len(token) - len(token.lstrip()), last - len(token) + len(token.rstrip())


def _tokenized(model: "SentenceTransformer", texts: Sequence[str], max_length: int, **options: bool) -> Any:
    lower = getattr(model[0], "do_lower_case", False)
    with taking_turns(model.tokenizer):
        return model.tokenizer(
            [text.strip().lower() if lower else text.strip() for text in texts],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            **options,
        )


def token_counter(
    tokenizer: "PreTrainedTokenizerBase | FastTokenizer",
) -> Callable[[Sequence[str]], list[int]]:
    """What counts the tokens of each text, special tokens counted and nothing cut off.

    It counts with a copy, so that nobody waits for it.
    """
    if isinstance(tokenizer, FastTokenizer):
        return tokenizer.counts
    with taking_turns(tokenizer):
        own: Any = copy.deepcopy(tokenizer)
    if not own.is_fast:
        return lambda texts: (
            [len(ids) for ids in own(list(texts), verbose=False)["input_ids"]] if texts else []
        )
    backend = own.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    # Without offsets and masks, half as long as through transformers.
    return lambda texts: [len(encoding) for encoding in backend.encode_batch_fast(list(texts))]


_turns: "WeakKeyDictionary[Any, tuple[Lock, Lock]]" = WeakKeyDictionary()


@contextmanager
def taking_turns(tokenizer: "PreTrainedTokenizerBase | FastTokenizer") -> Iterator[None]:
    """Run what uses a tokenizer of transformers, one thread at a time, in the order in which they come.

    Such a tokenizer keeps the length that it cuts at from call to call, and so does PyLate. A thread that
    encodes batch after batch lets others in between two of them.
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


def in_batches(
    encode: Callable[[list[str]], Sequence[Any]], texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[tuple[int, Any]]:
    """Positions of texts, and what ``encode`` of another library makes of them, a batch at a time."""
    longest_first = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    for start in range(0, len(texts), _BATCH):
        batch = longest_first[start : start + _BATCH]
        with taking_turns(tokenizer):
            found = encode([texts[index] for index in batch])
        yield from zip(batch, found, strict=True)


def checked_texts(texts: Iterable[str]) -> list[str]:
    """The texts, half surrogate pairs in them mended: what tokenizers take.

    Raises FlatcoatError for one string, for what has no order, and for what is no text.
    """
    if isinstance(texts, str):
        raise FlatcoatError("one text came where a list of texts is wanted: wrap it as [text]")
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | Mapping | Set):
        raise FlatcoatError(
            f"the texts are {type(texts).__name__} {texts!r:.60}: a list of strings is wanted"
        )
    checked = []
    for text in texts:
        if not isinstance(text, str):
            raise FlatcoatError(f"a text is {type(text).__name__} {text!r:.60}: strings are wanted")
        checked.append(normalized(text) if _SURROGATE.search(text) else text)
    return checked


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn what libraries raise while loading the model ``name`` into a FlatcoatError of one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise loading_error(name, error) from error


def loading_error(name: str | Path, error: Exception) -> FlatcoatError:
    """The one-line form of what a library raised while loading a model."""
    if Path(name).exists():
        return DataError(f"the model in {name} cannot be loaded: {first_line(error)}")
    return model_error(name, error)
