"""Shards built on a Ray cluster of three nodes on this machine, whose workers, nodes and drivers die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flatcoat import Document, Retriever
from flatcoat.indexing.collection.folder import folder_at
from flatcoat.indexing.collection.manifest import latest
from flatcoat.indexing.vectors import Vectors

from .. import folders
from ..folders import HashEncoder
from .test_update import answers, documents, rows_file

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SHARDS = 6


class Deadly(HashEncoder):
    """Encodes, and once ends (or stops) its process in the middle of ``where``: add, compact or publish."""

    def __init__(self, where: str, marker: Path, what: int = signal.SIGKILL) -> None:
        super().__init__("colbert")
        self.where, self.marker, self.what = where, marker, what

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if self.where == "add":
            self.strike()
        if self.where in ("compact", "publish"):
            self.lay_in_wait()
        return super().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return HashEncoder.encode_documents(self, texts)

    def strike(self) -> None:
        try:
            self.marker.touch(exist_ok=False)
        except FileExistsError:
            return
        self.marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), self.what)

    def lay_in_wait(self) -> None:
        """In a worker: strike inside a merge of segments, or between the upload and the return."""
        from flatcoat.indexing.store import compaction
        from flatcoat.retrieval.distributed import build

        if self.where == "compact":
            merge = compaction.SegmentMerge.merge

            def struck(*arguments: Any, **options: Any) -> None:
                merge(*arguments, **options)
                self.strike()

            compaction.SegmentMerge.merge = struck  # type: ignore[method-assign]
        else:
            publish = build.publish

            def published(*arguments: Any, **options: Any) -> Any:
                version = publish(*arguments, **options)
                self.strike()
                return version

            build.publish = published


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    for module in (folders, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    os.environ["RAY_DEDUP_LOGS"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("without ray")
    many = Retriever.create(folder / "wiki", HashEncoder("colbert"), shards=SHARDS)
    many.add_files(rows_file(folder / "rows.jsonl", documents(60)))
    return answers(many)


def build(tmp_path: Path, encoder: HashEncoder, those: Sequence[Document]) -> Retriever:
    many = Retriever.create(tmp_path / "wiki", encoder, shards=SHARDS)
    many.add_files(rows_file(tmp_path / "rows.jsonl", those), ray="auto")
    return many


def require_whole(many: Retriever, those: Sequence[Document]) -> None:
    """Nothing is lost, nothing is there twice, and all of it is sound."""
    assert sorted(one.id for one in many.documents()) == sorted(one.id for one in those)
    assert many.info().passages == many.info().documents == len(those)
    assert many.collection and many.collection.verify() == []
    assert many.collection.folder.names("parts") == []


def test_a_build_on_ray_is_the_build_without(cluster: Any, tmp_path: Path, expected: list[Any]) -> None:
    many = build(tmp_path, HashEncoder("colbert"), documents(60))
    require_whole(many, documents(60))
    assert answers(many) == expected
    generation = latest(folder_at(tmp_path / "wiki")).generation
    assert many.add_files(tmp_path / "rows.jsonl", ray="auto").unchanged == 60
    assert latest(folder_at(tmp_path / "wiki")).generation == generation


@pytest.mark.parametrize("where", ["add", "compact", "publish"])
def test_a_worker_that_is_killed_is_replaced(
    cluster: Any, tmp_path: Path, expected: list[Any], where: str
) -> None:
    many = build(tmp_path, Deadly(where, tmp_path / "marker"), documents(60))
    assert (tmp_path / "marker").exists()
    require_whole(many, documents(60))
    assert answers(many) == expected
    versions = sum(len(os.listdir(folder)) for folder in (tmp_path / "wiki" / "shards").iterdir())  # noqa: PTH208
    assert versions == SHARDS + (where == "publish")  # What was uploaded in vain is an orphan.


def test_an_attempt_that_wakes_after_its_retry_changes_nothing(
    cluster: Any, tmp_path: Path, expected: list[Any]
) -> None:
    """A worker is stopped, its node is lost, another node does its work, and then the worker goes on."""
    marker = tmp_path / "marker"
    many = Retriever.create(tmp_path / "wiki", Deadly("add", marker, signal.SIGSTOP), shards=SHARDS)

    def lose() -> None:
        while not (marker.exists() and marker.read_text()):
            time.sleep(0.05)
        stopped = int(marker.read_text())
        lost = [node for node in cluster.list_all_nodes() if _is_child(stopped, node)]
        assert len(lost) == 1
        cluster.remove_node(lost[0], allow_graceful=False)

    thread = Thread(target=lose)
    thread.start()
    many.add_files(rows_file(tmp_path / "rows.jsonl", documents(60)), ray="auto")
    thread.join()
    cluster.add_node(num_cpus=1)
    before = latest(folder_at(tmp_path / "wiki"))
    stopped = int(marker.read_text())
    if _lives(stopped):
        os.kill(stopped, signal.SIGCONT)
        time.sleep(5)
    assert latest(folder_at(tmp_path / "wiki")) == before
    require_whole(many, documents(60))
    assert answers(many) == answers(Retriever.open(tmp_path / "wiki", HashEncoder("colbert"))) == expected


def _is_child(pid: int, node: Any) -> bool:
    raylets = {info.process.pid for infos in node.all_processes.values() for info in infos}
    parent = pid
    while parent > 1 and _lives(parent):
        parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        if parent in raylets:
            return True
    return False


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_one_shard_with_most_documents_holds_up_no_other(cluster: Any, tmp_path: Path) -> None:
    from flatcoat.indexing.collection.manifest import shard_of

    skewed = documents(20)
    candidates = (f"extra {number}" for number in range(100_000))
    large = [id for id in candidates if shard_of(id, SHARDS) == 0][:400]
    skewed += [Document(id, f"one of many cats {id}") for id in large]
    many = build(tmp_path, HashEncoder("colbert"), skewed)
    require_whole(many, skewed)


DRIVER = """
import os, sys
from pathlib import Path
import ray
from ray import cloudpickle
folder, after, address = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
from flatcoat import Retriever
from flatcoat.retrieval.distributed import update
encoder = cloudpickle.loads((folder / "encoder").read_bytes())
update.COMMIT_SECONDS = 0
commit, count = update.CollectionUpdate._commit, [0]
def counted(self):
    built = len(self._uncommitted)
    commit(self)
    count[0] += built
    if count[0] >= after:
        os._exit(9)
update.CollectionUpdate._commit = counted
Retriever.open(folder / "wiki", encoder).add_files(folder / "rows.jsonl", ray=address)
"""


@pytest.mark.parametrize("after", [1, SHARDS // 2, SHARDS - 1])
def test_a_driver_that_dies_goes_on_where_it_was(
    cluster: Any, tmp_path: Path, expected: list[Any], after: int
) -> None:
    from ray import cloudpickle

    encoder = HashEncoder("colbert")
    many = Retriever.create(tmp_path / "wiki", encoder, shards=SHARDS)
    rows = rows_file(tmp_path / "rows.jsonl", documents(60))
    (tmp_path / "encoder").write_bytes(cloudpickle.dumps(encoder))
    arguments = [sys.executable, "-c", DRIVER, str(tmp_path), str(after), cluster.address]
    assert subprocess.run(arguments, check=False, timeout=300).returncode == 9
    manifest = latest(folder_at(tmp_path / "wiki"))
    assert len(manifest.versions) == after
    many = Retriever.open(tmp_path / "wiki", encoder)
    added = many.add_files(rows, ray="auto")
    kept = json.loads((tmp_path / "wiki" / manifest.name).read_bytes())["versions"]
    assert added.unchanged >= sum(version[1] for version in kept.values())
    assert answers(many) == expected and many.info().documents == 60
    for shard, version in manifest.versions.items():
        assert latest(folder_at(tmp_path / "wiki")).versions[shard] == version
