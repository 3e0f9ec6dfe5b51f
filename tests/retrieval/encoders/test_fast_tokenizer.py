"""Ids and places of tokens as transformers' tokenizer gives them, of texts of any length."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.retrieval.encoders.fast_tokenizer import FastTokenizer
from flatcoat.retrieval.encoders.load import SHIPPED_MODEL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PARTS = ["cat", " ", "\n", "x" * 50, "[SEP]", "東京", "é", "parseHttp", "_", "123", "\u0301", "🦦", " " * 400]


def our_own(folder: Path) -> FastTokenizer:
    said = json.loads((folder / "tokenizer_config.json").read_text())
    return FastTokenizer(folder / "tokenizer.json", said)


@pytest.fixture(scope="module")
def ours() -> FastTokenizer:
    return our_own(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def theirs() -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(SHIPPED_MODEL))


def assert_same(
    ours: FastTokenizer, theirs: "PreTrainedTokenizerBase", texts: list[str], length: int
) -> None:
    for offsets in (False, True):
        found = ours(texts, True, length, False, offsets)
        expected = theirs(
            texts,
            truncation=True,
            max_length=length,
            return_attention_mask=False,
            return_offsets_mapping=offsets,
        )
        assert found["input_ids"] == expected["input_ids"]
        if offsets:
            assert found["offset_mapping"] == expected["offset_mapping"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PARTS), max_size=60), st.integers(1, 40), st.integers(2, 64))
def test_texts_are_cut_as_the_library_cuts_them(
    ours: FastTokenizer, theirs: "PreTrainedTokenizerBase", parts: list[str], times: int, length: int
) -> None:
    text = "".join(parts)
    assert_same(ours, theirs, [text * times, text], length)


def test_what_is_read_of_a_long_text_decides_its_ids(
    ours: FastTokenizer, theirs: "PreTrainedTokenizerBase"
) -> None:
    blanks = " " * 100_000
    long = [
        f"cats{blanks}purr{blanks}{'at night ' * 3_000}",
        "y" * 30_000,
        f"{'dog ' * 20}{blanks}bark",
        blanks,
    ]
    for length in (2, 32, 300):
        assert_same(ours, theirs, long, length)


def test_of_a_very_long_text_no_more_is_read_than_the_model_reads(ours: FastTokenizer) -> None:
    read: list[int] = []

    class Reading(str):
        def __getitem__(self, place: slice) -> str:  # type: ignore[override]
            read.append(place.stop)
            return super().__getitem__(place)

    ours([Reading("why is the sky blue " * 1_000_000)], True, 48, False)
    assert max(read) < 10_000


def test_tokens_are_counted_whole(
    ours: FastTokenizer, theirs: "PreTrainedTokenizerBase", texts: list[str]
) -> None:
    many = [*texts, "cats purr " * 20_000]
    assert ours.counts(many) == [len(theirs.tokenize(text)) + 2 for text in many]


def test_fewer_tokens_than_every_text_has_are_refused(ours: FastTokenizer) -> None:
    with pytest.raises(FlatcoatError, match="1 tokens per text: at least 2 are needed"):
        ours(["cat"], True, 1, False)
    assert ours(["cat"], True, 2, False)["input_ids"] == [[2, 3]]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}', "\0" * 99, "[" * 100_000])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    said = json.loads((SHIPPED_MODEL / "tokenizer_config.json").read_text())
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        FastTokenizer(file, said)


def rebuilt_by_its_class(kind: str) -> "PreTrainedTokenizerBase":
    """A small tokenizer of a class that transformers rebuilds from its settings."""
    import transformers

    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "cat",
        "##s",
        *letters,
        *(f"##{one}" for one in letters),
    ]
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "XLMRobertaTokenizer":
        pieces = [(mark, 0.0) for mark in marks] + [
            ("▁", -2.0),
            ("▁cat", -3.0),
            *((one, -5.0) for one in letters),
        ]
        return transformers.XLMRobertaTokenizer(vocab=pieces)
    if kind == "RobertaTokenizer":
        from tokenizers.pre_tokenizers import ByteLevel

        pieces = [*marks, *sorted(ByteLevel.alphabet()), "ca", "cat", "Ġcat"]
        merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat")]
        return transformers.RobertaTokenizer(
            vocab={piece: id for id, piece in enumerate(pieces)}, merges=merges
        )
    if kind == "MPNetTokenizer":
        words = [*marks[:3], "[UNK]", "<mask>", *words[5:]]
    return getattr(transformers, kind)(vocab={word: id for id, word in enumerate(words)})


KINDS = ("BertTokenizer", "MPNetTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer")


@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_rebuild_a_tokenizer_are_read_alike(kind: str, tmp_path: Path) -> None:
    rebuilt_by_its_class(kind).save_pretrained(str(tmp_path))
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == kind
    ours = our_own(tmp_path)
    texts = ["", "cats", " cat  cat\n", "Él 東京 cats!", "x" * 150, "a [MASK] b <mask> c", "cat " * 60]
    for length in (4, 20, 64):
        assert_same(ours, theirs, texts, length)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_differs_from_its_settings_is_left_to_the_library(kind: str, tmp_path: Path) -> None:
    rebuilt_by_its_class(kind).save_pretrained(str(tmp_path))
    file = tmp_path / "tokenizer_config.json"
    said = json.loads(file.read_text())
    wordpiece = kind in KINDS[:2]
    name = "do_lower_case" if wordpiece else "add_prefix_space"
    file.write_text(json.dumps(said | {name: not said.get(name, kind != "RobertaTokenizer")}))
    with pytest.raises(ValueError, match=r"its tokenizer\.json has .*its settings say"):
        our_own(tmp_path)
