"""Words for full-text search: parts of identifiers, stop words."""

import pytest

from flatcoat.indexing.lexical import MOST_TERMS, camel_parts, query_terms


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("parseHTTPReply and plain words", "parse HTTP Reply"),
        ("XMLReader, XMLWriter", "XML Reader Writer"),
        ("snake_case is apart already", ""),
        ("utf8Decoder", "utf8 Decoder"),
    ],
)
def test_camel_case_words_come_in_parts(text: str, parts: str) -> None:
    assert camel_parts(text) == parts


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("How is getUserName called?", ["getusername", "get", "user", "name", "called"]),
        ("how to be", ["how", "to", "be"]),
        ("open_index open", ["open", "index"]),
        ("?!", []),
    ],
)
def test_stop_words_count_where_there_is_nothing_else(query: str, terms: list[str]) -> None:
    assert query_terms(query) == terms


def test_of_a_long_query_the_first_words_count() -> None:
    words = [f"w{number}" for number in range(5_000)]
    assert query_terms(" ".join(words)) == words[:MOST_TERMS]
    assert query_terms("the " * 5_000 + "cat") == ["cat"]
