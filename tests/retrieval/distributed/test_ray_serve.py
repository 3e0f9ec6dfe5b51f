"""A collection served on a Ray cluster of three nodes on this machine, whose replicas die under load."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from flatcoat import Document, Retriever
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.collection.manifest import shard_of
from flatcoat.retrieval.distributed import ray_serve
from flatcoat.retrieval.serving import cluster as serving
from flatcoat.retrieval.shard import MissingShards

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
    """Questions one after the other, in each of some threads, until it is told to end."""

    def __init__(self, ask: Callable[[], Any], *, threads: int = 1) -> None:
        self.answers: list[Any] = []
        self.errors: list[Exception] = []
        self._ended = Event()
        self._ask = ask
        self._threads = [Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

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
    with Load(lambda: served.search("cat at the river", 10), threads=3) as load:
        time.sleep(1)
        os.kill(next(iter(groups.values()))[0], signal.SIGKILL)
        time.sleep(8)
    print(f"{len(load.answers)} answers, {len(load.errors)} errors")
    assert load.errors == [] and len(load.answers) > 10
    assert all(answer == load.answers[0] for answer in load.answers)
    ray_serve.stop_serving(made.collection)


def test_shards_without_a_replica_are_named_until_one_is_back(
    cluster: Any, made: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.collection
    monkeypatch.setattr(ray_serve, "PARTIAL_SECONDS", 3.0)
    shards = ray_serve.serve_shards(made.collection, "auto", replicas=2, groups=2)
    whole = Retriever(made.collection, Encoder(), shards=shards).search("cat at the river", 60)
    impatient = [replace(group, seconds=5.0) for group in shards.groups]
    served = Retriever(
        made.collection, Encoder(), shards=ray_serve.ServedShards(made.collection.path, impatient)
    )
    gone = shards.members[1].numbers
    with (
        Load(lambda: served.search("cat at the river", 60)) as load,
        Load(lambda: served.search("cat at the river", 60, partial=True)) as lenient,
    ):
        for replica in replicas_of(made.collection)["1"]:
            os.kill(replica, signal.SIGKILL)
        _wait(lambda: bool(load.errors))
        _wait(lambda: any(answer.missing_shards for answer in lenient.answers))
        answered = len(load.answers)
        _wait(lambda: len(load.answers) > answered + 3)
    assert {error.numbers for error in load.errors if isinstance(error, MissingShards)} == {gone}
    assert all(f"no replica of shards {', '.join(map(str, sorted(gone)))}" in str(e) for e in load.errors)
    assert lenient.errors == [] and all(answer == whole for answer in load.answers)
    for answer in lenient.answers:
        lacking = {shard_of(one.document_id, 4) for one in answer}.isdisjoint(gone)
        assert (set(answer.missing_shards), lacking) in ((set(gone), True), (set(), False))
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
