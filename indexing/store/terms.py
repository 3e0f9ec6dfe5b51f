"""Words and terms of full-text search: the one rule of which words are the same.

A word is what SQLite's FTS5 cuts a text into. Two words are the same if they have a stem in common: their own
(Porter's, in lower case and without diacritics, https://sqlite.org/fts5.html), or the stem of a part
of a camelCase word. The stems come from SQLite itself, so that BM25, explanations and highlighting always
agree.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import islice
from typing import TypeAlias

from flatcoat.indexing.documents import normalized

Span: TypeAlias = tuple[int, int]
"""First character and the one after the last."""

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
"""FTS5's setting: which characters belong to words, and that English words are stemmed."""

MOST_TERMS = 1024
"""Of one query, as many as Lucene takes."""

_RUN = re.compile(r"[^ ]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STOP_WORDS = frozenset(
    "a an and are as at be but by can do does for from has have how i if in into is it its my no not of "  # noqa: SIM905
    "on or such t that the their then there these they this to was we were what when where which who "
    "why will with you your".split()
)


def find_words(text: str) -> Iterator[re.Match[str]]:
    """The words of a text where they stand, as TOKENIZER cuts them: letters, numbers, combining marks.

    >>> [word[0] for word in find_words("parse_http(raw), twice")]
    ['parse', 'http', 'raw', 'twice']
    """
    apart = {ord(character): " " for character in set(text) if not is_word_character(character)}
    return _RUN.finditer(text.translate(apart))


def is_word_character(character: str) -> bool:
    """Whether a word goes on over ``character``."""
    return character.isalnum() if character.isascii() else _joins(character)


def camel_parts(text: str) -> str:
    """The parts of the camelCase words of a text, each once.

    Parts between underscores are words of their own to SQLite.

    >>> camel_parts("parseHTTPReply and plain words")
    'parse HTTP Reply'
    """
    parts: dict[str, None] = {}
    for word in dict.fromkeys(match[0] for match in find_words(text)):
        found = _CAMEL.split(word)
        if len(found) > 1:
            parts.update(dict.fromkeys(found))
    return " ".join(parts)


def query_terms(query: str) -> list[str]:
    """The distinct terms of a query, parts of camelCase words included; stop words only if it has no others.

    Of a long query the first MOST_TERMS count: the time that FTS5 takes grows with their square.

    >>> query_terms("How is getUserName called?")
    ['getusername', 'get', 'user', 'name', 'called']
    """
    return list(query_spans(query))


def query_spans(query: str) -> dict[str, Span]:
    """The terms of ``query_terms``, each with the place where it first stands in the ``normalized`` query."""
    spans: dict[str, Span] = {}
    for word in find_words(normalized(query)):
        spans.setdefault(word[0].lower(), word.span())
        end = word.start()
        for part in _CAMEL.split(word[0]):
            start, end = end, end + len(part)
            spans.setdefault(part.lower(), (start, end))
    telling = {term: span for term, span in spans.items() if term not in _STOP_WORDS}
    return dict(islice((telling or spans).items(), MOST_TERMS))


def find_terms(text: str, terms: Sequence[str]) -> dict[str, list[Span]]:
    """For each term the places of the words of a text that full-text search finds by it, in their order.

    >>> find_terms("Cats parse. def parseLoudly(cat)", ["cat", "parsing"])
    {'cat': [(0, 4), (28, 31)], 'parsing': [(5, 10), (16, 27)]}
    """
    places: dict[str, list[Span]] = {}
    for word in find_words(text):
        places.setdefault(word[0], []).append(word.span())
    forms = {word: dict.fromkeys((word, *_CAMEL.split(word))) for word in places}
    distinct = list(dict.fromkeys([*terms, *(form for parts in forms.values() for form in parts)]))
    stem_of = dict(zip(distinct, stems(distinct), strict=True))
    words_of: dict[str, list[str]] = {}
    for word, parts in forms.items():
        for stem in {stem_of[part] for part in parts}:
            words_of.setdefault(stem, []).append(word)
    return {
        term: sorted(span for word in words_of.get(stem_of[term], ()) for span in places[word])
        for term in terms
    }


def stems(words: Iterable[str], tokenizer: str = TOKENIZER) -> list[str]:
    """The form in which FTS5 indexes each word; a word in which it sees none stays as it is.

    >>> stems(["Parsing", "parsed", "forêt"])
    ['pars', 'pars', 'foret']
    """
    words = list(words)
    with closing(_table(tokenizer)) as database:
        database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, 'instance')")
        database.executemany("INSERT INTO words(rowid, word) VALUES (?, ?)", enumerate(words))
        found = dict(database.execute("SELECT doc, term FROM terms ORDER BY doc, offset DESC"))
    return [found.get(row, word) for row, word in enumerate(words)]


@cache
def _joins(character: str) -> bool:
    """``is_word_character`` beyond ASCII. SQLite is asked: its Unicode tables are older than Python's."""
    if unicodedata.category(character) == "Cs":  # half a surrogate pair
        return False
    apart = _two_words().execute("SELECT 1 FROM words WHERE words MATCH ?", [f'"a{character}b"'])
    return apart.fetchone() is None


@cache
def _two_words() -> sqlite3.Connection:
    connection = _table(TOKENIZER)
    connection.execute("INSERT INTO words VALUES ('a b')")
    return connection


def _table(tokenizer: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute(f'CREATE VIRTUAL TABLE words USING fts5(word, tokenize = "{tokenizer}")')
    return connection
