"""``flatcoat check``: measures by hand, recall beside brute force, a worse index beside a better one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flatcoat import DataError, Document, NotFoundError, Retriever
from flatcoat.__main__ import app
from flatcoat.eval.check.check import NDCG, RECALL, CheckSettings, check
from flatcoat.eval.check.comparison import compare, measures
from flatcoat.eval.check.queries import CheckQuery, draw_queries
from flatcoat.eval.check.recall import engine_recall
from flatcoat.eval.check.record import CheckRecord, read_record
from flatcoat.indexing.store.engines import EngineSettings

MakeFolder = Callable[..., Path]

ANIMALS = [
    "wren",
    "otter",
    "badger",
    "heron",
    "stoat",
    "adder",
    "newt",
    "vole",
    "lynx",
    "raven",
    "plover",
    "tench",
]
DOINGS = [
    "builds",
    "nests",
    "hides",
    "food",
    "swims",
    "upstream",
    "sleeps",
    "winter",
    "hunts",
    "dusk",
    "digs",
    "holes",
]


def invoke(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def documents() -> list[Document]:
    """Each has a sentence to ask for, and others that name its animal again."""
    found = []
    for number, animal in enumerate(ANIMALS):
        doing = " ".join(DOINGS[(number + step) % len(DOINGS)] for step in range(4))
        found.append(
            Document(animal, f"The {animal} often {doing}.\n\nEvery {animal} knows its {doing} well.")
        )
    return found


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """An index without a model."""
    retriever = Retriever.create(tmp_path / "words.index", model=None)
    retriever.add(documents())
    retriever.close()
    return tmp_path / "words.index"


@pytest.fixture
def coded(tmp_path: Path, make_colbert: MakeFolder) -> Path:
    """An index that PLAID searches, by a small random model."""
    engine = EngineSettings("plaid", bits=1, centroids=8)
    retriever = Retriever.create(tmp_path / "coded.index", make_colbert(), index=engine)
    retriever.add(documents())
    retriever.compact()
    retriever.close()
    return tmp_path / "coded.index"


def test_ndcg_is_that_of_the_ranks(words: Path) -> None:
    queries = [CheckQuery("wren", ("wren",), "file"), CheckQuery("otter", ("wren",), "file")]
    assert check(words, queries).scores == {NDCG: [1.0, 0.0]}
    both = [CheckQuery("wren", ("wren", "otter"), "file")]  # The otter is not found by "wren".
    assert check(words, both).scores[NDCG] == [pytest.approx(1 / (1 + 1 / np.log2(3)))]


def test_the_words_of_a_query_are_no_give_away(words: Path) -> None:
    store = Retriever.open(words).store
    drawn = draw_queries(store, 12)
    given_away = [query._replace(source="") for query in drawn]
    assert check(words, given_away).scores[NDCG] == [1.0] * 12
    alone = [query._replace(text="often") for query in drawn[:1]]  # Only the sentence has this word.
    assert check(words, alone).scores[NDCG] == [0.0]


@pytest.mark.parametrize("encode_again", [False, True])
def test_recall_is_that_of_all_passages_scored_one_by_one(coded: Path, encode_again: bool) -> None:
    retriever = Retriever.open(coded)
    texts = [f"the {animal}" for animal in ANIMALS[:6]]
    found = engine_recall(retriever, texts, k=5, encode_again=encode_again)
    snapshot = retriever.store.snapshot()
    assert snapshot.codec is not None
    rows = snapshot.rows.tolist()
    stored = snapshot.token_vectors(rows)
    if encode_again:
        passages = retriever.store.passages(rows)
        stored = list(retriever.encoder.encode_documents([passage.searchable for passage in passages]))
    queries = retriever.query_encoder.encode_queries(texts)
    hits = retriever.store.index().search(queries, 5)
    for query, share, one in zip(queries, found, hits, strict=True):
        scores = [(query @ tokens.T).max(axis=1).sum() for tokens in stored if tokens is not None]
        best = [rows[place] for place in np.argsort(-np.array(scores), kind="stable")[:5]]
        assert share == pytest.approx(len({*best} & {*one.ids}) / 5)


def test_a_search_that_is_exact_misses_nothing(tmp_path: Path, make_colbert: MakeFolder) -> None:
    retriever = Retriever.create(tmp_path / "exact.index", make_colbert(), index="exact")
    retriever.add(documents())
    record = check(tmp_path / "exact.index", draw_queries(retriever.store, 5))
    assert record.scores[RECALL] == [1.0] * 5
    assert record.settings["engine"] == "exact" and record.settings["mode"] == "hybrid"
    assert set(
        check(
            tmp_path / "exact.index", draw_queries(retriever.store, 5), settings=CheckSettings(mode="bm25")
        ).scores
    ) == {NDCG}


def test_the_same_index_is_not_worse_and_a_spoilt_one_is(words: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    invoke(words, "--output", before, "-n", 12)
    again = invoke(words, "--against", before)
    assert "+0.0" in again.output and "worse" not in again.output
    retriever = Retriever.open(words)  # The second sentences lose their subjects.
    spoilt = [replace(one, text=one.text.split("\n\n")[0] + "\n\nIt is one of many.") for one in documents()]
    retriever.add(spoilt)
    retriever.close()
    result = invoke(words, "--against", before, "--json", code=1)
    report = json.loads(result.stdout)
    change = report["changes"][NDCG]
    assert change["is_worse"] and change["p_value"] < 0.05 and change["high"] < 0
    assert change["difference"] == pytest.approx(
        report["measures"][NDCG]["mean"] - np.mean(read_record(before).scores[NDCG])
    )
    assert "significantly worse than before: nDCG@10" in result.stderr


def test_a_change_of_bits_and_of_model_is_named(coded: Path, words: Path, tmp_path: Path) -> None:
    invoke(coded, "--output", tmp_path / "before.json", "-n", 5)
    result = CliRunner().invoke(app, ["check", str(words), "--against", str(tmp_path / "before.json")])
    assert result.exit_code in (0, 1)
    assert "bits: 1 before, none now" in result.output and "engine: plaid before" in result.output


def test_queries_of_documents_that_went_are_left_out_of_both(words: Path, tmp_path: Path) -> None:
    invoke(words, "--output", tmp_path / "before.json", "-n", 12)
    retriever = Retriever.open(words)
    retriever.remove(["wren", "otter"])
    retriever.close()
    result = invoke(words, "--against", tmp_path / "before.json")
    assert "2 earlier queries left out" in result.stderr and "10 queries" in result.output
    retriever = Retriever.open(words)
    retriever.remove(ANIMALS[:-1])
    retriever.add([Document(ANIMALS[-1], "It has another text now, which is longer than before.")])
    retriever.close()
    with pytest.raises(DataError, match="must be of the same documents"):
        invoke(words, "--against", tmp_path / "before.json")


def test_intervals_and_p_values_are_those_of_the_differences() -> None:
    def record(scores: list[float]) -> CheckRecord:
        queries = [CheckQuery(str(number), ("a",), "file") for number in range(len(scores))]
        return CheckRecord(
            settings={}, queries=queries, scores={NDCG: scores}, costs={}, versions={}, finished=""
        )

    worse, better = record([0.2] * 10), record([0.4] * 9 + [0.3])
    (change,) = compare(worse, better).changes
    assert change.difference == pytest.approx(-0.19)
    assert change.p_value == pytest.approx(2 / 2**10)  # All signs equal: one pattern of 1,024 on each side.
    assert change.is_worse and not compare(better, worse).worse
    (measure,) = measures(better)
    assert measure.low <= measure.mean <= measure.high


def test_what_is_no_record_is_an_error(words: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--output"):
        invoke(words, "--against", tmp_path / "none.json")
    for text in ("[]", '{"queries": []}', "no JSON"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="no record of flatcoat check"):
            invoke(words, "--against", tmp_path / "bad.json")
    invoke(words, "--against", tmp_path / "bad.json", "--queries", tmp_path / "bad.json", code=2)
