from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from flatcoat.backbone.tokenizer import SPECIAL_TOKENS, train_tokenizer


def test_special_tokens_come_first_and_are_known(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert [*ids, tokenizer.mask_token_id] == [0, 1, 2, 3, 4]
    assert len(tokenizer) <= 320
    assert tokenizer("cat", "dog")["input_ids"][0] == 2
    assert [index for index in tokenizer("cat", "dog")["input_ids"] if index < 5] == [2, 3, 3]
    assert tokenizer("☃")["input_ids"] == [2, 1, 3]


@pytest.mark.parametrize(
    "spelling", ["parse_http_response", "Parse HTTP response", "PARSE HTTP RESPONSE", "ParseHTTPResponse"]
)
def test_one_name_has_one_tokenisation_but_for_its_underscores(
    tokenizer: PreTrainedTokenizerFast, spelling: str
) -> None:
    tokens = [token for token in tokenizer.tokenize(spelling) if token != "_"]
    assert tokens == tokenizer.tokenize("parseHttpResponse")
    assert "[UNK]" not in tokens


def test_accents_are_folded(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("forêt") == tokenizer.tokenize("FORET")


@pytest.mark.parametrize(
    "text", ["parseHttpResponse(raw_bytes)", "La forêt, ﬁne Über 1937!", "  two\n lines "]
)
def test_offsets_point_into_the_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    covered = {position for start, end in offsets for position in range(start, end)}
    assert covered == {position for position, letter in enumerate(text) if not letter.isspace()}
    assert offsets == sorted(offsets)
    words = tokenizer("parseHttpResponse", return_offsets_mapping=True)
    pieces = {"parseHttpResponse"[start:end] for start, end in words["offset_mapping"]}
    assert not any("eH" in piece or "pR" in piece for piece in pieces)


def test_it_is_saved_and_loaded_by_transformers(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(str(tmp_path))
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    texts = ["parseHttpResponse", "La forêt, 東京!", ""]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded.model_max_length == tokenizer.model_max_length == 8192
    assert list(loaded(["a"])) == ["input_ids", "attention_mask"]
    assert (loaded.pad_token_id, loaded.mask_token_id) == (0, 4)


def test_the_size_and_the_length_are_kept() -> None:
    small = train_tokenizer(["one two three four five six seven"] * 3, vocab_size=30, max_length=77)
    assert len(small) == 30
    assert small.model_max_length == 77
