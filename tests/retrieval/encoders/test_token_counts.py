"""Counts of tokens by words are those of the tokenizer, whatever a text holds."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from flatcoat.retrieval.encoders import token_counts as module
from flatcoat.retrieval.encoders.load import SHIPPED_MODEL
from flatcoat.retrieval.encoders.token_counts import token_counts

PIECES = [
    *["the", "parseHttpResponse", "mRNA", "HTTPServer", "naïve", "Ångström", "東京タワー", "x" * 120, "a1B2"],
    *["[SEP]", "[sep]", "[MASK", "##ing", "don't", "e\u0301", "\u0301", "“quoted”", "½", "ǅ", "İ", "ß"],
    *[
        " ",
        "\n",
        "\t",
        "\r\n",
        "\x0b",
        "\x0c",
        "\x00",
        "\x7f",
        "\xa0",
        "\u2028",
        "\u200b",
        "\ufffd",
        "\U0001f600",
    ],
    *["_", "snake_case", "--", "3.14", "{}", "~", "0x1F"],
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=12).map("".join)


def shipped() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def plain() -> Tokenizer:
    tokenizer = shipped()
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    return tokenizer


BY_TOKENIZER = {"identifiers cut": shipped(), "cased": plain()}
COUNTERS = {name: token_counts(tokenizer) for name, tokenizer in BY_TOKENIZER.items()}


@pytest.mark.parametrize("name", BY_TOKENIZER)
@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["a\x00b", "Http\u200bResponse", "\u0301 x", "cafe\u0301s", "", " "])
def test_counts_are_the_tokenizers(name: str, texts: list[str]) -> None:
    assert isinstance(COUNTERS[name], module._WordCounts)
    wanted = [len(encoding) for encoding in BY_TOKENIZER[name].encode_batch(texts)]
    assert COUNTERS[name](texts) == wanted
    assert COUNTERS[name](texts) == wanted


def test_files_of_this_repository() -> None:
    texts = [path.read_text() for path in sorted(Path(module.__file__).parents[1].rglob("*.py"))]
    tokenizer = shipped()
    wanted = [len(encoding) for encoding in tokenizer.encode_batch(texts)]
    assert token_counts(tokenizer)(texts) == wanted
    assert sum(wanted) > 100_000


def another(tokenizer: Tokenizer, change: str) -> Tokenizer:
    """The tokenizer with one thing that makes the tokens of a word depend on those around it."""
    if change == "split":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    elif change == "no split":
        tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    elif change == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("a b", "c"), tokenizer.normalizer])
    else:
        tokenizer.add_tokens([AddedToken("new york", normalized=True)])
    return tokenizer


@pytest.mark.parametrize("change", ["split", "no split", "normalizer", "added"])
def test_other_tokenizers_count_whole_texts(change: str) -> None:
    tokenizer = another(shipped(), change)
    counter = token_counts(tokenizer)
    assert not isinstance(counter, module._WordCounts)
    texts = ["a b a b", "New York is a city", "don't", ""]
    assert counter(texts) == [len(encoding) for encoding in tokenizer.encode_batch(texts)]


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 50)
    tokenizer = shipped()
    counter = token_counts(tokenizer)
    assert isinstance(counter, module._WordCounts)
    texts = [f"word{number} {'y' * 300}{number} x{number}" for number in range(400)]
    wanted = [len(encoding) for encoding in tokenizer.encode_batch(texts)]
    with ThreadPoolExecutor(4) as pool:
        assert [row[0] for row in pool.map(lambda text: counter([text]), texts)] == wanted
    assert len(counter._known) < 60
    assert max(map(len, counter._known)) <= 100


def test_a_counter_can_be_sent_to_another_process() -> None:
    counter = pickle.loads(pickle.dumps(token_counts(shipped())))
    assert counter(["cats purr"]) == [5]
