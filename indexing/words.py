"""Where the words of a text are, in any script.

A word is a sequence of letters, numbers and the marks that belong to them; an underscore ends it. Scripts
that do not tell words apart by blanks have *runs* instead, which other scripts and numbers end: Chinese,
Japanese, Thai, Lao, Khmer and Burmese have no blanks between words, and Korean writes particles onto its
nouns. A run is made of *units*: a character with its marks.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

_CHINESE = r"々〆〇㐀-䶿一-鿿\uf900-\ufaff\u3105-\u312f\U00020000-\U000323af"
_JAPANESE = r"〱-〵ぁ-ゖゝ-ゟァ-ヺー-ヿㇰ-ㇿｦ-ﾟ\U0001aff0-\U0001b16f"
_KOREAN = r"\u1100-\u11ffㄱ-ㆎ\ua960-\ua97c가-\ud7fbﾡ-\uffdc"
_THAI_LAO = r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ecd\u0edc-\u0edf"
_BURMESE_KHMER = r"\u1000-\u103f\u1050-\u108f\u109a-\u109d\u1780-\u17d3\u17d7\u17dc\u17dd"
_UNSPACED = _CHINESE + _JAPANESE + _KOREAN + _THAI_LAO + _BURMESE_KHMER
_JOINERS = r"\u00ad\u200d"
"""Soft hyphen and zero-width joiner."""

_VIRAMAS = r"\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
"""Behind these of the scripts of India a zero-width non-joiner is within a word; elsewhere it ends one."""

_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}]")
_KOREAN_LETTER = re.compile(f"[{_KOREAN}]")


class _Patterns(NamedTuple):
    """What cannot be said without a list of all marks: a word, a run or what is between runs, a unit."""

    word: re.Pattern[str]
    run: re.Pattern[str]
    unit: re.Pattern[str]


def find_words(text: str) -> Iterator[re.Match[str]]:
    """The words and runs of a text where they stand.

    >>> [word[0] for word in find_words("parse_http(raw), PDFを2回")]
    ['parse', 'http', 'raw', 'PDF', 'を', '2', '回']
    """
    if text.isascii():
        return _ASCII_WORD.finditer(text)
    patterns, text = _patterns(), text.replace("_", " ")
    words = patterns.word.finditer(text)
    if not has_runs(text):
        return words
    return chain.from_iterable(patterns.run.finditer(text, *word.span()) for word in words)


def split_words(text: str) -> list[str]:
    """The words of ``find_words`` alone, of a text that ``has_runs`` says has no runs; in half the time.

    >>> split_words("parse_http(raw)")
    ['parse', 'http', 'raw']
    """
    return _ASCII_WORD.findall(text) if text.isascii() else _patterns().word.findall(text.replace("_", " "))


def is_run(word: str) -> bool:
    """Whether a word of ``find_words`` is a run of a script that does not tell words apart."""
    return not word.isascii() and _ANY_UNSPACED.match(word) is not None


def has_runs(text: str) -> bool:
    """Whether a text may have runs: it has characters of scripts that do not tell words apart."""
    return not text.isascii() and _ANY_UNSPACED.search(text) is not None


def find_units(run: str) -> Iterator[re.Match[str]]:
    """The units of a run where they stand in it.

    >>> [unit[0] for unit in find_units("ที่นี่")]
    ['ที่', 'นี่']
    """
    return _patterns().unit.finditer(run)


def is_word_character(character: str) -> bool:
    """Whether a word with blanks around it goes on over ``character``: not in scripts without blanks."""
    if character.isascii():
        return character.isalnum()
    if _ANY_UNSPACED.match(character):
        return _KOREAN_LETTER.match(character) is not None
    return _patterns().word.match(character) is not None


@cache
def _patterns() -> _Patterns:
    codes = chain(range(0x300, 0x1F000), range(0xE0100, 0xE01F0))
    marks = _ranges([code for code in codes if unicodedata.category(chr(code)) in ("Mn", "Mc")])
    word = rf"[\w{marks}{_JOINERS}]"  # where blanks have taken the place of underscores
    return _Patterns(
        re.compile(rf"{word}+(?:(?<=[{_VIRAMAS}])\u200c{word}*)*"),
        re.compile(rf"[{_UNSPACED}][{_UNSPACED}{marks}{_JOINERS}]*|[^{_UNSPACED}]+"),
        re.compile(rf".[{marks}{_JOINERS}ﾞﾟ]*"),
    )


def _ranges(codes: Sequence[int]) -> str:
    """Rising codes as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
