"""Explanations add up to the scores, and their spans are where the tokens and words are."""

import re
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from random import Random
from typing import Any

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.terms import find_terms, query_words
from flatcoat.retrieval.display import show_result
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.explain import LateInteraction, explain_bm25, interactions
from flatcoat.retrieval.results import Match, Result
from flatcoat.retrieval.shard import StoreShard

MakeFolder = Callable[..., Path]

VARIANTS: dict[str, dict[str, Any]] = {
    "expansion": {},
    "attended expansion": {"attend_to_expansion_tokens": True},
    "no expansion": {"do_query_expansion": False},
    "no prefixes": {"query_prefix": "", "document_prefix": ""},
    "short": {"query_length": 8, "document_length": 20},
    "own skiplist": {"skiplist_words": ["the", "of"]},
}
PASSAGES = [
    Passage("a", "The sky is blue because air scatters short waves of light."),
    Passage("b", "  Cats purr,\n\twhen they are content!", "Cats", section="Sounds > Purring"),
    Passage("c", "La forêt est calme, über den Wolken, 東京 123.", "Forêt"),
    Passage("d", "!?.,"),
]
QUERY = " Why is the sky blue, 東京? "


@pytest.fixture(scope="module", params=[*VARIANTS, "bert"])
def encoder(request: pytest.FixtureRequest, make_colbert: MakeFolder, bert_folder: Path) -> ColbertEncoder:
    bert = request.param == "bert"
    folder = make_colbert(bert_folder) if bert else make_colbert(**VARIANTS[request.param])
    return ColbertEncoder.load(folder, device="cpu")


def test_every_vector_has_its_token(encoder: ColbertEncoder, texts: list[str]) -> None:
    for is_query, encode in ((True, encoder.encode_queries), (False, encoder.encode_documents)):
        tokens = encoder.token_spans(texts, is_query=is_query)
        assert [len(row) for row in tokens] == np.diff(encode(texts).offsets).tolist()
        for text, row in zip(texts, tokens, strict=True):
            spans = [token.span for token in row if token.span]
            assert spans == sorted(spans)
            assert all(token.text == text[slice(*token.span)] for token in row if token.span)
            assert all(text[slice(*span)] for span in spans)


def test_tokens_cover_the_words(make_colbert: MakeFolder) -> None:
    encoder = ColbertEncoder.load(make_colbert(), device="cpu")
    query, document = " \n Cats, purr ", "\t Cats, purr."
    (asked,) = encoder.token_spans([query], is_query=True)
    (found,) = encoder.token_spans([document], is_query=False)
    assert [token.text for token in asked[:2]] == ["[CLS]", "[Q] "]
    assert [token.span for token in asked[:2]] == [None, None]
    covered = {place for token in asked if token.span for place in range(*token.span)}
    assert covered == {place for place, character in enumerate(query) if not character.isspace()}
    assert "".join(token.text for token in found if token.span) == "Catspurr"
    assert len(asked) == 32 and all(token.span is None for token in asked[-10:])


def test_scores_add_up_to_maxsim(encoder: ColbertEncoder) -> None:
    assert isinstance(encoder, LateInteraction)
    explanations = [
        one.matches()
        for one in interactions(encoder, QUERY, encode=encoder.encode_documents, passages=PASSAGES)
    ]
    query_UD = encoder.encode_queries([QUERY])[0]
    for passage, matches in zip(PASSAGES, explanations, strict=True):
        document_TD = encoder.encode_documents([passage.searchable])[0]
        expected = sum(max(float(query @ document) for document in document_TD) for query in query_UD)
        assert sum(match.score for match in matches) == pytest.approx(expected, abs=1e-4)
        assert len(matches) == len(query_UD)
        for match in matches:
            if match.query_span:
                assert QUERY[slice(*match.query_span)] == match.query_token
            if match.text_span:
                assert passage.text[slice(*match.text_span)]


def test_each_token_is_matched_by_the_best_of_the_whole_text(make_colbert: MakeFolder) -> None:
    """Title and section are no part of the text, whose spans start behind them."""
    encoder = ColbertEncoder.load(make_colbert(), device="cpu")
    passage = PASSAGES[1]
    (query_tokens,) = encoder.token_spans([QUERY], is_query=True)
    (tokens,) = encoder.token_spans([passage.searchable], is_query=False)
    query_UD, document_TD = (
        encoder.encode_queries([QUERY])[0],
        encoder.encode_documents([passage.searchable])[0],
    )
    behind = len(passage.searchable) - len(passage.text)
    kinds = set()
    for match, asked, query in zip(
        interactions(encoder, QUERY, encode=encoder.encode_documents, passages=[passage])[0].matches(),
        query_tokens,
        query_UD,
        strict=True,
    ):
        scores = [float(query @ document) for document in document_TD]
        span = tokens[scores.index(max(scores))].span
        inside = span is not None and span[0] >= behind
        kinds.add("inside" if inside else "special" if span is None else "before")
        assert match.text_span == ((span[0] - behind, span[1] - behind) if span and inside else None)
        assert (match.query_token, match.query_span) == (asked.text, asked.span)
    assert "inside" in kinds and len(kinds) > 1


def test_stored_vectors_are_taken_and_those_that_do_not_fit_are_not(encoder: ColbertEncoder) -> None:
    vectors = list(encoder.encode_documents([passage.searchable for passage in PASSAGES]))
    fresh = interactions(encoder, QUERY, encode=encoder.encode_documents, passages=PASSAGES)
    stored = [None, vectors[1][:-1], -vectors[2], vectors[3]]
    mixed = interactions(encoder, QUERY, encode=encoder.encode_documents, passages=PASSAGES, stored=stored)
    for number, (one, other) in enumerate(zip(fresh, mixed, strict=True)):
        sign = -1 if number == 2 else 1
        np.testing.assert_allclose(sign * other.scores_QT, one.scores_QT, atol=1e-4)
        assert other.places == one.places


def test_the_words_of_the_query_are_evidence_and_special_tokens_are_not(encoder: ColbertEncoder) -> None:
    (found,) = interactions(encoder, QUERY, encode=encoder.encode_documents, passages=PASSAGES[:1])
    places, scores_QT = found.evidence()
    words = [number for number, token in enumerate(found.query_tokens) if token.span]
    assert 0 < len(words) < len(found.query_tokens)
    np.testing.assert_array_equal(scores_QT, found.scores_QT[words])
    assert places == found.places


def test_punctuation_on_the_skiplist_is_never_matched(make_colbert: MakeFolder) -> None:
    encoder = ColbertEncoder.load(make_colbert(), device="cpu")
    (found,) = interactions(
        encoder, "cats, dogs!", encode=encoder.encode_documents, passages=[Passage("a", "a. b, c! " * 5)]
    )
    matches = found.matches()
    assert not {",", ".", "!"} & {
        ("a. b, c! " * 5)[slice(*match.text_span)] for match in matches if match.text_span
    }


def test_a_dense_encoder_explains_nothing(make_dense: MakeFolder) -> None:
    assert not isinstance(load_encoder(make_dense()), LateInteraction)


def test_a_tokenizer_without_offsets_is_refused(
    make_colbert: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ColbertEncoder.load(make_colbert(), device="cpu")
    monkeypatch.setattr(type(encoder.model.tokenizer), "is_fast", False)
    with pytest.raises(FlatcoatError, match="does not say where its tokens stand"):
        encoder.token_spans(["cat"], is_query=True)


WORDS = [
    Passage("a", "Cats purr. A cat purrs when the CAT is content; concatenate.", "Animals"),
    Passage("b", "def parseHttpReply(raw): return parse_http(raw)"),
    Passage("c", "La forêt est calme.", "Cats in the forest"),
    Passage("d", "The of and."),
    Passage("e", "检查文字里的错误，错误很多。"),
    Passage("f", "Wie man die Zellen vor dem Ändern schützt, ist nicht neu."),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "index", {})
    with store.writer() as writer:
        writer.add(WORDS, np.eye(6, dtype=np.float32), hashes={passage.document_id: "" for passage in WORDS})
    return store


def found(store: Store, query: str) -> dict[str, list[Match]]:
    passages = store.passages(store.snapshot().rows.tolist())
    explanations = explain_bm25(StoreShard(store), query, passages)
    return {passage.document_id: matches for passage, matches in zip(passages, explanations, strict=True)}


def words(query: str, matches: list[Match], text: str) -> list[tuple[str, str | None]]:
    return [
        (query[slice(*match.query_span)], match.text_span and text[slice(*match.text_span)])  # type: ignore[misc]
        for match in matches
    ]


@pytest.mark.parametrize(
    ("query", "id", "expected"),
    [
        ("why do cats purr", "a", ["Cats", "cat", "CAT", "purr", "purrs"]),
        ("reply of HTTP", "b", ["parseHttpReply", "parseHttpReply", "http"]),
        ("FORET", "c", ["forêt"]),
        ("cats", "c", [None]),
        ("contents; [raw]", "b", ["raw", "raw"]),
        ("the", "d", ["The"]),
        ("文字查错", "e", ["文字", "文", "字", "查", "错", "错"]),
        ("Zelle ändern", "f", ["Zellen", "Ändern"]),
        ("zebra", "a", []),
        ("?!", "a", []),
    ],
)
def test_the_words_that_match_are_found(
    store: Store, query: str, id: str, expected: list[str | None]
) -> None:
    text = next(passage.text for passage in WORDS if passage.document_id == id)
    assert [word for _, word in words(query, found(store, query)[id], text)] == expected


def test_the_words_of_the_query_are_named(store: Store) -> None:
    query = "Contents: cats"
    assert words(query, found(store, query)["a"], WORDS[0].text) == [
        ("Contents", "content"),
        ("cats", "Cats"),
        ("cats", "cat"),
        ("cats", "CAT"),
    ]


@pytest.mark.parametrize(
    "query", ["why do cats purr", "parseHttpReply", "forest cats reply", "the", "raw", "文字查错", "Zelle"]
)
def test_scores_add_up_to_bm25(store: Store, query: str) -> None:
    hits = store.bm25(query, 10)
    ids = [passage.document_id for passage in store.passages(hits.ids)]
    assert ids
    sums = {id: sum(match.score for match in matches) for id, matches in found(store, query).items()}
    assert {id: score for id, score in sums.items() if score} == pytest.approx(
        dict(zip(ids, hits.scores.tolist(), strict=True)), abs=1e-4
    )


ODD_WORDS = (
    "parseHTTPReply HTTPReply http Replies getUserName usernames utf8Decoder decoding XMLReader readers "
    "snake_case cased forêt FORETS naïve naively İstanbul straße Ⅷ x² हिन्दी हिन्दियों résumé resume ﬁnds finds "
    "running runner ran relational relations purr purring the The of c C C3PO iPhone McDonald's don't"
)


def test_what_bm25_matches_is_explained_and_highlighted(tmp_path: Path) -> None:
    """Each distinct word of Python's documentation, and some odd ones, looked for among all of them."""
    plain = sorted({word for text in topics.values() for word in re.findall(r"\w+", text)})
    texts = [*Random(0).sample(plain, 300), *ODD_WORDS.split()]
    store = Store.create(tmp_path / "index", {})
    with store.writer() as writer:
        passages = [Passage(str(number), text) for number, text in enumerate(texts)]
        writer.add(passages, np.zeros((len(texts), 4), dtype=np.float32))
    joined, starts = " ".join(texts), np.cumsum([0, *(len(text) + 1 for text in texts)])
    matched = 0
    for query in texts:
        rows = store.bm25(query, len(texts)).ids
        found = store.passages(rows)
        places = find_terms(joined, query_words(query)).values()
        holders = {int(starts.searchsorted(start, "right")) - 1 for spans in places for start, _ in spans}
        assert {str(number) for number in holders} == {passage.document_id for passage in found}, query
        for matches, passage in zip(explain_bm25(StoreShard(store), query, found), found, strict=True):
            spans = {match.text_span for match in matches}
            assert spans == {
                span for spans in find_terms(passage.text, query_words(query)).values() for span in spans
            }
            assert spans
        matched += len(found)
    assert matched > 1.2 * len(texts)


@pytest.mark.parametrize("query", ["running related", "finding purrs", "c3po", "RÉSUMÉ", "the"])
def test_highlighting_marks_what_bm25_finds(query: str) -> None:
    text = ODD_WORDS[-150:]
    result = Result(1, 0.5, "a", "a", (1, 1), text, {})
    shown = show_result(result, query)
    first = shown.plain.index(text)
    marked = {(span.start - first, span.end - first) for span in shown.spans if "yellow" in str(span.style)}
    expected = {span for places in find_terms(text, query_words(query)).values() for span in places}
    assert marked == expected
    assert marked
