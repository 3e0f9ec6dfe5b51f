"""A collection served on a Ray cluster of three nodes on this machine, whose replicas die under load."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from flatcoat import Document, Retriever, StorageError
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.retrieval.distributed import ray_serve
from flatcoat.retrieval.serving import cluster as serving

from ..folders import HashEncoder
from .test_update import answers, documents

ray = pytest.importorskip("ray")
pytest.importorskip("ray.serve")
pytestmark = pytest.mark.slow


class Encoder(HashEncoder):
    """One that searches nowhere but here."""

    def __init__(self) -> None:
        super().__init__("colbert")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    from ray import serve

    serve.shutdown()
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def made(tmp_path: Path) -> Retriever:
    many = Retriever.create(tmp_path / "wiki", Encoder(), shards=4)
    many.add(documents(60))
    return many


class Load:
    """Questions one after the other, in a thread, until it is told to end."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.answers: list[Any] = []
        self.errors: list[Exception] = []
        self._ended = Event()
        self._ask = ask
        self._thread = Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.answers.append(self._ask())
            except Exception as error:
                self.errors.append(error)
            time.sleep(0.05)


def replicas_of(collection: ShardCollection) -> dict[str, list[int]]:
    """The processes of the replicas of each group, by their titles."""
    prefix = f"flatcoat-{collection.key}-{collection.generation}-"
    found: dict[str, list[int]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                title = (process / "cmdline").read_text(errors="replace")
                if title.startswith("ray::") and prefix in title:
                    group = title.partition(prefix)[2][:1]
                    found.setdefault(group, []).append(int(process.name))
    return found


def test_replicas_die_and_questions_are_answered(cluster: Any, made: Retriever) -> None:
    assert made.collection
    shards = ray_serve.serve_shards(made.collection, "auto", replicas=2, groups=2)
    served = Retriever(made.collection, Encoder(), shards=shards)
    assert answers(served) == answers(made)
    assert served.search(where="part=1", k=4) == made.search(where="part=1", k=4)
    groups = replicas_of(made.collection)
    assert sorted(map(len, groups.values())) == [2, 2]
    with Load(lambda: served.search("cat at the river", 10)) as load:
        time.sleep(1)
        os.kill(next(iter(groups.values()))[0], signal.SIGKILL)
        time.sleep(8)
    print(f"{len(load.answers)} answers, {len(load.errors)} errors")
    assert load.errors == [] and len(load.answers) > 10
    assert all(answer == load.answers[0] for answer in load.answers)
    ray_serve.stop_serving(made.collection)


def test_a_group_that_is_gone_is_named(
    cluster: Any, made: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.collection
    monkeypatch.setattr(ray_serve, "SECONDS", 2.0)
    shards = ray_serve.serve_shards(made.collection, "auto", replicas=2, groups=4)
    served = Retriever(made.collection, Encoder(), shards=shards)
    assert answers(served) == answers(made)
    from ray import serve

    serve.delete(f"flatcoat-{made.collection.key}-{made.collection.generation}-2")
    with pytest.raises(StorageError, match="no replica of shard 2 answers"):
        served.search("cat at the river", 10)
    ray_serve.stop_serving(made.collection)


class Index:
    """What of a served index is followed."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.model = retriever, Encoder()


def test_a_new_generation_takes_over_under_load(
    cluster: Any, made: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.collection
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(serving, "GRACE_SECONDS", 1.0)
    index = Index(made)
    followed = serving.ClusterIndex(index, "auto", replicas=1)  # type: ignore[arg-type]
    writer = Retriever.open(made.path, Encoder())

    def ask() -> list[tuple[str, str]]:
        results = index.retriever.search("version", 10, mode="bm25")
        return [(result.document_id, result.text) for result in results]

    writer.add([Document(f"v{n}", f"version one {n}") for n in range(8)])
    with Load(ask) as load:
        _wait(lambda: bool(load.answers and load.answers[-1]))
        writer.add([Document(f"v{n}", f"version two {n}") for n in range(8)])
        _wait(lambda: any("two" in text for _, text in load.answers[-1]))
        time.sleep(3)
    followed.close()
    assert load.errors == []
    kinds = [{text.split()[1] for _, text in answer} for answer in load.answers]
    assert {frozenset(kind) for kind in kinds} <= {frozenset(), frozenset({"one"}), frozenset({"two"})}
    assert frozenset({"two"}) in map(frozenset, kinds) and {"one"} in kinds
    assert index.retriever.collection
    ray_serve.stop_serving(index.retriever.collection)


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 180
    while not until():
        assert time.monotonic() < end
        time.sleep(0.1)
