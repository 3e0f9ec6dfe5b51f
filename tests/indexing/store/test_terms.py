"""Words for full-text search: parts of identifiers, stop words."""

import sqlite3
import unicodedata
from contextlib import closing

import pytest

from flatcoat.indexing.store.terms import MOST_TERMS, TOKENIZER, camel_parts, find_words, query_terms


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


TEXTS = {
    "Hindi": "हिन्दी में वालरस का मौसम",
    "Thai": "ฤดูกาล วอลรัส กำลังเริ่มต้น",
    "Vietnamese, composed": "mùa hải mã Việt",
    "Vietnamese, decomposed": unicodedata.normalize("NFD", "mùa hải mã Việt"),
    "Arabic with harakat": "اللُّغَةُ الْعَرَبِيَّةُ",
    "Hebrew with points": "שָׁלוֹם עוֹלָם",
    "Tamil": "கடல் யானை",
    "emoji": "🦭 walrus🦭 ₽100 👨‍👩‍👧 family❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "numbers": "x² ½ Ⅷ ٣ 3.14 a_b",
    "joined": "می‌خواهم co\u00adoperate don't",
    "private": "\ue000logo",
}


def fts5_words(text: str) -> list[str]:
    """The words as SQLite cuts them, without their endings being taken."""
    with closing(sqlite3.connect(":memory:")) as database:
        tokenizer = TOKENIZER.removeprefix("porter ")
        database.execute(f'CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = "{tokenizer}")')
        database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(texts, 'instance')")
        database.execute("INSERT INTO texts VALUES (?)", [text])
        return [term for (term,) in database.execute("SELECT term FROM terms ORDER BY offset")]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_words_are_those_of_sqlite_in_any_script(text: str) -> None:
    found = [match[0] for match in find_words(text)]
    assert [fts5_words(word) for word in found] == [[word] for word in fts5_words(text)]
    assert all(text[match.start() : match.end()] == match[0] for match in find_words(text))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_word_of_a_text_finds_it_in_either_form(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f'CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = "{TOKENIZER}")')
        database.execute("INSERT INTO texts VALUES (?)", [unicodedata.normalize("NFC", text)])
        for form in ("NFC", "NFD"):
            terms = query_terms(unicodedata.normalize(form, text))
            assert terms
            for term in terms:
                found = database.execute("SELECT * FROM texts WHERE texts MATCH ?", [f'"{term}"']).fetchall()
                assert found, ascii(term)


def test_queries_are_kept_in_one_form() -> None:
    assert query_terms("re\u0301sume\u0301 Vie\u0323\u0302t") == ["r\u00e9sum\u00e9", "vi\u1ec7t"]
    assert query_terms("हिन्दी वालरस") == ["हिन्दी", "वालरस"]
