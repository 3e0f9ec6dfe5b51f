"""Terms for full-text search: words of texts and queries, camelCase split into parts, no stop words."""

import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from functools import cache

from flatcoat.indexing.documents import normalized

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
"""The FTS5 tokenizer: words of letters, numbers and marks, without accents, stemmed as English (Porter)."""

_RUN = re.compile(r"[^ ]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STOP_WORDS = frozenset(
    "a an and are as at be but by can do does for from has have how i if in into is it its my no not of "  # noqa: SIM905
    "on or such t that the their then there these they this to was we were what when where which who "
    "why will with you your".split()
)

MOST_TERMS = 1024
"""Terms per query at most, the same number as Lucene's."""


def find_words(text: str) -> Iterator[re.Match[str]]:
    """The words of a text and their places, as TOKENIZER splits them: letters, numbers, combining marks.

    >>> [match[0] for match in find_words("parse_condition(x)")]
    ['parse', 'condition', 'x']
    """
    apart = {ord(character): " " for character in set(text) if not _is_of_words(character)}
    return _RUN.finditer(text.translate(apart))


def _is_of_words(character: str) -> bool:
    return character.isalnum() if character.isascii() else _joins(character)


@cache
def _joins(character: str) -> bool:
    """Whether a word goes on over ``character``, by SQLite's own tables, which lack recent symbols."""
    if unicodedata.category(character) == "Cs":  # half a surrogate pair
        return False
    apart = _two_words().execute("SELECT 1 FROM words WHERE words MATCH ?", [f'"a{character}b"'])
    return apart.fetchone() is None


@cache
def _two_words() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute(f'CREATE VIRTUAL TABLE words USING fts5(word, tokenize = "{TOKENIZER}")')
    connection.execute("INSERT INTO words VALUES ('a b')")
    return connection


def camel_parts(text: str) -> str:
    """The parts of the camelCase words of a text, each once.

    Parts between underscores are words by themselves to SQLite.

    >>> camel_parts("parseHTTPReply(data)")
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

    Terms beyond MOST_TERMS are ignored: the time of FTS5 grows with the square of their number.

    >>> query_terms("why is getUserName slow?")
    ['getusername', 'get', 'user', 'name', 'slow']
    """
    words = [match[0] for match in find_words(normalized(query))]
    terms = dict.fromkeys(term.lower() for word in words for term in (word, *_CAMEL.split(word)))
    return ([term for term in terms if term not in _STOP_WORDS] or list(terms))[:MOST_TERMS]
