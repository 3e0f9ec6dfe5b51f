"""How a question is answered, against plain twins over the store and the encoder's own scores."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import numpy as np
import pytest

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.filters.condition import Condition
from flatcoat.indexing.filters.grammar import parse_filter
from flatcoat.indexing.fusion import HYBRID, Fusion, reciprocal_rank_fusion, weighted_fusion
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.display import show_result
from flatcoat.retrieval.encoders.colbert_texts import ColbertTexts
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.results import Mode, Result

MakeFolder = Callable[..., Path]

_TOPICS = "cat dog river bridge bread yeast sky light wave forest reply http parse value index"
WORDS = tuple(_TOPICS.split())
MODES: list[Any] = ["vectors", "bm25", "hybrid", Fusion("rrf", constant=10), Fusion("weighted", weight=0.8)]


def make_documents(count: int) -> list[Document]:
    random = np.random.default_rng(7)
    return [
        Document(
            f"d{number}", " ".join([*random.choice(WORDS, 8), f"n{number}"]), metadata={"part": number % 3}
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def encoder(make_colbert: MakeFolder) -> Encoder:
    return load_encoder(make_colbert(), device="cpu")


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[Retriever]:
    retriever = Retriever.create(tmp_path_factory.mktemp("searching") / "index", encoder)
    retriever.add(make_documents(120))
    yield retriever
    retriever.close()


def make(tmp_path: Path, encoder: Encoder, documents: Sequence[Document]) -> Retriever:
    retriever = Retriever.create(tmp_path / "index", encoder)
    retriever.add(documents)
    return retriever


def ids(results: Sequence[Result]) -> list[str]:
    return [result.document_id for result in results]


def rankings(retriever: Retriever, query: str, depth: int) -> tuple[dict[int, float], dict[int, float]]:
    vectors = retriever.encoder.encode_queries([query])
    (hits,) = retriever.store.index().search(vectors, depth)
    words = retriever.store.bm25(query, depth)
    scores = [dict(zip(one.ids, one.scores.tolist(), strict=True)) for one in (hits, words)]
    return ordered(retriever, scores[0]), ordered(retriever, scores[1])


def ordered(retriever: Retriever, scores: dict[int, float]) -> dict[int, float]:
    """The same, best first; equal scores by document and line."""
    places = retriever.store.places(list(scores))
    return {row: scores[row] for row in sorted(scores, key=lambda row: (-scores[row], places[row]))}


@pytest.mark.parametrize("mode", MODES)
def test_scores_of_every_stage_are_those_of_its_twin(retriever: Retriever, mode: Mode | Fusion) -> None:
    query = "the cat at the river bridge"
    vectors, words = rankings(retriever, query, 100)
    if mode in ("vectors", "bm25"):
        expected = vectors if mode == "vectors" else words
    elif isinstance(mode, Fusion) and mode.name == "rrf":
        expected = reciprocal_rank_fusion([list(vectors), list(words)], 10)
    elif isinstance(mode, Fusion):
        expected = weighted_fusion([vectors, words], [0.8, 0.2])
    else:
        covered = retriever.store.coverage(query, next(iter(words)))
        expected = HYBRID.fuse(vectors, words, coverage=covered)
    results = retriever.search(query, k=10, mode=mode)
    rows = list(ordered(retriever, expected))[:10]
    assert ids(results) == [passage.document_id for passage in retriever.store.passages(rows)]
    assert [result.score for result in results] == pytest.approx([expected[row] for row in rows])
    assert [result.rank for result in results] == list(range(1, 11))
    for row, result in zip(rows, results, strict=True):
        stages = {"vectors": vectors, "bm25": words}
        if mode in ("vectors", "bm25"):
            stages = {mode: expected}
        known = {name: stage[row] for name, stage in stages.items() if row in stage}
        fused = {} if mode in ("vectors", "bm25") else {"fused": expected[row]}
        assert result.scores == pytest.approx(known | fused)


def test_hybrid_is_the_default(retriever: Retriever) -> None:
    assert (
        retriever.search("cat")
        == retriever.search("cat", mode="hybrid")
        == retriever.search("cat", mode=HYBRID)
    )
    assert retriever.search("cat") != retriever.search("cat", mode="vectors")


def test_hybrid_finds_what_either_finds(tmp_path: Path, encoder: Encoder) -> None:
    retriever = make(tmp_path, encoder, [Document("a", "zebra"), Document("b", "cats purr")])
    assert set(ids(retriever.search("zebra"))) == {"a", "b"}
    assert set(ids(retriever.search("?"))) == {"a", "b"}
    assert ids(retriever.search("zebra", mode="bm25")) == ["a"]
    assert retriever.search("?", mode="bm25") == []


def test_bm25_needs_no_model(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    again = Retriever.open(retriever.store.path)
    monkeypatch.setattr(
        "flatcoat.retrieval.encoders.load.load_encoder", lambda *_, **__: pytest.fail("loaded")
    )
    results = again.search("cat river", mode="bm25", where=["part=1"], group=True, explain=True)
    assert results and all(result.metadata["part"] == 1 for result in results)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 7, 60])
def test_filters_hold_at_every_stage(retriever: Retriever, mode: Mode | Fusion, k: int) -> None:
    results = retriever.search("cat river", k, where=["part=1"], mode=mode)
    assert all(result.metadata["part"] == 1 for result in results)
    having = sum("cat" in text or "river" in text for text in (d.text for d in make_documents(120)[1::3]))
    assert len(results) == min(k, having if mode == "bm25" else 40)
    assert retriever.search("cat", k, where=["part=9"], mode=mode) == []


class Longest:
    """A reranker that likes the texts with the largest number in them; remembers what it was asked."""

    name = "longest"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {}

    def scorer(self, queries: Sequence[str]) -> Callable[[Sequence[str], np.ndarray], np.ndarray]:
        assert queries == ["cat"]

        def score(documents: Sequence[str], pairs_P2: np.ndarray) -> np.ndarray:
            self.asked.append(list(documents))
            return np.array(
                [float(documents[place].rsplit("n")[-1]) for query, place in pairs_P2 if query == 0]
            )

        return score


@pytest.mark.parametrize(("k", "depth"), [(3, 50), (15, 75), (100, 120)])
def test_the_best_of_the_first_stage_are_reranked(retriever: Retriever, k: int, depth: int) -> None:
    reranker = Longest()
    results = retriever.search("cat", k, mode="vectors", rerank=reranker)
    first = retriever.search("cat", 120, mode="vectors")[:depth]
    assert reranker.asked == [[result.text for result in first]]
    best = sorted((int(result.document_id[1:]) for result in first), reverse=True)[:k]
    assert [result.score for result in results] == best
    assert [result.scores["rerank"] for result in results] == best
    vectors = {result.document_id: result.score for result in first}
    assert all(result.scores["vectors"] == pytest.approx(vectors[result.document_id]) for result in results)


def test_a_reranker_may_be_named_and_is_loaded_once(
    retriever: Retriever, make_dense: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flatcoat.retrieval import rerank

    loads: list[str] = []
    load = rerank.load_reranker
    monkeypatch.setattr(rerank, "load_reranker", lambda name: loads.append(name) or load(name))
    dense = load_encoder(make_dense(), device="cpu")
    (query_D,) = np.asarray(dense.encode_queries(["cat river"]))
    for _ in range(2):
        results = retriever.search("cat river", 5, mode="bm25", rerank=make_dense())
        assert [*results[0].scores] == ["bm25", "rerank"]
        expected = np.asarray(dense.encode_documents([results[0].text])) @ query_D
        assert results[0].score == pytest.approx(float(expected[0]), abs=1e-4)
    assert loads == [str(make_dense())]
    assert retriever.search("cat", where=["part=9"], rerank=make_dense()) == []


def test_near_duplicates_are_one_result(tmp_path: Path, encoder: Encoder) -> None:
    licence = " ".join(WORDS + WORDS[::-1])
    copies = [Document(f"copy{number}", f"\n{licence}\n{number % 2}") for number in range(5)]
    others = [
        Document("river", "a river bridge"),
        Document("Caps", "A  River BRIDGE"),
        Document("cat", "a cat"),
    ]
    retriever = make(tmp_path, encoder, [*copies, *others])
    for mode in MODES:
        results = retriever.search("river cat yeast", k=3, mode=mode)
        assert len(results) == 3
        places = {result.document_id: {*result.duplicates} for result in results}
        (copy,) = [id for id in places if id.startswith("copy")]
        assert places[copy] == {f"copy{number}:2" for number in range(5)} - {f"{copy}:2"}
        (river,) = [id for id in places if id in ("river", "Caps")]
        assert places[river] == {"Caps:1", "river:1"} - {f"{river}:1"}
        assert places["cat"] == set()
        assert len(retriever.search("river cat yeast", k=8, mode=mode)) == 3


def test_titles_without_a_text_are_found_told_apart_and_explained(
    tmp_path: Path, encoder: Encoder, make_dense: MakeFolder
) -> None:
    titles = {"a": "walrus season", "b": "otter season", "c": "Walrus  season"}
    documents = [
        Document(id, text, title) for text, (id, title) in zip(["", " ", "\n"], titles.items(), strict=True)
    ]
    retriever = make(tmp_path, encoder, [*documents, Document("empty", "", " ")])
    for mode in MODES:
        results = {
            result.document_id: result
            for result in retriever.search("walrus season", mode=mode, explain=True)
        }
        assert set(results) in ({"a", "b"}, {"c", "b"})
        assert {result.text for result in results.values()} == {""}
        (folded,) = (result for result in results.values() if result.duplicates)
        assert folded.duplicates == (("c:1",) if "a" in results else ("a:1",))
        assert all(match.text_span is None for match in results["b"].explanation or ())
        for result in results.values():
            assert titles[result.document_id] in show_result(result, "walrus season").plain
            json.dumps(result.to_json())
    reranked = retriever.search("otter", rerank=make_dense(), group=True)
    assert set(ids(reranked)) == {"a", "b"} or set(ids(reranked)) == {"b", "c"}
    retriever.close()


def test_k_results_stay_k_however_many_fold_or_group(tmp_path: Path, encoder: Encoder) -> None:
    same = [Document(f"same{number}", "cats purr at night") for number in range(300)]
    pages = "\n".join(f"cats purr on page n{number} of the long book" for number in range(600))
    rest = [Document(f"rest{number}", f"cats n{number}") for number in range(5)]
    retriever = Retriever.create(tmp_path / "index", encoder, passage_tokens=32)
    retriever.add([*same, Document("book", pages), *rest])
    assert retriever.info().passages > 400
    for mode in ("vectors", "bm25"):
        assert len(retriever.search("cats purr", k=8, mode=mode)) == 8
        documents = ids(retriever.search("cats purr", k=7, mode=mode, group=True))
        assert len(documents) == len(set(documents)) == 7
        assert {"book", *(f"rest{number}" for number in range(5))} < set(documents)


def test_one_result_a_document(tmp_path: Path, encoder: Encoder) -> None:
    text = "\n\n".join(
        f"Paragraph {number} of cats, {'purr ' * number}and dogs and rivers." for number in range(9)
    )
    retriever = Retriever.create(tmp_path / "index", encoder, passage_tokens=48)
    retriever.add([Document("long", text), Document("short", "A cat.")])
    every = retriever.search("cats purr", k=100)
    results = retriever.search("cats purr", k=100, group=True)
    assert sorted(ids(results)) == ["long", "short"]
    for result in results:
        best = next(one for one in every if one.document_id == result.document_id)
        assert (result.text, result.score) == (best.text, best.score)
        assert result.more == ids(every).count(result.document_id) - 1
    assert max(result.more for result in results) > 2
    assert all(one.more == 0 for one in every)


def test_explanations_follow_the_stage(
    retriever: Retriever, tmp_path: Path, make_dense: MakeFolder, encoder: Encoder
) -> None:
    dense = make(tmp_path, load_encoder(make_dense(), device="cpu"), make_documents(9))
    query = "cat river"
    for result in retriever.search(query, 3, mode="vectors", explain=True):
        assert result.explanation is not None
        assert sum(match.score for match in result.explanation) == pytest.approx(result.score, abs=0.02)
        assert len(result.explanation) == len(encoder.encode_queries([query])[0])
    for result in retriever.search(query, 3, mode="bm25", explain=True):
        assert result.explanation is not None
        assert sum(match.score for match in result.explanation) == pytest.approx(result.score, rel=1e-4)
    assert [result.explanation for result in dense.search(query, 3, mode="vectors", explain=True)] == [
        None
    ] * 3
    words = dense.search(query, 1, explain=True)[0]
    assert words.explanation and sum(match.score for match in words.explanation) == pytest.approx(
        words.scores["bm25"], rel=1e-4
    )
    reranked = dense.search(query, 3, rerank=encoder.name, explain=True)
    for result in reranked:
        assert result.explanation
        assert sum(match.score for match in result.explanation) == pytest.approx(result.score, abs=1e-4)
    assert all(result.explanation is None for result in retriever.search(query))


LONG = "\n".join(
    ["def first():", "    cats purr", *["    pass"] * 4, "def second():", "    the river bridge", "    end"]
)


@pytest.mark.parametrize("engine", ["exact", "plaid"])
def test_best_lines_are_where_the_stored_vectors_match(
    tmp_path: Path, encoder: Encoder, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder, index=engine)
    retriever.add([Document("code", LONG), *make_documents(60)])

    def refuse(texts: Sequence[str]) -> None:
        assert not texts, "a passage was encoded again"

    monkeypatch.setattr(encoder, "encode_documents", lambda texts: refuse(texts) or ())
    for mode in ("vectors", "hybrid", "bm25"):
        results = retriever.search("the river bridge", 60, mode=mode, best_lines=True)
        (result,) = [result for result in results if result.document_id == "code"]
        assert result.best_lines == (8, 8), mode
        assert result.best_span is not None
        assert result.text[slice(*result.best_span)].strip() == "the river bridge"
        assert all(one.best_lines == (1, 1) for one in results if one is not result)
        assert result.to_json()["best_lines"] == [8, 8]
        assert result.explanation is None
    retriever.close()


def test_best_lines_of_a_dense_index_are_where_the_words_are(tmp_path: Path, make_dense: MakeFolder) -> None:
    dense = make(tmp_path, load_encoder(make_dense(), device="cpu"), [Document("code", LONG)])
    for mode in MODES:
        (result,) = dense.search("rivers and bridges", mode=mode, best_lines=True)
        assert result.best_lines == (8, 8)
    (explained,) = dense.search("rivers and bridges", explain=True)
    assert explained.best_lines == (8, 8)
    dense.close()


def test_best_lines_cost_nothing_unless_asked_for(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ColbertTexts, "token_spans")
    result = retriever.search("cat", 1)[0]
    assert (result.best_span, result.best_lines) == (None, None)
    assert (result.to_json()["best_span"], result.to_json()["best_lines"]) == (None, None)


def test_a_query_is_encoded_once(
    retriever: Retriever, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = encoder.encode_queries
    monkeypatch.setattr(encoder, "encode_queries", lambda texts: asked.extend(texts) or encode(texts))
    (result,) = retriever.search("cat river", 1, explain=True, best_lines=True, budget=50)
    assert result.explanation and result.best_span and result.evidence
    assert asked == ["cat river"]


def test_a_tokenizer_without_spans_leaves_the_best_lines_to_the_words(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = make(tmp_path, encoder, [Document("code", LONG)])
    monkeypatch.setattr(type(encoder.model.tokenizer), "is_fast", False)  # type: ignore[attr-defined]
    with caplog.at_level("DEBUG", "flatcoat.retrieval.search"):
        assert retriever.search("rivers", best_lines=True)[0].best_lines == (8, 8)
    assert "does not say where its tokens stand" in caplog.text
    with pytest.raises(FlatcoatError, match="does not say where its tokens stand"):
        retriever.search("rivers", explain=True)
    retriever.close()


def test_results_as_json(retriever: Retriever) -> None:
    (result,) = retriever.search("cat", 1, mode="bm25", explain=True)
    values = json.loads(json.dumps(result.to_json()))
    assert values["scores"] == {"bm25": result.score}
    match = values["explanation"][0]
    assert set(match) == {"query_token", "query_span", "text_span", "score"}
    assert match["query_span"] == [0, 3]
    assert result.text[slice(*match["text_span"])] == "cat"
    assert retriever.search("cat", 1)[0].to_json()["explanation"] is None


def test_a_search_sees_one_commit_from_beginning_to_end(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = make(tmp_path, encoder, [Document("a", "cat one"), Document("b", "cat two")])
    bm25, commits = Store.bm25, iter(["a", "b"])

    def read(store: Store, *arguments: Any, **options: Any) -> Any:
        """Replace a document after it has been found, before it is read."""
        found = bm25(store, *arguments, **options)
        if id := next(commits, None):
            with Store.open(retriever.store.path) as other:
                Retriever(other, encoder).add([Document(id, f"cat new {id}")])
        return found

    monkeypatch.setattr(Store, "bm25", read)
    for seen in ["cat one", "cat two"], ["cat new a", "cat two"], ["cat new a", "cat new b"]:
        assert sorted(result.text for result in retriever.search("cat")) == seen


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table", ["texts", "passages", "documents"])
def test_a_lost_row_ends_a_search_with_an_error(
    tmp_path: Path, encoder: Encoder, table: str, mode: Any
) -> None:
    retriever = make(tmp_path, encoder, make_documents(9))
    with closing(sqlite3.connect(retriever.store.path / "index.sqlite", isolation_level=None)) as connection:
        (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchone()
        connection.execute("DROP TRIGGER passages_delete")
        connection.execute(f"DELETE FROM {table} WHERE rowid = 8")
        connection.execute(trigger)
    for asked in (retriever, Retriever.open(retriever.store.path, encoder)):
        began = monotonic()
        with pytest.raises(FlatcoatError, match=r"is damaged: .*verify|malformed"):
            asked.search(" ".join(WORDS), mode=mode)
        assert monotonic() - began < 5


@pytest.mark.parametrize("query", ["re\u0301sume\u0301", "résumé"])
@pytest.mark.parametrize("text", ["re\u0301sume\u0301 of a cat", "résumé of a cat"])
def test_a_query_in_any_form_of_unicode_finds_the_same(
    tmp_path: Path, encoder: Encoder, query: str, text: str
) -> None:
    retriever = make(tmp_path, encoder, [Document("a", text), Document("b", "bread")])
    for mode in ("vectors", "bm25", "hybrid"):
        assert ids(retriever.search(query, 1, mode=mode)) == ["a"]
        assert retriever.search(query, mode=mode) == retriever.search("résumé", mode=mode)


def test_half_a_surrogate_pair_is_mended(retriever: Retriever) -> None:
    assert retriever.search("cat \ud83e") == retriever.search(normalized("cat \ud83e"))
    assert retriever.search("cat \ud83e\udda6 river") == retriever.search("cat 🦦 river")
    assert retriever.search("\ud83e", mode="bm25") == []


@pytest.mark.parametrize("k", [10**4, 10**9, 2**62, 2**63, 10**30])
@pytest.mark.parametrize("mode", MODES)
def test_all_that_there_is_may_be_asked_for(retriever: Retriever, k: int, mode: Mode | Fusion) -> None:
    results = retriever.search("cat river", k, mode=mode, group=True)
    assert results == retriever.search("cat river", 500, mode=mode, group=True)
    assert len(results) == (120 if mode != "bm25" else len(results))


def test_numbers_of_numpy_are_numbers(retriever: Retriever) -> None:
    assert retriever.search("cat", np.int64(3), recall=np.float32(0.9)) == retriever.search("cat", 3)  # type: ignore[arg-type]
    assert retriever.search(np.str_("cat"), 3) == retriever.search("cat", 3)


def test_one_condition_need_not_be_in_a_list(retriever: Retriever) -> None:
    expected = retriever.search("cat", 5, where=["part=1"])
    condition = parse_filter("part=1")
    wheres: list[Any] = [
        "part=1",
        condition,
        [condition],
        ("part=1",),
        iter(["part=1"]),
        np.array(["part=1"]),
    ]
    for where in wheres:
        assert retriever.search("cat", 5, where=where) == expected
    assert retriever.search("cat", 5, where=None) == retriever.search("cat", 5)  # type: ignore[arg-type]


def test_a_query_of_any_length_is_answered_soon(retriever: Retriever) -> None:
    queries = [
        " ".join(f"w{number}" for number in range(150_000)) + " cat",
        "cat river " * 200_000,
        "x" * 2_000_000,
        "cat " + " " * 2_000_000 + "river",
        "東京" * 200_000,
    ]
    for query in queries:
        began = process_time()
        assert retriever.search(query, 3)
        assert process_time() - began < 10


class Nothing:
    pass


BAD_QUERIES: list[Any] = [b"cat", 3, 1.5, ["cat"], Path("cat"), Nothing()]
BAD_NUMBERS: list[Any] = [None, "3", 1.5, True, 3.0, [3], np.float64(3), float("nan")]
BAD_RECALLS: list[Any] = [0, -1, 1.1, float("nan"), float("inf"), "0.9", True, [0.9], 10**400]
BAD_MODES: list[Any] = [3, ["vectors"], np.array(["bm25", "vectors"]), "", "BM25", None.__class__]
BAD_WHERES: list[Any] = [3, b"part=1", [3], [None], [("part", "=", 1)], True]
BAD_RERANKERS: list[Any] = [3, True, ["x"], b"x", "", Nothing()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": " \n"}, "the query is empty"),
        ({"query": "\u3000\xa0"}, "the query is empty"),
        ({"query": ""}, "the query is empty"),
        ({"k": 0, "mode": "bm25"}, "k is 0: at least 1"),
        ({"k": -(10**30)}, "k is -1000"),
        ({"mode": "both"}, "mode is 'both': vectors, bm25, hybrid are possible"),
        ({"where": ["part"]}, "has no operator"),
        ({"where": "part"}, "has no operator"),
        ({"rerank": "nobody/no-such-model"}, "cannot be read from the Hugging Face hub"),
        *(
            ({"query": query}, f"the query is {type(query).__name__} .*: a str is wanted")
            for query in BAD_QUERIES
        ),
        *(({"k": k}, "k is .*: a whole number is wanted") for k in BAD_NUMBERS),
        *(({"recall": recall}, "recall is .*: a number above 0") for recall in BAD_RECALLS),
        *(({"mode": mode}, "mode is .* are possible") for mode in BAD_MODES),
        *(({"where": where}, "where .* is wanted") for where in BAD_WHERES),
        *(({"rerank": rerank}, "rerank is .* is wanted") for rerank in BAD_RERANKERS),
    ],
)
def test_bad_questions(retriever: Retriever, options: dict[Any, Any], message: str) -> None:
    """One line each, at the door."""
    asked: dict[str, Any] = {"query": "cat"} | options
    with pytest.raises(FlatcoatError, match=message):
        retriever.search(**asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sum"}, "fusion is 'sum': adaptive, weighted, rrf are possible"),
        ({"name": None}, "fusion is None"),
        ({"constant": -1}, "constant is -1"),
        ({"constant": "60"}, "constant is '60'"),
        ({"weight": 1.5}, "weight is 1.5"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"weight": "0.5"}, "weight is '0.5'"),
    ],
)
def test_fusions_that_there_are_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        Fusion(**options)


def test_an_index_that_is_made_again_is_searched_by_who_has_it_open(
    tmp_path: Path, encoder: Encoder, make_colbert: MakeFolder
) -> None:
    retriever = make(tmp_path, encoder, [Document("old", "cat one")])
    assert ids(retriever.search("cat")) == ["old"]
    path = retriever.store.path
    shutil.rmtree(path)
    make(tmp_path, encoder, [Document("new", "cat two")])
    for mode in MODES:
        assert ids(retriever.search("cat", mode=mode)) == ["new"]
    retriever.add([Document("more", "cat three")])
    assert sorted(ids(retriever.search("cat"))) == ["more", "new"]
    shutil.rmtree(path)
    Retriever.create(path, encoder, passage_tokens=16).close()
    for ask in (
        lambda: retriever.search("cat"),
        lambda: retriever.add([]),
        lambda: retriever.remove(["new"]),
    ):
        with pytest.raises(FlatcoatError, match="another model or engine made: open it again"):
            ask()
    shutil.rmtree(path)
    with pytest.raises(FlatcoatError, match="is gone"):
        retriever.search("cat", mode="bm25")


@pytest.mark.parametrize("mode", MODES)
def test_one_condition_and_any_k_will_do(retriever: Retriever, mode: Any) -> None:
    expected = retriever.search("cat", 200, where=["part=1"], mode=mode)
    for where in ("part=1", Condition("part", "in", [1]), ("part=1", 'part in 1,"2"')):
        assert retriever.search("cat", 10**19, where=where, mode=mode) == expected  # type: ignore[arg-type]
