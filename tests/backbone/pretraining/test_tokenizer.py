"""Byte-level BPE: the same bytes every time, any text there and back, BERT's special tokens."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.tokenizer import (
    SPECIAL_TOKENS,
    fertility,
    train_byte_level_bpe,
    word_starts,
)
from flatcoat.errors import DataError


def test_the_same_texts_give_the_same_bytes(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hash tables are seeded anew in each training, and threads count words in any order.
    for name in ("true", "false", "again"):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false" if name == "false" else "true")
        train_byte_level_bpe(texts, 384).save_pretrained(str(tmp_path / name))
    for file in (tmp_path / "true").iterdir():
        for name in ("false", "again"):
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes(), file.name


def test_the_vocabulary_is_learned_then_special_then_unused(tokenizer: PreTrainedTokenizerFast) -> None:
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert len(names) == len(set(names)) == 384
    first = names.index("[UNK]")
    assert tuple(names[first : first + 5]) == SPECIAL_TOKENS
    assert all(name.startswith("[unused") for name in names[first + 5 :])
    assert len(names) - first - 5 >= 10
    assert not any(name.startswith("[") and name != "[" for name in names[:first])


@pytest.mark.parametrize("size", [384, 448])
def test_too_few_pairs_make_a_smaller_vocabulary_of_whole_64s(size: int) -> None:
    assert len(train_byte_level_bpe(["ab ab"], size, unused=3)) == 320


@pytest.mark.parametrize(
    "text", ["naïve café — 東京 🙂", "\tdef f(x):\n    return x  \n", "\0\x7f", "  two  "]
)
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
    assert tokenizer.unk_token_id not in ids


def test_pairs_and_masks_stand_as_in_bert(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(str(tmp_path))
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    cls, sep, mask = loaded.cls_token_id, loaded.sep_token_id, loaded.mask_token_id
    pair = loaded("The dog", "a cat")["input_ids"]
    assert (pair[0], pair[-1], pair.count(sep)) == (cls, sep, 2)
    # The mask stands for a word with the space before it.
    plain = loaded("The dog sees", add_special_tokens=False)["input_ids"]
    masked = loaded("The [MASK] sees", add_special_tokens=False)["input_ids"]
    dog = loaded(" dog", add_special_tokens=False)["input_ids"]
    place = masked.index(mask)
    assert masked[:place] + dog + masked[place + 1 :] == plain
    assert loaded.model_max_length == 8192


def test_no_text_is_an_error() -> None:
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        train_byte_level_bpe([], 384)


def test_fertility_counts_words_and_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    sample = ["The dog sees", "é é"]
    count = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in sample)
    found = fertility(tokenizer, sample)
    assert found == (count / 5, (12 + 5) / count, 0.0)
    with pytest.raises(DataError, match="no word"):
        fertility(tokenizer, [" "])


def test_words_begin_where_each_spelling_says(tokenizer: PreTrainedTokenizerFast) -> None:
    def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[bool]:
        starts = word_starts(tokenizer)
        return [starts[token] for token in tokenizer(text, add_special_tokens=False)["input_ids"]]

    text = "The zebra, 12 [MASK]"
    starts = pieces(tokenizer, text)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    words = [tokenizer.decode(token) for token in ids]
    expected = [word.startswith((" ", ",", "[MASK]")) or place == 0 for place, word in enumerate(words)]
    # The first word of a text has no mark of its beginning, but it follows [CLS], which is none of its word.
    assert starts[1:] == expected[1:]
    assert False in starts and True in starts
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.pre_tokenizer = pre_tokenizers.Whitespace()
    wordpiece.train_from_iterator(["a bc bcd"] * 9, trainers.WordPieceTrainer(special_tokens=["[UNK]"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=wordpiece, unk_token="[UNK]")
    names = fast.convert_ids_to_tokens(list(range(len(fast))))
    assert word_starts(fast) == [not name.startswith("##") for name in names]
