"""Which words are the same: in code, in any script, in either form of Unicode."""

import math
import unicodedata
from itertools import chain, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flatcoat.indexing import terms
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.terms import (
    _CAMEL,
    LONGEST_TERM,
    MOST_TERMS,
    _term,
    find_terms,
    index_terms,
    query_spans,
    query_terms,
    query_words,
)
from flatcoat.indexing.words import find_units, find_words, is_run

from .test_words import WORDS, mixed_texts


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("How is getUserName called?", ["getusername", "get", "user", "name", "called"]),
        ("parseHTTPReply", ["parsehttpreply", "parse", "http", "reply"]),
        ("XMLReader, XMLWriter", ["xmlreader", "xml", "reader", "xmlwriter", "writer"]),
        ("snake_case utf8Decoder", ["snake", "case", "utf8decoder", "utf8", "decoder"]),
        ("how to be", ["how", "to", "be"]),
        ("open_index open", ["open", "index"]),
        ("cats, a cat", ["cats", "cat"]),
        ("do doing", ["doing"]),
        ("東京都の猫", ["東京", "京都", "都の", "の猫"]),
        ("猫 CAT", ["猫", "cat"]),
        ("바다는 물", ["바다", "다는", "물"]),
        ("?! ـ", []),
    ],
)
def test_words_of_a_query(query: str, words: list[str]) -> None:
    assert query_words(query) == words


def test_a_query_has_the_pairs_of_a_run_and_then_its_characters() -> None:
    assert query_terms("東京都の猫 犬, PDF") == ["東京", "京都", "都の", "の猫", "犬", "pdf", *"東京都の猫"]
    assert list(query_spans("猫と猫").items()) == [
        *(("猫と", (0, 2)), ("と猫", (1, 3))),
        *(("猫", (0, 1)), ("と", (1, 2))),
    ]


STOPPED = {
    "German": ("Wie schütze ich eine Zelle?", ["schütze", "zelle"]),
    "French": ("Comment imprimer les pages du livre ?", ["imprimer", "pages", "livre"]),
    "Spanish": ("¿Cómo imprimo las páginas de un libro?", ["imprimo", "páginas", "libro"]),
    "Russian": ("Как напечатать страницы из книги?", ["напечатать", "страницы", "книги"]),
    "Hindi": ("पंक्ति की ऊँचाई कैसे बदलें?", ["पंक्ति", "ऊँचाई", "बदलें"]),
    "English with words of German": ("die hard is what I was told", ["die", "hard", "told"]),
    "one word of French": ("des aes", ["des", "aes"]),
    "English with a Dutch name": ("What is Van Gend en Loos?", ["van", "gend", "en", "loos"]),
    "words of English and Dutch": ("walk over files in is", ["walk", "over", "files"]),
}


@pytest.mark.parametrize(("query", "words"), STOPPED.values(), ids=STOPPED)
def test_stop_words_are_those_of_the_language(query: str, words: list[str]) -> None:
    assert query_words(query) == words


def test_of_a_long_query_the_first_words_count() -> None:
    words = [f"w{number}" for number in range(5_000)]
    assert query_terms(" ".join(words)) == query_words(" ".join(words)) == words[:MOST_TERMS]
    assert query_terms("the " * 5_000 + "cat") == ["cat"]


def test_of_a_long_word_the_first_characters_count() -> None:
    assert index_terms("a1" * 10**6) == query_terms("a1" * 200) == [("a1" * 200)[:LONGEST_TERM]]


def test_words_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "_MOST_CACHED", 3)
    known = terms._Known("english")
    monkeypatch.setattr(terms, "_KNOWN", {"english": known})
    for _ in range(2):
        for text in ("cats dogs owls", "otters herons parseTree", "cats", "a" * 1000):
            assert index_terms(text)
            assert len(known) <= 3


def test_a_text_has_the_terms_of_its_words_then_of_camel_case_parts() -> None:
    assert index_terms("parseReply parsed; ReplyWriter parseReply") == [
        *("parserepli", "pars", "replywrit", "parserepli"),
        *("pars", "repli", "writer"),
    ]
    assert index_terms("PDFの猫") == ["pdf", "の", "猫", "の猫"]


SAME = {
    "English": "parsing parsed parses",
    "English -logy": "biology biological",
    "English -bly": "possibly possible",
    "width and ligatures": "ｆｉｌｅ ﬁle FILE",
    "French": "forêt foret FORÊT",
    "German": "Straße strasse STRASSE",
    "Danish, Polish, Vietnamese": "øłđ old",
    "Greek": "ΟΔΟΣ οδός οδος",
    "Russian": "ёлка елка ЁЛКИ ёлками",
    "Ukrainian": "їжак ЇЖАК",
    "Arabic vowel signs, tatweel": "كِتَاب كتاب كتـــاب الكتاب",
    "Arabic hamza": "إعدادات اعدادات الإعدادات",
    "Persian letters": "کتابی كتابي",
    "Hindi nukta": "ज़रूरत जरूरत",
    "Hindi endings": "लड़का लड़के लड़कों",
    "Hindi nasals": "हूँ हूं",
    "Hindi nasals before consonants": "सम्बन्ध संबंध सम्बंध",
    "numbers": "2024 ٢٠٢٤ ２０２４ २०२४",
    "soft hyphen": "co\u00adoperate cooperate",
    "half-width Japanese": "ガス ｶﾞｽ",
    "compatible Chinese": "車両 \uf902両",
}

DIFFERENT = {
    "Russian": "тройка троика",
    "Ukrainian": "їх их",
    "Hindi vowels": "दिन दान",
    "Thai tones": "ไม ไม่ ไม้",
    "Japanese voice": "かき かぎ",
}


@pytest.mark.parametrize("words", SAME.values(), ids=SAME)
def test_variants_of_a_word_are_the_same(words: str) -> None:
    assert len({tuple(query_terms(word)) for word in words.split()}) == 1
    assert {tuple(query_terms(unicodedata.normalize("NFD", word))) for word in words.split()} == {
        tuple(query_terms(words.split()[0]))
    }


@pytest.mark.parametrize("words", DIFFERENT.values(), ids=DIFFERENT)
def test_words_that_differ_in_meaning_differ(words: str) -> None:
    assert len({tuple(query_terms(word)) for word in words.split()}) == len(words.split())


def slow_terms(text: str) -> list[str]:
    """``index_terms`` word by word, each by the terms of a query; parts at the end."""
    terms: list[str] = []
    for word in find_words(text):
        if is_run(word[0]):
            units = [unit[0] for unit in find_units(word[0])]
            pairs = [one + other for one, other in pairwise(units)]
            terms += map(_term, [*units, *pairs])
        else:
            terms += query_terms(word[0].lower())
    camel = (parts for word in find_words(text) if len(parts := _CAMEL.split(word[0])) > 1)
    parts = dict.fromkeys(chain.from_iterable(camel))
    return [*terms, *chain.from_iterable(query_terms(part.lower()) for part in parts)]


@given(mixed_texts)
def test_terms_of_a_text_are_those_of_its_words(text: str) -> None:
    assert index_terms(text) == slow_terms(text)


@given(mixed_texts)
def test_terms_are_found_where_they_stand(text: str) -> None:
    text = normalized(text)
    words = query_spans(text)
    places = find_terms(text, list(words))
    for (word, (start, end)), term in zip(words.items(), query_terms(text), strict=True):
        assert text[start:end].lower() == word
        assert places[word]
        assert all(term in index_terms(text[slice(*span)]) for span in places[word])
    assert set(query_words(text)) <= set(words)


@given(mixed_texts, st.data())
def test_what_stands_in_a_text_finds_it(text: str, data: st.DataObject) -> None:
    """Any part of a text that cuts no word; a run may be cut between units."""
    text = normalized(text)
    cuts = {0, len(text)}
    for word in find_words(text):
        cuts |= {*word.span()}
        if is_run(word[0]):
            cuts |= {word.start() + unit.start() for unit in find_units(word[0])}
    start, end = sorted(data.draw(st.lists(st.sampled_from(sorted(cuts)), min_size=2, max_size=2)))
    assume(start < end)
    query = text[start:end]
    for form in ("NFC", "NFD"):
        assert set(query_terms(unicodedata.normalize(form, query))) <= set(index_terms(text))


@pytest.mark.parametrize("text", [text for text, _ in WORDS.values()], ids=WORDS)
def test_every_word_of_a_text_finds_it_in_either_form(text: str) -> None:
    terms = set(index_terms(unicodedata.normalize("NFC", text)))
    for form in ("NFC", "NFD"):
        found = query_terms(unicodedata.normalize(form, text))
        assert found and set(found) <= terms


def test_queries_are_kept_in_one_form() -> None:
    assert query_words("re\u0301sume\u0301 Vie\u0323\u0302t") == ["r\u00e9sum\u00e9", "vi\u1ec7t"]
    assert query_words("हिन्दी वालरस") == ["हिन्दी", "वालरस"]


PAGES = {
    "English": ("drivers of printers", "Installing a printer needs its driver.", "The screen stays dark."),
    "German": ("STRASSE gesperrt", "Die Straße ist gesperrt.", "Der Weg ist frei."),
    "German, plural": (
        "Zelle schützen",
        "Wie man die Zellen vor dem Ändern schützt, wird hier beschrieben.",
        "Die Seite ist nicht auf dem Drucker.",
    ),
    "French, plural": (
        "cheval sauvage",
        "Les chevaux sauvages sont dans le parc avec des vaches.",
        "La page est sur la table du salon.",
    ),
    "Dutch, plural": (
        "gebruiker",
        "De gebruikers van het netwerk zijn niet met naam bekend.",
        "De pagina is op de tafel van een huis.",
    ),
    "Russian": ("настройка принтеров", "Как настроить принтер по сети.", "Экран остаётся тёмным."),
    "Arabic": ("اعدادات الطابعة", "إِعْدَاد طابعات الشبكة", "الشاشة مظلمة"),
    "Hindi": ("प्रिंटर की सेटिंग", "नेटवर्क पर प्रिंटरों की सेटिंग बदलें।", "स्क्रीन काली है।"),
    "Chinese": ("打印机驱动", "安装打印机需要它的驱动程序。", "屏幕是黑的。"),
    "Chinese, in other compounds": ("查错字", "检查文字里的错误。", "屏幕是黑的。"),
    "Japanese": ("プリンタの設定", "ﾌﾟﾘﾝﾀーの設定を変更します。", "画面が暗い。"),
    "Korean": ("프린터 설정", "프린터를 설정하려면 여기를 누릅니다.", "화면이 어둡습니다."),
    "Korean, with another particle": ("셀을", "셀에 값을 입력합니다.", "화면이 어둡습니다."),
    "Thai": ("ติดตั้งเครื่องพิมพ์", "การติดตั้งเครื่องพิมพ์ในเครือข่าย", "หน้าจอมืด"),
}


def bm25(query: str, texts: list[str]) -> list[float]:
    """Okapi's formula as it is written, k1 1.2 and b 0.75."""
    terms = [index_terms(text) for text in texts]
    mean = sum(map(len, terms)) / len(terms)
    scores = [0.0] * len(texts)
    for term in query_terms(query):
        holders = sum(term in of_text for of_text in terms)
        idf = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
        for number, of_text in enumerate(terms):
            count = of_text.count(term)
            scores[number] += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(of_text) / mean))
    return scores


@pytest.mark.parametrize(("query", "right", "wrong"), PAGES.values(), ids=PAGES)
def test_bm25_finds_the_page_in_any_script(query: str, right: str, wrong: str) -> None:
    texts = [text for _, *both in PAGES.values() for text in both]
    scores = bm25(query, texts)
    assert texts[scores.index(max(scores))] == right
    assert scores[texts.index(wrong)] < max(scores) / 2
