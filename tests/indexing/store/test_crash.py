"""A writer killed at any change to the disk leaves the last commit whole, and the next write succeeds."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from flatcoat.indexing import segments
from flatcoat.indexing.store import compaction, schema
from flatcoat.indexing.store.database import connect_to_write
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, error, passages, vectors
from .killing import changes_before_death

PLAID, FAISS = EngineSettings("plaid"), EngineSettings("faiss")
CODING_LOSES = 0.1
"""Of mean squares at most: a codec of few vectors is a poor one."""


@pytest.fixture(params=[3, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def every(request: pytest.FixtureRequest) -> int:
    """At how many of the changes to kill: one in so many."""
    return request.param


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where possible: a kill does not ask how slow the disk is."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def add(store: Store, **counts: int) -> None:
    """Add documents of so many passages, one batch."""
    batch = [passage for name, count in counts.items() for passage in passages(name, count)]
    with store.writer() as writer:
        writer.add(batch, dense(batch) if store.engine.name == "faiss" else vectors(batch))


def counts(store: Store) -> dict[str, int]:
    return {name: len(found) for name, found in contents(store).items()}


def check(store: Store) -> None:
    """Everything is there, is what it was, and nothing else is."""
    assert store.verify() == []
    assert error(store) <= (CODING_LOSES if store.stats().engine == "plaid" else 0)
    with store._reading() as connection:
        named = {name for (name,) in connection.execute("SELECT name FROM files")}
    assert {path.name for path in (store.path / schema.SEGMENTS).iterdir()} == named


def kill_everywhere(folder: Path, work: Callable[[Store], None], every: int) -> list[tuple]:
    """Kill ``work`` at one in ``every`` of its changes to ``folder / "before"``.

    Returns what it left behind, in order and each once: passages of each document, engine and segments.
    """

    def change(path: Path) -> None:
        with Store.open(path) as store:
            work(store)

    def copy(name: str) -> Path:
        return shutil.copytree(folder / "before", folder / name)

    change(copy("here"))  # What it imports and compiles is there for all the children.
    whole = copy("whole")
    changes = changes_before_death(lambda: change(whole))
    left = []
    for step in [*range(0, changes, every), changes]:
        path = copy(str(step))
        assert changes_before_death(lambda path=path: change(path), step) == step
        with Store.open(path) as store:
            found = counts(store), store.stats().engine, store.stats().segments
            assert store.verify() == []
            add(store, z=1)
            assert counts(store) == found[0] | {"z": 1}
            check(store)
        shutil.rmtree(path)
        left += [] if left and left[-1] == found else [found]
    return left


def test_adding_and_removing(folder: Path, every: int) -> None:
    """Two commits: a replacement with an addition, then a removal with an addition; old segments go."""

    def change(store: Store) -> None:
        with store.writer() as writer:
            batch = passages("a", 3, content=1) + passages("c")
            writer.add(batch, vectors(batch))
            writer.commit()
            writer.remove(["b", "c"])
            writer.add(passages("d", 2), vectors(passages("d", 2)))

    with Store.create(folder / "before", {}) as store:
        add(store, a=2, b=1)
    left = kill_everywhere(folder, change, every)
    wanted = [{"a": 2, "b": 1}, {"a": 3, "b": 1, "c": 1}, {"a": 3, "d": 2}]
    assert left == [(found, "exact", number) for found, number in zip(wanted, (1, 2, 2), strict=True)]


def test_adding_coded_vectors(folder: Path, every: int) -> None:
    with Store.create(folder / "before", {}, engine=PLAID) as store:
        add(store, a=20, b=1)
        store.compact()
    left = kill_everywhere(folder, lambda store: add(store, b=2), every)
    assert left == [({"a": 20, "b": 1}, "plaid", 1), ({"a": 20, "b": 2}, "plaid", 2)]


def test_the_first_coding(folder: Path, every: int) -> None:
    with Store.create(folder / "before", {}, engine=PLAID) as store:
        add(store, a=20)
        add(store, b=9, c=1)
        with store.writer() as writer:
            writer.remove(["c"])
    left = kill_everywhere(folder, Store.compact, every)
    assert left == [({"a": 20, "b": 9}, "exact", 2), ({"a": 20, "b": 9}, "plaid", 1)]


def test_a_merge(folder: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 8)
    with Store.create(folder / "before", {}, engine=PLAID) as store:
        add(store, a=20)
        store.compact()
        add(store, b=9, c=1)
        with store.writer() as writer:
            writer.remove(["c"])
    left = kill_everywhere(folder, Store.compact, every)
    assert left == [({"a": 20, "b": 9}, "plaid", number) for number in (2, 1)]


def test_a_retraining(folder: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(folder / "before", {}, engine=PLAID) as store:
        add(store, a=20)
        store.compact()
        add(store, b=9)
    monkeypatch.setattr(compaction, "RETRAIN_AT", 1)
    left = kill_everywhere(folder, Store.compact, every)
    assert left == [({"a": 20, "b": 9}, "plaid", number) for number in (2, 1)]


def test_indexing_with_faiss(folder: Path, every: int) -> None:
    import faiss

    def compact(store: Store) -> None:
        faiss.omp_set_num_threads(1)  # A forked child has none of OpenMP's threads.
        store.compact()

    with Store.create(folder / "before", {}, engine=FAISS) as store:
        add(store, a=20)
        compact(store)
        add(store, b=9)
    left = kill_everywhere(folder, compact, every)
    assert left == [({"a": 20, "b": 9}, "faiss", number) for number in (2, 1)]


def test_a_creation(folder: Path) -> None:
    for step in range(200):
        path = folder / str(step)
        made = changes_before_death(lambda path=path: Store.create(path, {"by": "child"}).close(), step)
        if (path / schema.DATABASE).exists():
            store = Store.open(path)
            assert store.contract == {"by": "child"}
        else:
            store = Store.create(path, {"by": "parent"})
        with store:
            add(store, a=1)
        if made < step:
            break
    assert 10 < made < step


def test_a_commit_between_its_page_writes(folder: Path) -> None:
    """What a large transaction wrote to the log before it was killed does not count."""
    path = folder / "index"
    with Store.create(path, {}) as store:
        add(store, a=1)
    log = path / f"{schema.DATABASE}-wal"

    def spill() -> None:
        connection = connect_to_write(path)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        for row in range(5_000):
            connection.execute("UPDATE documents SET title = ? WHERE id = 'a'", ("x" * (row % 4_000 * 10),))
            if log.stat().st_size > 20_000:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        spill()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert log.stat().st_size > 20_000
    with Store.open(path) as store:
        assert store.verify() == []
        assert store.passages(store.rows_where([])) == passages("a")
