"""Terms of full-text search: the one rule of which words are the same, in any script.

A word is indexed under its term: variants of letters (case, width, accents, the forms of Arabic and of
numbers) folded, then the ending taken by the stemmer for the language that its script tells, English for
Latin letters (Snowball's, https://snowballstem.org; for Arabic light10). A camelCase word has the terms of
its parts too. In a text whose stop words tell that it is German, French or Dutch a word has its stem in that
language too, so that a query finds it by its plainest form.

In a run of a script that does not tell words apart every character is a term and so is every pair, in texts
and in queries: characters find a compound by its parts, pairs come first (Nie and others 2000, "On the use of
words and n-grams for Chinese information retrieval").
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice, pairwise
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import Stemmer

from .documents import normalized
from .stop_words import STOP_WORDS, language_of
from .words import find_units, find_words, has_runs, is_run, split_words

Span: TypeAlias = tuple[int, int]
"""First character and the one after the last."""

MOST_TERMS = 1024
"""Of one query, as many as Lucene takes."""

LONGEST_TERM = 256
"""Characters of a word that count."""

_SHORTEST_STEMMED = 3
"""Characters of an English word."""

_MOST_CACHED = 1 << 20
"""Words whose terms are remembered."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Accents, the points of Hebrew, the vowel signs and tatweel of Arabic, the nukta of India, joiners, selectors
# of variants. The breve and the diaeresis make letters of their own of и, у and і.
_DROPPED = re.compile(
    "(?<![иуі])[\u0306\u0308]|[\u0300-\u0305\u0307\u0309-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f"
    "\u0670\u06d6-\u06ed\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc\u00ad\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_HINDI_NASALS = re.compile("ङ्(?=[क-घ])|ञ्(?=[च-झ])|ण्(?=[ट-ढ])|न्(?=[त-ध])|म्(?=[प-भ])")
"""Before a consonant of its own kind a nasal is as often written as a dot."""

_LETTERS = str.maketrans(
    {"đ": "d", "ø": "o", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe"}
    | {"ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ँ": "ं"}
)
_STEMMED_TOO = ("german", "french", "dutch")
"""Languages whose stem is mostly the plainest form of a word, which English stemming leaves alone."""

_TELLING_TEXT, _TELLING_QUERY = 4, 2
"""Different stop words that tell the language of a text, and of a query."""

_LANGUAGES = {"russian": re.compile("[Ѐ-ӿ]"), "hindi": re.compile("[\u0900-\u097f]")}
"""Snowball's stemmers by the letters that words of the language begin with."""

_ARABIC = re.compile("[\u0600-\u06ff]")
_ARABIC_PREFIX = re.compile("(?:[وبكف]?ال|لل)(?=..)|و(?=...)")
_ARABIC_SUFFIXES = ("ها", "ان", "ات", "ون", "ين", "يه", "ي", "ه")


def index_terms(text: str) -> list[str]:
    """All terms of a text: of its words, as often as they are there, and of camelCase parts once.

    >>> index_terms("parseReply parsed 東京都")
    ['parserepli', 'pars', '東', '京', '都', '東京', '京都', 'pars', 'repli']
    """
    words = [word for word, _ in _placed_words(text)] if has_runs(text) else split_words(text)
    language = _language(words)
    known = list(map(_KNOWN[language].__getitem__, words))
    stems = () if language == "english" else filter(None, map(itemgetter(2), known))
    parts = dict(chain.from_iterable(word.parts for word in known if word.parts))
    return [*filter(None, map(itemgetter(0), known)), *stems, *parts.values()]


def query_terms(query: str) -> list[str]:
    """The terms of a query as they are indexed, twice where two words have the same one.

    Stop words count only in a query of nothing else, and of a long query the first MOST_TERMS.

    >>> query_terms("How is getUserName called?"), query_terms("東京都")
    (['getusernam', 'get', 'user', 'name', 'call'], ['東京', '京都', '東', '京', '都'])
    """
    return [_term(word) for word in query_spans(query)]


def query_words(query: str) -> list[str]:
    """The words of a query, in lower case and with their endings, and the pairs of its runs.

    >>> query_words("How is getUserName called?"), query_words("東京都")
    (['getusername', 'get', 'user', 'name', 'called'], ['東京', '京都'])
    """
    return list(_telling(_placed_query_words(find_words(normalized(query)))))


def query_spans(query: str) -> dict[str, Span]:
    """The words, pairs and characters behind ``query_terms``, and where each stands first.

    That is in the ``normalized`` query.
    """
    words = list(find_words(normalized(query)))
    units = chain.from_iterable(_units(word) for word in words if is_run(word[0]))
    return _telling(chain(_placed_query_words(words), units))


def find_terms(text: str, words: Sequence[str]) -> dict[str, list[Span]]:
    """For each word the places of the words of a text that full-text search finds by it, in their order.

    >>> find_terms("Cats parse. def parseLoudly(cat)", ["cat", "parsing"])
    {'cat': [(0, 4), (28, 31)], 'parsing': [(5, 10), (16, 27)]}
    """
    places: dict[str, dict[Span, None]] = {_term(word): {} for word in words}  # a part may be there twice
    placed = list(_placed_words(text))
    known_words = _KNOWN[_language([word for word, _ in placed])]
    for word, span in placed:
        known = known_words[word]
        for term in (known.term, known.stem or known.term, *(term for _, term in known.parts)):
            if term in places:
                places[term][span] = None
    return {word: sorted(places[_term(word)]) for word in words}


def find_query(text: str, query: str) -> dict[str, list[Span]]:
    """``find_terms`` of the words of a query; of the characters of its runs where no word or pair is there.

    >>> find_query("셀의 값", "셀을"), find_query("東京と京都", "東京の")
    ({'셀을': [], '셀': [(0, 1)], '을': []}, {'東京': [(0, 2)], '京の': []})
    """
    found = find_terms(text, query_words(query))
    if any(found.values()) or not has_runs(query):
        return found
    return find_terms(text, list(query_spans(query)))


class _Word(NamedTuple):
    """The term of a word (empty for mere marks), and the parts of a camelCase word with their terms.

    ``stem`` is the stem in the language of the text, empty where it is the term.
    """

    term: str
    parts: tuple[tuple[str, str], ...]
    stem: str


class _Known(dict[str, _Word]):
    """What is known of words in texts of a language, learned as they are looked up."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, word: str) -> _Word:
        parts, term = _CAMEL.split(word), _term(word)
        if len(parts) > 1:
            known = _Word(term, tuple((part, _term(part)) for part in parts), "")
        else:
            known = _Word(term, (), self._stem(word, term))
        if len(self) >= _MOST_CACHED:
            self.clear()
        if len(word) <= LONGEST_TERM:
            self[word] = known
        return known

    def _stem(self, word: str, term: str) -> str:
        if self._language == "english" or not "a" <= term[:1] <= "z":
            return ""
        stem = _folded(_stemmer(self._language).stemWord(word[:LONGEST_TERM].lower()))
        return "" if stem == term else stem


_KNOWN = {language: _Known(language) for language in ("english", *_STEMMED_TOO)}
"""By the language of the text."""


def _language(words: Sequence[str]) -> str:
    """The language of a text of these words, among those that ``_KNOWN`` has."""
    language = language_of(words, least=_TELLING_TEXT)
    return language if language in _STEMMED_TOO else "english"


def _telling(placed: Iterable[tuple[str, Span]]) -> dict[str, Span]:
    """The words that count among those of a query, each with its first place."""
    spans: dict[str, Span] = {}
    for word, span in placed:
        spans.setdefault(word, span)
    known = {word: span for word, span in spans.items() if _term(word)}
    stop_words = STOP_WORDS["english"] | STOP_WORDS[language_of(known, least=_TELLING_QUERY)]
    telling = {word: span for word, span in known.items() if word not in stop_words}
    return dict(islice((telling or known).items(), MOST_TERMS))


def _placed_words(text: str) -> Iterator[tuple[str, Span]]:
    """The words of a text, in place of a run its units and pairs, with their places."""
    for word in find_words(text):
        if is_run(word[0]):
            units = _units(word)
            yield from chain(units, _pairs(units))
        else:
            yield word[0], word.span()


def _placed_query_words(words: Iterable[re.Match[str]]) -> Iterator[tuple[str, Span]]:
    """The words of a query in lower case and their parts, in place of a run its pairs, with their places."""
    for word in words:
        if is_run(word[0]):
            units = _units(word)
            yield from _pairs(units) or units
            continue
        yield word[0].lower(), word.span()
        end = word.start()
        for part in _CAMEL.split(word[0]):
            start, end = end, end + len(part)
            yield part.lower(), (start, end)


def _units(run: re.Match[str]) -> list[tuple[str, Span]]:
    start = run.start()
    return [(unit[0], (start + unit.start(), start + unit.end())) for unit in find_units(run[0])]


def _pairs(units: Sequence[tuple[str, Span]]) -> list[tuple[str, Span]]:
    return [(one + other, (start, end)) for (one, (start, _)), (other, (_, end)) in pairwise(units)]


def _term(word: str) -> str:
    """The term of a word that is no camelCase, or of a unit or a pair; empty where nothing of it counts."""
    word = word[:LONGEST_TERM]
    if word.isascii():
        return _english_stem(word.lower())
    if is_run(word):
        return "".join(_folded(unit[0]) for unit in find_units(word))
    folded = _folded(word)
    if _ARABIC.match(folded):
        return _arabic_stem(folded)
    for language, letters in _LANGUAGES.items():
        if letters.match(folded):
            return _stemmer(language).stemWord(folded) or folded
    return _english_stem(folded)


def _english_stem(word: str) -> str:
    """Porter's stem, by the two rules too that his program has beyond his paper, for "bly" and "logy"."""
    if len(word) < _SHORTEST_STEMMED:
        return word
    stem = _stemmer("porter").stemWord(word[:-1] + "e" if word.endswith("bly") else word)
    return stem[:-1] if stem.endswith("logi") else stem


def _arabic_stem(word: str) -> str:
    """A word without article, conjunction and the commonest endings: light10 (Larkey and others 2007).

    Snowball's stemmer takes other endings from a noun with the article than from one without.
    """
    if prefix := _ARABIC_PREFIX.match(word):
        word = word[prefix.end() :]
    for suffix in _ARABIC_SUFFIXES:
        if len(word) >= len(suffix) + 2:
            word = word.removesuffix(suffix)
    return word


@lru_cache(1 << 16)
def _folded(word: str) -> str:
    """A word without the differences that do not count."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word).casefold())
    plain = unicodedata.normalize("NFC", _DROPPED.sub("", plain)).translate(_LETTERS)
    plain = _HINDI_NASALS.sub("ं", plain)
    return re.sub(r"\d", lambda digit: str(int(digit[0])), plain)


@cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language, 0)
