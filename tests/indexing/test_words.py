"""Where words are, in any script."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.words import find_units, find_words, has_runs, is_run, is_word_character, split_words

WORDS = {
    "code": ("parse_http(raw) x2", ["parse", "http", "raw", "x2"]),
    "German": ("Die Straße, größer.", ["Die", "Straße", "größer"]),
    "soft hyphen": ("co\u00adoperate", ["co\u00adoperate"]),
    "French, decomposed": (
        unicodedata.normalize("NFD", "forêt d'été"),
        ["fore\u0302t", "d", "e\u0301te\u0301"],
    ),
    "Russian": ("Ёлка и ель.", ["Ёлка", "и", "ель"]),
    "Arabic with vowel signs": ("اللُّغَةُ، العربية؟", ["اللُّغَةُ", "العربية"]),
    "Persian": ("می\u200cخواهم", ["می", "خواهم"]),
    "Hindi": ("हिन्दी में क्\u200dष क्\u200cष।", ["हिन्दी", "में", "क्\u200dष", "क्\u200cष"]),
    "Tamil": ("கடல் யானை", ["கடல்", "யானை"]),
    "Chinese": ("海象生活在北极，2米。", ["海象生活在北极", "2", "米"]),
    "Japanese": ("PDFを2回ｺﾋﾟｰする", ["PDF", "を", "2", "回ｺﾋﾟｰする"]),
    "Korean": ("바다코끼리는 PDF를", ["바다코끼리는", "PDF", "를"]),
    "Thai": ("ที่นี่ 5 บาท", ["ที่นี่", "5", "บาท"]),
    "Lao": ("ພາສາລາວ", ["ພາສາລາວ"]),
    "Khmer": ("ភាសាខ្មែរ", ["ភាសាខ្មែរ"]),
    "Burmese": ("မြန်မာစာ။", ["မြန်မာစာ"]),
    "emoji": ("🦭 walrus🦭 👨\u200d👩\u200d👧 ❤\ufe0f", ["walrus", "\u200d", "\u200d", "\ufe0f"]),
    "private use": ("\ue000logo", ["logo"]),
    "numbers": ("x² ½ Ⅷ ٣ 3.14", ["x²", "½", "Ⅷ", "٣", "3", "14"]),
}

ALPHABET = "aZé_ -9ßё\u0301\u00ad\u200c\u200d語のデーｶﾞ\ufe00한국ที่\u0e33ကို្ខہअ्क़.。\ue000\ud800🦭"
mixed_texts = st.text(st.sampled_from(ALPHABET) | st.characters(), max_size=30)


@pytest.mark.parametrize(("text", "words"), WORDS.values(), ids=WORDS)
def test_words_of_a_script(text: str, words: list[str]) -> None:
    assert [word[0] for word in find_words(text)] == words


@given(mixed_texts)
def test_words_are_all_letters_and_numbers_of_a_text_in_order(text: str) -> None:
    words = list(find_words(text))
    ends = [0, *(end for word in words for end in word.span()), len(text)]
    assert ends == sorted(ends)
    assert all(text[slice(*word.span())] == word[0] != "" for word in words)
    between = [text[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)]
    assert not any(character.isalnum() for part in between for character in part)
    assert not any(is_word_character(character) for part in between for character in part)


@given(mixed_texts)
def test_a_word_is_of_one_kind(text: str) -> None:
    words = [word[0] for word in find_words(text)]
    assert has_runs(text) >= any(map(is_run, words))
    assert all(is_run(word) == has_runs(word) for word in words)
    if not has_runs(text):
        assert split_words(text) == words


@given(mixed_texts)
def test_units_make_up_a_run(text: str) -> None:
    for word in find_words(text):
        assert "".join(unit[0] for unit in find_units(word[0])) == word[0]
    assert [unit[0] for unit in find_units("ｶﾞか\u3099語\U000e0100")] == ["ｶﾞ", "か\u3099", "語\U000e0100"]


def test_words_with_blanks_around_them_go_on() -> None:
    assert all(map(is_word_character, "aZ9éя한अ्"))
    assert not any(map(is_word_character, " _-.漢かカー。ไ🦭\ue000\ud800"))
