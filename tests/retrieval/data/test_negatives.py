"""Mined negatives against a plain reading of the rules, and over real searches."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.vectors import Hits
from flatcoat.retrieval.data.commands import app
from flatcoat.retrieval.data.files import Collection
from flatcoat.retrieval.data.negatives import CorpusSearcher, MiningCounts, MiningSettings, mine
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]


class Ranking:
    """Gives every query the same documents with the same scores."""

    def __init__(self, scores: dict[str, float]):
        self._scores = scores

    def search(self, queries: Sequence[str], k: int) -> Iterable[Hits[str]]:
        ids = sorted(self._scores, key=lambda id: -self._scores[id])[:k]
        hits = Hits(ids, np.array([self._scores[id] for id in ids], dtype=np.float32))
        return [hits for _ in queries]


def collection(scores: dict[str, float], positives: list[str], **texts: str) -> Collection:
    documents = {id: texts.get(id, f"text {id}") for id in scores}
    return Collection(documents, {"q": "question"}, {"q": positives})


def mined(
    scores: dict[str, float], positives: list[str], settings: MiningSettings, **texts: str
) -> tuple[list[tuple[str, ...]], MiningCounts]:
    counts = MiningCounts()
    rows = mine(collection(scores, positives, **texts), Ranking(scores), settings=settings, counts=counts)
    return [tuple(text.removeprefix("text ") for text in row.negatives) for row in rows], counts


SCORES = {"a": 1.0, "b": 0.98, "c": 0.94, "d": 0.9, "e": 0.5, "f": 0.1}


def test_a_negative_scores_at_most_95_percent_of_the_positive() -> None:
    rows, counts = mined(SCORES, ["a"], MiningSettings(count=2))
    assert rows == [("c", "d")]
    assert (counts.rows, counts.within_relative_margin, counts.judged_positive) == (1, 1, 1)


def test_every_filter_is_counted() -> None:
    rows, counts = mined(SCORES, ["a"], MiningSettings(2, first=2, last=5, margin=0.08))
    assert rows == [("d", "e")]
    assert counts == MiningCounts(1, 0, 0, 5, 1, 0, 0, 1, 1, 0)
    rows, counts = mined(SCORES, ["a"], MiningSettings(2, first=2, last=3, margin=0.08))
    assert rows == []
    assert (counts.rows, counts.rows_without_enough) == (0, 1)


def test_texts_of_positives_and_repeated_texts_are_no_negatives() -> None:
    texts = {"a": "The  Answer", "c": "the answer\n", "d": "other", "e": "other"}
    rows, counts = mined(SCORES, ["a"], MiningSettings(2, relative_margin=None), **texts)
    assert rows == [("b", "other")]
    assert (counts.text_of_a_positive, counts.text_seen_before) == (1, 1)


def test_each_positive_is_a_row_measured_by_its_own_score() -> None:
    rows, _ = mined(SCORES, ["a", "d"], MiningSettings(1))
    assert rows == [("c",), ("e",)]


def test_a_positive_that_is_not_found_has_no_row_unless_no_margin_asks_for_it() -> None:
    scores, settings = SCORES | {"g": -1.0}, MiningSettings(2, last=3)
    rows, counts = mined(scores, ["g"], settings)
    assert rows == []
    assert counts.rows_whose_positive_was_not_found == 1
    rows, _ = mined(scores, ["g"], MiningSettings(2, last=3, relative_margin=None))
    assert rows == [("a", "b")]


def test_a_margin_of_a_negative_score_is_still_below_it() -> None:
    rows, _ = mined({"a": -1.0, "b": -1.02, "c": -1.1}, ["a"], MiningSettings(1))
    assert rows == [("c",)]


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abcdefghij"), st.floats(-2, 2), min_size=2),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 6),
    st.sampled_from([None, 0.0, 0.3]),
    st.sampled_from([None, 0.05, 0.5]),
)
def test_mining_is_the_plain_rule(
    scores: dict[str, float], count: int, first: int, more: int, margin: float | None, relative: float | None
) -> None:
    scores = {id: float(np.float32(score)) for id, score in scores.items()}
    positive = min(scores)
    ranked = [id for id in sorted(scores, key=lambda id: -scores[id]) if id != positive]
    expected = [
        id
        for id in ranked[first - 1 : first + more]
        if (margin is None or scores[id] <= scores[positive] - margin)
        and (relative is None or scores[id] <= scores[positive] - relative * abs(scores[positive]))
    ]
    rows, counts = mined(scores, [positive], MiningSettings(count, first, first + more, margin, relative))
    found = margin is None and relative is None
    found = found or positive in sorted(scores, key=lambda id: -scores[id])[: first + more + 1]
    assert rows == ([tuple(expected[:count])] if found and len(expected) >= count else [])
    assert counts.rows + counts.rows_without_enough + counts.rows_whose_positive_was_not_found == 1


@pytest.mark.parametrize("kind", ["dense", "colbert"])
def test_a_corpus_is_searched_exactly_while_it_is_small(
    make_dense: MakeFolder, make_colbert: MakeFolder, texts: list[str], kind: str
) -> None:
    encoder = (
        DenseEncoder.load(make_dense(), device="cpu")
        if kind == "dense"
        else ColbertEncoder.load(make_colbert(), device="cpu")
    )
    ids, told = [str(number) for number in range(len(texts))], []
    searcher = CorpusSearcher(encoder, dict(zip(ids, texts, strict=True)), on_progress=told.append)
    expected = ExactIndex.from_vectors(ids, encoder.encode_documents(texts)).search(
        encoder.encode_queries(texts[3:6]), 4
    )
    for came, wanted in zip(searcher.search(texts[3:6], 4), expected, strict=True):
        assert came.ids == wanted.ids
        assert came.scores == pytest.approx(wanted.scores, rel=2e-3)
    assert told == [len(texts)]


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    words = ["cat", "dog", "sky", "bread", "bridge", "river"]
    corpus = [{"_id": word, "title": "", "text": f"the {word} of the house"} for word in words]
    corpus += [{"_id": f"{word}2", "title": "", "text": f"another {word} house, of course"} for word in words]
    queries = [{"_id": f"q{word}", "text": f"{word} of a house"} for word in words]
    (tmp_path / "qrels").mkdir()
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{word}\t{word}\t1\n" for word in words)
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return tmp_path


def test_the_command_mines_a_beir_folder_and_what_it_wrote(beir: Path) -> None:
    output = beir / "mined.jsonl"
    options = ["--model", "bm25", "--negatives", "1", "--relative-margin", "0", "--json"]
    result = CliRunner().invoke(app, ["mine", str(beir), "--output", str(output), *options])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert counts["rows"] == len(rows) == 6
    for row in rows:
        word = row["query"].split()[0]
        assert row["document"] == f"the {word} of the house"
        assert row["negatives"] == [f"another {word} house, of course"]
    again = ["mine", str(output), "--output", str(beir / "again.parquet"), *options]
    assert json.loads(CliRunner().invoke(app, again).stdout)["rows"] == 6


def test_a_sample_of_queries_keeps_the_corpus(beir: Path) -> None:
    whole = Collection.read(beir)
    few = whole.sampled(2)
    assert len(few.positives) == 2
    assert few.documents == whole.documents
    assert whole.sampled(9) == whole.sampled(None) == whole


def test_what_cannot_be_mined(beir: Path) -> None:
    with pytest.raises(FlatcoatError, match="has no split 'dev': choose one of train"):
        Collection.read(beir, "dev")
    with (beir / "qrels" / "train.tsv").open("a") as file:
        file.write("qcat\tnothing\n")
    with pytest.raises(FlatcoatError, match=r"train\.tsv:8 has 2 columns"):
        Collection.read(beir)
    bad = ["mine", str(beir), "--output", str(beir / "x.jsonl"), "--ranks", "9-1"]
    assert "FIRST-LAST is wanted" in CliRunner().invoke(app, bad).output


def test_mining_with_a_model_of_nan_weights_ends_at_its_first_vectors(
    make_dense: MakeFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(make_dense(), folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: values * float("nan") for name, values in weights.items()}, folder / "model.safetensors")
    told: list[int] = []
    texts = [f"text {number}" for number in range(1_500)]
    with pytest.raises(FlatcoatError, match="damaged gives vectors that are not finite numbers"):
        CorpusSearcher(
            load_encoder(folder, device="cpu"), {text: text for text in texts}, on_progress=told.append
        )
    assert told == []
