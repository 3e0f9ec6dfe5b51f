"""Served collections: shards that are missing, and generations that are built meanwhile."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatcoat import Document, Retriever
from flatcoat.retrieval.serving import cluster
from flatcoat.retrieval.serving.cluster import Follower


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_new_generations_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.02)
    caplog.set_level(logging.WARNING)
    writer = Retriever.create(tmp_path / "wiki", None, shards=3)
    writer.add([Document(str(number), f"a river {number}") for number in range(9)])
    served = Retriever.open(tmp_path / "wiki")
    assert served.collection
    follower = Follower("wiki", served.collection.refresh)
    (tmp_path / "wiki").rename(tmp_path / "away")
    wait(lambda: "wiki stays at its generation" in caplog.text)
    (tmp_path / "away").rename(tmp_path / "wiki")

    writer.add([Document("new", "a bridge")])
    wait(lambda: served.generation == writer.generation)
    assert [one.document_id for one in served.search("bridge")] == ["new"]
    follower.close()
    writer.remove("new")
    time.sleep(0.1)
    assert [one.document_id for one in served.search("bridge")] == ["new"]


def test_a_missing_shard_is_named_to_clients(start: Callable[..., Any], tmp_path: Path) -> None:
    made = Retriever.create(tmp_path / "wiki", None, shards=3)
    made.add([Document(str(number), f"a river {number}") for number in range(30)])
    (tmp_path / "wiki" / "shards" / "0001").rename(tmp_path / "lost")
    server = start("--index", str(tmp_path / "wiki"))
    refused = server.post("/indexes/wiki/search", {"query": "river"})
    assert refused.status_code == 503
    assert refused.json()["error"]["message"].startswith("wiki: shard 1 cannot be read")
    answer = server.post("/indexes/wiki/search", {"query": "river", "k": 30, "partial": True}).json()
    assert answer["missing_shards"] == [1] and 10 < len(answer["results"]) < 30
