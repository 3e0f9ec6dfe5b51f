"""Reranking in the three shapes that clients know, and the spans behind its scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.rerank import maxsim

QUERY = "blue sky"
TEXTS = ["Bread rises.", "Dogs bark, and more.\n🌊 The sky is blue.", "Blue cats."]


def test_one_handler_answers_by_the_shape_of_the_request(server: Any) -> None:
    cohere = server.post("/v2/rerank", {"query": QUERY, "documents": TEXTS}).json()
    jina = server.post("/v1/rerank", {"query": QUERY, "documents": [{"text": text} for text in TEXTS]}).json()
    plain = server.post("/rerank", {"query": QUERY, "documents": TEXTS}).json()
    tei = server.post("/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True}).json()
    order = [one["index"] for one in cohere["results"]]
    assert order[0] == 1
    assert [one["index"] for one in jina["results"]] == [one["index"] for one in plain["results"]] == order
    assert [(one["index"], one["text"]) for one in tei] == [(index, TEXTS[index]) for index in order]
    assert [one["document"]["text"] for one in jina["results"]] == [TEXTS[index] for index in order]
    assert "document" not in cohere["results"][0]
    scores = [one["relevance_score"] for one in cohere["results"]]
    assert [one["score"] for one in tei] == pytest.approx(scores, abs=1e-5)
    assert jina["usage"]["total_tokens"] > 0


def test_raw_scores_are_those_of_the_model(server: Any) -> None:
    found = server.post("/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True}).json()
    encoder = load_encoder()
    (query_QD,) = encoder.encode_queries([QUERY])
    expected = [maxsim(query_QD, document_TD) for document_TD in encoder.encode_documents(TEXTS)]
    for one in found:
        assert one["score"] == pytest.approx(expected[one["index"]], abs=1e-3)


def test_relevant_spans_are_in_code_points(server: Any) -> None:
    options = {"mode": "enabled", "threshold": 0.5, "max_spans": 1}
    body = {"query": QUERY, "documents": TEXTS, "relevant_spans": options, "top_n": 1}
    (best,) = server.post("/v2/rerank", body).json()["results"]
    (span,) = best["relevant_spans"]
    assert TEXTS[1][span["start"] : span["end"]] == "🌊 The sky is blue."
    assert 0.5 <= span["score"] <= 1
    none = server.post("/v2/rerank", body | {"relevant_spans": {"mode": "disabled"}}).json()["results"]
    assert "relevant_spans" not in none[0]


def test_a_dense_model_ranks_and_has_no_spans(server: Any) -> None:
    found = server.post("/v2/rerank", {"model": "dense", "query": "cat", "documents": ["dog", "cat"]}).json()
    assert sorted(one["index"] for one in found["results"]) == [0, 1]
    body = {"model": "dense", "query": "cat", "documents": ["cat"], "relevant_spans": {}}
    answer = server.post("/v2/rerank", body)
    assert answer.status_code == 400
    assert "vectors per token" in answer.json()["message"]


@pytest.mark.slow
def test_a_cross_encoder_reranks_where_one_was_named(
    start: Callable[..., Any], folders: dict[str, Path], bert_folder: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    server = start("--index", str(folders["late"]), "--reranker", str(tmp_path))
    found = server.post("/rerank", {"query": QUERY, "texts": TEXTS}).json()
    raw = server.post("/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True}).json()
    assert [one["index"] for one in found] == [one["index"] for one in raw]
    assert all(0 < one["score"] < 1 for one in found)
    results = server.post("/indexes/late/search", {"query": QUERY, "rerank": True}).json()["results"]
    assert all("rerank" in one["scores"] for one in results)
    server.close()
