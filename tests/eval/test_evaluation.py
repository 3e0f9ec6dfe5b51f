import json

import numpy as np
import pytest

from flatcoat.eval import evaluation
from flatcoat.eval.datasets import load_beir
from flatcoat.eval.evaluation import Row, search_bm25, search_dataset
from flatcoat.eval.metrics import evaluate, ranked

WORDS = "sun moon star wind rain snow leaf root bark seed bird nest wing song dawn dusk".split()  # noqa: SIM905


@pytest.fixture
def dataset(write_beir):
    """23 documents and 7 queries of random words."""
    generator = np.random.default_rng(5)

    def rows(prefix: str, number: int, length: int) -> str:
        texts = [" ".join(generator.choice(WORDS, size=length)) for _ in range(number)]
        rows = [{"_id": f"{prefix}{position}", "text": text} for position, text in enumerate(texts)]
        return "\n".join(map(json.dumps, rows))

    qrels = "".join(f"q{i}\td{i}\t1\n" for i in range(7))
    return load_beir(write_beir(corpus=rows("d", 23, 9), queries=rows("q", 7, 3), test=qrels))


def search_slowly(encoder, dataset, k: int) -> dict[str, dict[str, float]]:
    """Every pair by itself: the sum over query vectors of the best inner product."""
    run = {}
    for query, text in dataset.queries.items():
        query_vectors = np.atleast_2d(encoder.encode_queries([text])[0])
        scores = {}
        for document in dataset.documents:
            document_vectors = np.atleast_2d(encoder.encode_documents([document.text])[0])
            scores[document.id] = float((query_vectors @ document_vectors.T).max(axis=1).sum())
        run[query] = {id: scores[id] for id in ranked(scores)[:k]}
    return run


@pytest.mark.parametrize("chunk", [1, 4, 23, 1000])
def test_chunks_do_not_show_in_the_run(encoder, dataset, monkeypatch, chunk):
    monkeypatch.setattr(evaluation, "CHUNK", chunk)
    monkeypatch.setattr(evaluation, "QUERY_BATCH", 3)
    run = search_dataset(encoder, dataset, k=6)
    expected = search_slowly(encoder, dataset, k=6)
    assert list(run) == list(expected)
    for query in expected:
        assert sorted(run[query].values()) == pytest.approx(sorted(expected[query].values()), abs=1e-5)
        lowest = min(expected[query].values()) + 1e-4
        clear = {id for id, score in expected[query].items() if score > lowest}
        assert clear <= run[query].keys()


def test_progress_counts_documents(encoder, dataset, monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 10)
    seen = []
    search_dataset(encoder, dataset, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 23), (20, 23), (23, 23)]


def test_a_query_is_not_its_own_result_and_still_gets_k(encoder, write_beir):
    corpus = '{"_id": "x", "text": "sun and moon"}\n{"_id": "y", "text": "moon"}\n{"_id": "z", "text": "sun"}'
    queries = '{"_id": "x", "text": "sun and moon"}\n{"_id": "y", "text": "sun"}\n'
    dataset = load_beir(write_beir(corpus=corpus, queries=queries, test="x\ty\t1\ny\tz\t1\n"))
    for run in (search_dataset(encoder, dataset, k=2), search_bm25(dataset, k=2)):
        assert run["x"].keys() == {"y", "z"}
        assert next(iter(run["y"])) == "z"


def test_the_title_is_searched(encoder, write_beir):
    corpus = '{"_id": "x", "title": "dawn", "text": "leaf"}\n{"_id": "y", "text": "leaf"}\n'
    dataset = load_beir(write_beir(corpus=corpus, queries='{"_id": "q", "text": "dawn"}', test="q\tx\t1"))
    for run in (search_dataset(encoder, dataset), search_bm25(dataset)):
        assert next(iter(run["q"])) == "x"


def test_bm25_and_encoders_find_what_was_judged(encoder, write_beir):
    dataset = load_beir(write_beir())
    for run in (search_dataset(encoder, dataset), search_bm25(dataset)):
        assert evaluate(run, dataset.qrels).mean["mrr@10"] == 1.0


def test_a_row_is_flat_json():
    row = Row("pets", "test", "BM25", {"ndcg@10": 0.5, "map": 0.25})
    assert row.to_json() == {
        "dataset": "pets",
        "split": "test",
        "system": "BM25",
        "ndcg@10": 0.5,
        "map": 0.25,
    }
