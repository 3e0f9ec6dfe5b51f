"""Byte-level BPE tokenizers: any text without an unknown token, case and spaces kept.

As ModernBERT's (arXiv 2412.13663): OLMo's pre-tokenisation (NFC, GPT-2's pattern over bytes), BERT's special
tokens and template, and unused entries at the end that round the vocabulary up for the matrix products.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import DataError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
_MULTIPLE = 64
_BATCH = 256  # texts that are tokenised together


def train_byte_level_bpe(
    texts: Iterable[str], vocab_size: int, *, unused: int = 83, max_length: int = 8192
) -> "PreTrainedTokenizerFast":
    """Train on ``texts``, with the same result every time; at most ``vocab_size`` entries of all kinds.

    Learned entries come first, then SPECIAL_TOKENS, then ``unused`` entries or the few more that make their
    number a multiple of 64. Where the texts have too few pairs the vocabulary is smaller. Raises DataError
    without any text.

    >>> tokenizer = train_byte_level_bpe(["a dog, a cat"] * 9, 384)
    >>> tokenizer.decode(tokenizer("a dog")["input_ids"]), len(tokenizer) % 64
    ('[CLS]a dog[SEP]', 0)
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(256, vocab_size - unused - len(SPECIAL_TOKENS)),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    seen = False

    def counted() -> Iterable[str]:
        nonlocal seen
        for text in texts:
            seen = True
            yield text

    tokenizer.train_from_iterator(counted(), trainer)
    if not seen:
        raise DataError("there is no text to train a tokenizer on: name files that hold some")
    _add_special_tokens(tokenizer, unused)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token=_added("[MASK]"),
    )


def _added(token: str) -> "AddedToken":
    from tokenizers import AddedToken

    # A mask takes the space before it, as words of a byte-level vocabulary do.
    return AddedToken(token, lstrip=token == "[MASK]", special=True)


def _add_special_tokens(tokenizer: "Tokenizer", unused: int) -> None:
    from tokenizers import AddedToken, processors

    tokenizer.add_special_tokens([_added(token) for token in SPECIAL_TOKENS])
    entries = tokenizer.get_vocab_size() + unused
    unused += -entries % _MULTIPLE
    tokenizer.add_tokens([AddedToken(f"[unused{number}]", special=False) for number in range(unused)])
    cls, sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )


class Fertility(NamedTuple):
    """How finely a tokenizer cuts texts: tokens per word, bytes per token, and the share of unknown tokens.

    Words are what stands between white space; special tokens are not counted.
    """

    tokens_per_word: float
    bytes_per_token: float
    unknown: float


def fertility(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Fertility:
    """The fertility of a tokenizer on texts. Raises DataError where these hold no word."""
    words = sum(len(text.split()) for text in texts)
    if not words:
        raise DataError("the texts to compare tokenizers on hold no word: name others")
    size = sum(len(text.encode()) for text in texts)
    tokens = unknown = 0
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:  # type: ignore[union-attr]
            tokens += len(ids)
            unknown += sum(token == tokenizer.unk_token_id for token in ids)
    return Fertility(tokens / words, size / max(tokens, 1), unknown / max(tokens, 1))


def word_starts(tokenizer: "PreTrainedTokenizerBase") -> list[bool]:
    """For each id, whether its token begins a word or stands alone, in any of the three spellings of BPE.

    Byte-level ("Ġ" for a space) and SentencePiece ("▁") mark beginnings, WordPiece ("##") continuations.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if any(token.startswith("##") for token in tokens if token):
        return [not str(token).startswith("##") for token in tokens]
    special = set(tokenizer.all_special_ids)
    return [
        number in special or not str(token)[:1].isalnum() or str(token)[0] in "ĠĊ▁"
        for number, token in enumerate(tokens)
    ]
