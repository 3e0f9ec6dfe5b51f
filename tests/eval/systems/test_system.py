import json
from dataclasses import replace

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.eval.datasets import load_beir
from flatcoat.eval.metrics import evaluate
from flatcoat.eval.systems.rerank import RerankSystem
from flatcoat.eval.systems.system import EXACT, Bm25System, EncoderSystem
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.retrieval.rerank import EncoderReranker

WORDS = "sun moon star wind rain snow leaf root bark seed bird nest wing song dawn dusk".split()  # noqa: SIM905
SMALL = 60_000  # bytes that hold some documents of these


@pytest.fixture
def dataset(write_beir):
    """60 documents of random words, a twin of query q0 among them under its id, and 6 queries."""
    generator = np.random.default_rng(7)
    texts = [" ".join(generator.choice(WORDS, size=8)) for _ in range(60)]
    corpus = [{"_id": f"d{i}", "title": WORDS[i % 16], "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": " ".join(texts[i].split()[:3])} for i in range(6)]
    corpus.append(queries[0])
    qrels = "".join(f"q{i}\td{i}\t1\n" for i in range(6))
    lines = ["\n".join(map(json.dumps, rows)) for rows in (corpus, queries)]
    return load_beir(write_beir(corpus=lines[0], queries=lines[1], test=qrels))


@pytest.fixture
def engine(encoder):
    """An index on disk that finds what exact search finds."""
    return EngineSettings("plaid") if encoder.contract.kind == "colbert" else EngineSettings("faiss")


def search(system, dataset, k=10, folder=None):
    return system.search(dataset, k, folder=folder)


def count_texts(encoder, monkeypatch, fail_after=None):
    """The list fills with documents that are encoded; past ``fail_after`` calls the process is cut off."""
    encoded, calls, encode = [], [], encoder.encode_documents

    def counted(texts):
        calls.append(len(texts))
        if fail_after is not None and len(calls) > fail_after:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return encode(texts)

    monkeypatch.setattr(encoder, "encode_documents", counted)
    return encoded


@pytest.mark.parametrize("name", ["index", "auto"])
def test_an_index_finds_what_exact_search_finds(encoder, engine, dataset, name, tmp_path):
    exact = search(EncoderSystem(encoder), dataset)
    engine = engine if name == "index" else EngineSettings()
    found = search(EncoderSystem(encoder, engine, budget_bytes=SMALL), dataset, folder=tmp_path)
    scores = [evaluate(searched.run, dataset.qrels).mean["ndcg@10"] for searched in (exact, found)]
    assert scores[1] == pytest.approx(scores[0], abs=0.05)
    scored = search(EncoderSystem(encoder), dataset, k=60).run
    for query in dataset.queries:
        assert len(found.run[query]) == 10 and query not in found.run[query]
        tenth = min(
            exact.run[query].values()
        )  # Others may equal it: which of them count is a matter of order.
        right = {document for document, score in scored[query].items() if score >= tenth}
        assert len(found.run[query].keys() & right) >= 8


def test_an_index_needs_no_folder_of_the_users(encoder, engine, dataset):
    assert search(EncoderSystem(encoder, engine), dataset).run.keys() == dataset.queries.keys()


def test_a_run_that_was_cut_off_goes_on(encoder, engine, dataset, tmp_path, monkeypatch):
    system = EncoderSystem(encoder, engine, budget_bytes=SMALL)
    whole = search(system, dataset, folder=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        first = count_texts(encoder, patch, fail_after=1)
        search(system, dataset, folder=tmp_path / "cut")
    with monkeypatch.context() as patch:
        second = count_texts(encoder, patch)
        resumed = search(system, dataset, folder=tmp_path / "cut")
    assert first and second and len(first) + len(second) == 61
    assert not set(first) & set(second)
    assert resumed.run == whole.run
    assert resumed.costs.encode > 0
    with monkeypatch.context() as patch:
        third = count_texts(encoder, patch)
        again = search(system, dataset, folder=tmp_path / "cut")
    assert third == []
    assert again.run == whole.run
    assert again.costs.build > resumed.costs.build, "what earlier runs spent is added up"


def test_another_contract_or_engine_begins_anew(encoder, engine, dataset, tmp_path, monkeypatch):
    search(EncoderSystem(encoder, engine), dataset, folder=tmp_path)
    encoded = count_texts(encoder, monkeypatch)
    search(EncoderSystem(encoder, EngineSettings()), dataset, folder=tmp_path)
    assert len(encoded) == 61
    for changes, expected in (({"weights": "1"}, 122), ({"model": "elsewhere"}, 122)):
        encoder.contract = replace(encoder.contract, **changes)
        search(EncoderSystem(encoder, EngineSettings()), dataset, folder=tmp_path)
        assert len(encoded) == expected


def test_changed_documents_are_encoded_again_and_lost_ones_leave(
    encoder, engine, dataset, tmp_path, monkeypatch
):
    system = EncoderSystem(encoder, engine)
    search(system, dataset, folder=tmp_path)
    documents = list(dataset.documents)
    changed = replace(documents[3], text="sun sun sun moon")
    fewer = replace(dataset, documents=[*documents[:3], changed, *documents[5:]])
    encoded = count_texts(encoder, monkeypatch)
    found = search(system, fewer, 100, folder=tmp_path)
    assert encoded == [f"{changed.title} sun sun sun moon"]
    assert all("d4" not in run and len(run) in (59, 60) for run in found.run.values())


def test_costs_say_what_was_done(encoder, engine, dataset, tmp_path):
    vectors = 61 if encoder.contract.kind == "dense" else 60 * 9 + 3
    exact = search(EncoderSystem(encoder), dataset).costs
    assert (exact.documents, exact.queries, exact.vectors, exact.index_bytes) == (61, 6, vectors, 0)
    assert exact.encode > 0 and exact.search > 0 and exact.build == 0
    index = search(EncoderSystem(encoder, engine), dataset, folder=tmp_path).costs
    assert (index.documents, index.queries, index.vectors) == (61, 6, vectors)
    on_disk = sum(file.stat().st_size for file in (tmp_path / "vectors").rglob("*") if file.is_file())
    assert index.index_bytes == pytest.approx(on_disk, rel=0.01)
    assert index.encode > 0 and index.search > 0 and index.build > 0
    assert index.peak_bytes > 10_000_000


def test_what_a_model_does_not_read_is_counted(encoder, engine, dataset, tmp_path):
    encoder.contract = replace(encoder.contract, document_length=10, query_length=4)
    for system in (EncoderSystem(encoder), EncoderSystem(encoder, engine, budget_bytes=SMALL)):
        found = search(system, dataset, folder=tmp_path).truncation
        assert found.describe(61, 6) == "60 of 61 documents cut at 10 tokens, 6 of 6 queries cut at 4 tokens"
    assert search(system, dataset, folder=tmp_path).truncation == found, "also where the index was there"
    encoder.contract = replace(encoder.contract, document_length=11, query_length=5)
    assert search(EncoderSystem(encoder), dataset).truncation.describe(61, 6) == ""
    assert search(Bm25System(), dataset).truncation.describe(61, 6) == ""


def test_descriptions_are_json_and_differ_where_results_may(encoder, engine):
    systems = [
        EncoderSystem(encoder),
        EncoderSystem(encoder, engine),
        EncoderSystem(encoder, EngineSettings()),
        Bm25System(),
        RerankSystem(Bm25System(), EncoderReranker(encoder)),
        RerankSystem(Bm25System(), EncoderReranker(encoder), depth=50),
    ]
    described = {json.dumps(system.describe(), sort_keys=True, allow_nan=False) for system in systems}
    assert len(described) == len(systems)
    renamed = EncoderSystem(encoder, label="my model")
    assert renamed.describe() == systems[0].describe() and renamed.name == "my model"
    encoder.contract = replace(encoder.contract, query_length=9)
    assert EncoderSystem(encoder).describe() != json.loads(min(described, key=len))


def test_names_say_what_is_searched(encoder, engine):
    one = EncoderSystem(encoder)
    assert one.name == encoder.name and Bm25System().name == "BM25"
    assert EncoderSystem(encoder, engine).name == f"{encoder.name} ({engine.name})"
    assert RerankSystem(Bm25System(), EncoderReranker(encoder)).name == f"BM25 > {encoder.name}"


def test_an_engine_that_does_not_fit_is_refused_before_anything_is_encoded(encoder):
    wrong = "faiss" if encoder.contract.kind == "colbert" else "plaid"
    with pytest.raises(FlatcoatError, match="does not search"):
        EncoderSystem(encoder, EngineSettings(wrong))
    for engine in (EXACT, EngineSettings()):
        with pytest.raises(FlatcoatError, match=r"recall 0\.9 is for engine 'plaid'"):
            EncoderSystem(encoder, engine, recall=0.9)


def test_reranking_all_documents_is_exact_search(encoder, dataset):
    everything = EncoderSystem(encoder)
    exact = search(everything, dataset, 10)
    again = search(RerankSystem(everything, EncoderReranker(encoder), depth=100), dataset, 10)
    for query in dataset.queries:
        assert sorted(again.run[query].values()) == pytest.approx(sorted(exact.run[query].values()), abs=1e-5)
    assert again.costs.search > 0 and again.costs.queries == 6


def test_only_candidates_are_reranked(encoder, dataset):
    candidates = search(Bm25System(), dataset, 5).run
    found = search(RerankSystem(Bm25System(), EncoderReranker(encoder), depth=5), dataset, 10).run
    assert {query: set(run) for query, run in found.items()} == {
        query: set(run) for query, run in candidates.items()
    }
    assert any(list(found[query]) != list(candidates[query]) for query in found)


def test_bm25_on_nfcorpus_comes_out_as_published(real_data):
    """bm25s reports 32.1."""
    dataset = load_beir(real_data / "nfcorpus", "test")
    run = search(Bm25System(), dataset, 100).run
    assert evaluate(run, dataset.qrels).mean["ndcg@10"] == pytest.approx(0.321, abs=0.002)
