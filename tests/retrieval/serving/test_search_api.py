"""flatcoat's own API, as a program without a client library uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatcoat import Document, Retriever


@pytest.mark.parametrize("name", ["late", "dense"])
@pytest.mark.parametrize("mode", ["hybrid", "vectors", "bm25"])
def test_results_are_those_of_the_retriever(
    server: Any, folders: dict[str, Path], name: str, mode: str
) -> None:
    answer = server.post(f"/indexes/{name}/search", {"query": "why do cats purr?", "mode": mode, "k": 3})
    assert answer.status_code == 200, answer.text
    retriever = Retriever.open(folders[name])
    expected = retriever.search("why do cats purr?", 3, mode=mode, best_lines=True)  # type: ignore[arg-type]
    retriever.close()
    found = answer.json()["results"]
    assert [(one["document_id"], one["lines"]) for one in found] == [
        (one.document_id, list(one.lines)) for one in expected
    ]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
    assert found[0]["best_lines"] == list(expected[0].best_lines or ())


def test_an_explanation_says_where_words_matched(server: Any) -> None:
    body = {"query": "blue sky", "explain": True, "highlight": True, "where": ["year<1900"]}
    answer = server.post("/indexes/late/search", body).json()
    (result,) = answer["results"]
    spans = [one["text_span"] for one in result["explanation"] if one["query_token"] == "blue"]
    assert [result["text"][slice(*span)] for span in spans] == ["blue"]
    assert "blue" in [result["text"][start:end] for start, end, _ in result["highlights"]]


def test_reranking_and_groups(server: Any) -> None:
    body = {"query": "purring cats", "rerank": True, "group": True, "k": 4}
    found = server.post("/indexes/late/search", body).json()["results"]
    assert found[0]["document_id"] == "cats.md"
    assert "rerank" in found[0]["scores"]
    assert len({one["document_id"] for one in found}) == len(found) == 4


def test_documents_come_and_go(start: Callable[..., Any], tmp_path: Path) -> None:
    Retriever.create(tmp_path / "new.index").close()
    server = start("--index", f"new={tmp_path / 'new.index'}")
    documents = [{"id": "a/b c", "text": "The bridge is of steel.", "metadata": {"year": 1937, "old": True}}]
    added = server.post("/indexes/new/documents", {"documents": documents})
    assert added.json() == {"added": 1, "passages": 1, "unchanged": 0, "skipped": []}, added.text
    assert server.post("/indexes/new/documents", {"documents": documents}).json()["unchanged"] == 1
    found = server.post("/indexes/new/search", {"query": "bridge", "where": ["old=true"]}).json()["results"]
    assert [(one["document_id"], one["metadata"]) for one in found] == [
        ("a/b c", {"year": 1937, "old": True})
    ]
    assert server.client.get("/indexes/new").json()["documents"] == 1
    assert server.client.delete("/indexes/new/documents/a/b c").json() == {"removed": 1}
    assert server.client.delete("/indexes/new/documents/a/b c").status_code == 404
    assert server.post("/indexes/new/documents/remove", {"ids": ["a/b c"]}).json() == {"removed": 0}
    assert server.post("/indexes/new/search", {"query": "bridge"}).json()["results"] == []
    server.close()
    retriever = Retriever.open(tmp_path / "new.index")
    assert retriever.info().documents == 0
    assert retriever.store.verify() == []
    retriever.close()


def test_nothing_changes_where_it_is_read_only(start: Callable[..., Any], folders: dict[str, Path]) -> None:
    server = start("--index", f"late={folders['late']}", "--read-only")
    answers = [
        server.post("/indexes/late/documents", {"documents": [{"id": "x", "text": "y"}]}),
        server.post("/indexes/late/documents/remove", {"ids": ["sky.md"]}),
        server.client.delete("/indexes/late/documents/sky.md"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert server.client.get("/indexes/late").json()["documents"] == 4
    server.close()


def test_health_metrics_and_what_is_served(server: Any) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    indexes = server.client.get("/indexes").json()["indexes"]
    assert [(one["name"], one["kind"], one["documents"]) for one in indexes] == [
        ("late", "colbert", 4),
        ("dense", "dense", 4),
    ]
    metrics = server.client.get("/metrics").text
    assert 'te_request_count{method="GET",route="/health",status="200"}' in metrics
    assert 'te_request_duration_bucket{route="/health",le="+Inf"}' in metrics
    assert "# TYPE te_queue_size gauge\nte_queue_size 0\n" in metrics
    assert 'flatcoat_documents{index="dense"} 4' in metrics
    assert "te_batch_next_tokens_count" in metrics


def test_the_log_says_who_asked_and_not_what(server: Any) -> None:
    answer = server.client.post(
        "/indexes/late/search", json={"query": "a secret question"}, headers={"x-request-id": "mine-1"}
    )
    assert answer.headers["x-request-id"] == "mine-1"
    log = server.log.read_text()
    assert '"id": "mine-1", "client": "127.0.0.1", "method": "POST", "path": "/indexes/late/search"' in log
    assert "secret question" not in log
    assert "the-key-of-the-tests" not in log


def test_a_budget_makes_a_prompt(server: Any) -> None:
    answer = server.post("/indexes/late/search", {"query": "why is the sky blue?", "budget": 60}).json()
    assert answer["results"][0]["evidence"][0]["text"]
    assert answer["prompt"].startswith("sky.md:")
    assert server.post("/indexes/late/search", {"query": "sky"}).json()["prompt"] is None


def test_patterns_and_filters_without_a_query(server: Any) -> None:
    found = server.post("/indexes/late/search", {"regex": r"purr\?$"}).json()["results"]
    assert [one["document_id"] for one in found] == ["cats.md"]
    body = {"where": [{"$or": [{"lang": "python"}, {"year": {"$lt": 1900}}]}]}
    found = server.post("/indexes/late/search", body).json()["results"]
    assert {one["document_id"] for one in found} == {"store.py", "sky.md"}
    for wrong in ({}, {"regex": "("}, {"fixed": "cat", "budget": 50}):
        assert server.post("/indexes/late/search", wrong).status_code == 400


def test_an_index_without_vectors_is_searched_by_its_words(start: Callable[..., Any], tmp_path: Path) -> None:
    retriever = Retriever.create(tmp_path / "words", None)
    retriever.add([Document("sky", "The sky is blue."), Document("dog", "Dogs bark.")])
    retriever.close()
    server = start("--index", str(tmp_path / "words"))
    body = {"query": "blue sky", "explain": True, "budget": 50}
    answer = server.post("/indexes/words/search", body).json()
    assert answer["results"][0]["document_id"] == "sky"
    assert answer["prompt"] == "sky:1\nThe sky is blue."
    assert server.client.get("/indexes/words").json()["model"] is None
    assert server.post("/indexes/words/search", body | {"mode": "vectors"}).status_code == 409
    assert server.post("/indexes/words/search", body | {"rerank": True}).status_code == 400
    assert server.post("/v1/embeddings", {"input": "a"}).status_code == 404
    assert server.client.get("/info").status_code == 404
    assert server.client.get("/v1/models").json()["data"] == []
    added = server.post("/indexes/words/documents", {"documents": [{"id": "cat", "text": "Cats purr."}]})
    assert added.json()["added"] == 1
    assert "libtorch" not in server.mapped()
    server.close()
