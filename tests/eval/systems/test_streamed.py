import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.eval.costs import Meter
from flatcoat.eval.datasets import load_beir
from flatcoat.eval.metrics import ranked
from flatcoat.eval.systems.streamed import BUDGET_BYTES, chunks, encoded_bytes, search_exactly
from flatcoat.indexing.documents import Document
from flatcoat.indexing.vectors import TokenVectors

WORDS = "sun moon star wind rain snow leaf root bark seed bird nest wing song dawn dusk".split()  # noqa: SIM905


@pytest.fixture
def dataset(write_beir):
    """23 documents and 7 queries of random words; ten documents are twins of others."""
    generator = np.random.default_rng(5)

    def rows(prefix: str, number: int, length: int) -> str:
        texts = [" ".join(generator.choice(WORDS, size=length)) for _ in range(number)]
        texts = texts[:13] + texts[: number - 13]
        rows = [{"_id": f"{prefix}{position}", "text": text} for position, text in enumerate(texts)]
        return "\n".join(map(json.dumps, rows))

    qrels = "".join(f"q{i}\td{i}\t1\n" for i in range(7))
    return load_beir(write_beir(corpus=rows("d", 23, 9), queries=rows("q", 7, 3), test=qrels))


def search(encoder, dataset, k, budget_bytes=BUDGET_BYTES, on_progress=lambda done, total: None):
    return search_exactly(
        encoder, dataset, k=k, budget_bytes=budget_bytes, meter=Meter(), on_progress=on_progress
    )


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


@pytest.mark.parametrize("budget_bytes", [1, 40_000, BUDGET_BYTES])
def test_chunks_do_not_show_in_the_run(encoder, dataset, budget_bytes):
    run = search(encoder, dataset, 6, budget_bytes)
    expected = search_slowly(encoder, dataset, k=6)
    assert list(run) == list(expected)
    for query in expected:
        assert sorted(run[query].values()) == pytest.approx(sorted(expected[query].values()), abs=1e-5)
        lowest = min(expected[query].values()) + 1e-4
        clear = {id for id, score in expected[query].items() if score > lowest}
        assert clear <= run[query].keys()


class Steps:
    """A dense encoder of small whole numbers, exact in any order of summation: many scores are equal."""

    name = "steps"

    def __init__(self, contract):
        self.contract = contract

    def encode_queries(self, texts):
        return np.array([[len(text) % 3, 1, *[0] * 62] for text in texts], dtype=np.float32)

    encode_documents = encode_queries

    def token_counts(self, texts, *, is_query=False):
        return [2 for text in texts]


@pytest.mark.parametrize("budget_bytes", [1, 5_000, BUDGET_BYTES])
def test_equal_scores_fall_as_in_trec_eval_even_at_the_last_rank(encoder, dataset, budget_bytes):
    steps = Steps(replace(encoder.contract, kind="dense"))
    expected = search_slowly(steps, dataset, 5)
    run = search(steps, dataset, 5, budget_bytes)
    assert [list(found) for found in run.values()] == [list(found) for found in expected.values()]
    assert run == expected


def test_progress_counts_documents(encoder, dataset):
    seen = []
    search(encoder, dataset, 3, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 23) for number in range(1, 24)]


def test_a_query_is_not_its_own_result_and_still_gets_k(encoder, write_beir):
    corpus = '{"_id": "x", "text": "sun and moon"}\n{"_id": "y", "text": "moon"}\n{"_id": "z", "text": "sun"}'
    queries = '{"_id": "x", "text": "sun and moon"}\n{"_id": "y", "text": "sun"}\n'
    dataset = load_beir(write_beir(corpus=corpus, queries=queries, test="x\ty\t1\ny\tz\t1\n"))
    assert dataset.self_hits == {"x"}
    for budget_bytes in (1, BUDGET_BYTES):
        run = search(encoder, dataset, 2, budget_bytes)
        assert run["x"].keys() == {"y", "z"}
        assert run["y"].keys() > {"z"}


def test_the_title_is_searched(encoder, write_beir):
    corpus = '{"_id": "x", "title": "dawn", "text": "leaf"}\n{"_id": "y", "text": "leaf"}\n'
    dataset = load_beir(write_beir(corpus=corpus, queries='{"_id": "q", "text": "dawn"}', test="q\tx\t1"))
    assert next(iter(search(encoder, dataset, 10)["q"])) == "x"


def test_a_vector_that_is_no_number_names_its_document(encoder, dataset, monkeypatch):
    encode = encoder.encode_documents

    def spoil(texts):
        vectors = encode(texts)
        values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
        values[-1, 3] = np.nan
        return vectors

    monkeypatch.setattr(encoder, "encode_documents", spoil)
    last = min(document.id for document in dataset.documents)  # they are encoded by falling id
    with pytest.raises(FlatcoatError, match=f"'{last}' was encoded as NaN"):
        search(encoder, dataset, 3)


def test_chunks_fill_the_budget_and_never_lose_a_document(encoder):
    documents = [Document(str(i), "word " * (40 * i)) for i in range(40)]
    size_of = encoded_bytes(encoder.contract)
    parts = list(chunks(iter(documents), size_of, budget=300_000))
    assert [document for part in parts for document in part] == documents
    assert all(len(part) == 1 or sum(map(size_of, part)) <= 300_000 for part in parts)
    assert all(
        sum(map(size_of, part)) + size_of(following[0]) > 300_000 for part, following in pairwise(parts)
    )


def test_what_a_document_takes_stops_growing_where_the_model_stops_reading(encoder):
    size_of = encoded_bytes(encoder.contract)
    short, long, longer = (Document("x", "a" * length) for length in (100, 10_000, 20_000))
    vectors = 512 if encoder.contract.kind == "colbert" else 1
    assert size_of(long) >= vectors * 64 * 4 + 10_000
    assert size_of(short) < size_of(long)
    assert size_of(longer) - size_of(long) == 4 * 10_000
