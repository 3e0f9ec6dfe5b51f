"""Words of texts and queries as full-text search wants them: identifiers in parts, no stop words."""

import re

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by can do does for from has have how i if in into is it its my no not of "
        "on or such t that the their then there these they this to was we were what when where which who "
        "why will with you your"
    )
)

MOST_TERMS = 1024
"""Of one query, as many as Lucene takes."""


def camel_parts(text: str) -> str:
    """The parts of the camelCase words of a text, each once: ``parseHTTPReply`` gives parse HTTP Reply.

    Parts between underscores are words of their own to SQLite.
    """
    parts: dict[str, None] = {}
    for word in dict.fromkeys(_WORD.findall(text)):
        found = _CAMEL.split(word)
        if len(found) > 1:
            parts.update(dict.fromkeys(found))
    return " ".join(parts)


def query_terms(query: str) -> list[str]:
    """The words to look for, each once, camelCase words in parts too; stop words if there are no others.

    Of a long query the first MOST_TERMS count: the time that FTS5 takes grows with their square.
    """
    words = _WORD.findall(query)
    terms = dict.fromkeys(term.lower() for word in words for term in (word, *_CAMEL.split(word)))
    return ([term for term in terms if term not in _STOP_WORDS] or list(terms))[:MOST_TERMS]
