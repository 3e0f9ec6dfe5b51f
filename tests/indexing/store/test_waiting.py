"""Nobody waits for a stopped reader, a stopped writer or ``verify``; at rest one file is left."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.store import schema, verify
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, passages

PATIENCE_S = 1.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "my.index", {}) as store:
        add(store, "first")
        yield store


def add(store: Store, *names: str) -> None:
    with store.writer() as writer:
        for name in names:
            writer.add(passages(name, 3), dense(passages(name, 3)))
            writer.commit()


@contextmanager
def child(work: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """Run ``work`` in a fork, and go on once it called what it is given; killed in the end."""
    ready, call = os.pipe()
    pid = os.fork()
    if pid == 0:
        work(lambda: os.write(call, b"x") and None)
        os._exit(0)
    os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(call)


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_reader_that_was_stopped_in_its_transaction_holds_up_nobody(store: Store) -> None:
    path = store.path
    store.close()

    def read(ready: Callable[[], None]) -> None:
        with Store.open(path) as reader, reader._reading() as connection:
            connection.execute("SELECT count(*) FROM documents").fetchone()
            ready()
            time.sleep(600)

    with child(read) as pid:
        os.kill(pid, signal.SIGSTOP)
        with Store.open(path) as store:
            for number in range(20):
                assert timed(lambda number=number: add(store, f"d{number}")) < PATIENCE_S
                assert timed(lambda: Store.open(path).close()) < PATIENCE_S
            assert len(contents(store)) == 21
            assert store.verify() == []
    with Store.open(path) as store:
        assert len(contents(store)) == 21


def test_a_writer_that_was_stopped_anywhere_in_a_commit_holds_up_no_reader(store: Store) -> None:
    path = store.path
    store.close()
    drawn = random.Random(0)

    def write(ready: Callable[[], None]) -> None:
        with Store.open(path) as store, store.writer() as writer:
            ready()
            for number in range(10_000):
                name = f"d{number % 7}"
                writer.add(passages(name, 40, content=number), dense(passages(name, 40, content=number)))
                writer.commit()

    with child(write) as pid:
        waits = []
        for _ in range(60):
            time.sleep(drawn.uniform(0, 0.03))
            os.kill(pid, signal.SIGSTOP)

            def read() -> None:
                with Store.open(path) as reader:
                    assert contents(reader)["first"] == passages("first", 3)
                    assert len(reader.snapshot()) >= 3

            waits.append(timed(read))
            os.kill(pid, signal.SIGCONT)
    assert max(waits) < PATIENCE_S
    with Store.open(path) as store:
        assert store.verify() == []


def test_verify_holds_up_no_writer_and_is_not_led_astray_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer takes away the files that are being checked."""
    add(store, "second", "third")
    checksum = verify.checksum
    is_checking, is_written = threading.Event(), threading.Event()

    def slow(path: Path) -> str:
        is_checking.set()
        assert is_written.wait(60)
        return checksum(path)

    monkeypatch.setattr(verify, "checksum", slow)
    found: list[str] = []
    checking = threading.Thread(target=lambda: found.extend(store.verify()))
    checking.start()
    assert is_checking.wait(60)
    with Store.open(store.path) as other:
        for number in range(20):
            assert timed(lambda number=number: add(other, f"d{number % 2}")) < PATIENCE_S
        assert timed(other.compact) < PATIENCE_S
    assert checking.is_alive()
    is_written.set()
    checking.join()
    assert found == []


def test_threads_search_beside_commits(store: Store) -> None:
    """Files go between the reading of their names and their opening: the reader looks again."""
    failures: list[BaseException] = []
    done = threading.Event()
    searches = [0] * 4

    def search(number: int) -> None:
        try:
            with Store.open(store.path) as own:
                reader = own if number % 2 else store
                while not done.is_set():
                    hits = reader.of_one_state(
                        lambda: reader.passages(reader.index().search(dense(passages("first")), 5)[0].ids)
                    )
                    assert hits[0].document_id == "first"
                    assert reader.bm25("first", 1).ids
                    searches[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with Store.open(store.path) as other:
        for number in range(40):
            add(other, f"d{number % 5}")
            if number % 4 == 0:
                other.compact()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(searches) > 3
    assert store.verify() == []


def test_at_rest_an_index_is_one_database_file(store: Store) -> None:
    add(store, "second")
    with Store.open(store.path) as other:
        assert len(contents(other)) == 2
    store.close()
    assert {path.name for path in store.path.iterdir()} == {"index.sqlite", "segments", "writer.lock"}


def test_a_store_that_nobody_closed_leaves_one_file_too(store: Store) -> None:
    path = store.path
    store.close()
    Store.open(path).stats()
    assert not list(path.glob("index.sqlite-*"))


def test_a_killed_writers_commits_are_there_for_the_next_who_comes(store: Store) -> None:
    path = store.path
    store.close()

    def write(ready: Callable[[], None]) -> None:
        with Store.open(path) as store:
            add(store, "second")
            with store.writer() as writer:
                writer.add(passages("third"), dense(passages("third")))
                writer.commit()
                ready()
                time.sleep(600)

    with child(write):
        pass
    assert (path / "index.sqlite-wal").stat().st_size
    with Store.open(path) as store:
        assert set(contents(store)) == {"first", "second", "third"}
        assert store.verify() == []
        add(store, "fourth")
    assert not list(path.glob("index.sqlite-*"))


def test_who_holds_the_database_is_told_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.indexing.store.database._WAIT_S", 0.1)
    with closing(sqlite3.connect(store.path / schema.DATABASE, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(FlatcoatError, match="locked: another program holds it, such as a shell"):
            add(store, "second")
        assert len(contents(store)) == 1
    add(store, "second")


def test_an_update_keeps_the_files_that_a_committed_state_names(store: Store) -> None:
    """Whatever fails after a merge: what it took the place of is there until its commit."""
    add(store, "second")
    with store.writer() as writer:
        from flatcoat.indexing.store import compaction

        with writer._all_or_nothing():
            compaction.compact(writer._connection, writer._snapshots, full=True, budget=1 << 30)
        with pytest.raises(FlatcoatError):
            writer.add(passages("third"), np.full((1, 4), np.nan))
        assert store.verify() == []
        assert len(contents(store)) == 2
    assert store.verify() == []


def test_memory_of_a_removal_does_not_grow_with_what_is_removed(tmp_path: Path) -> None:
    grown = {}
    for count in (2_000, 16_000):
        path = tmp_path / str(count)
        ids = [f"{number:06d}" for number in range(count)]
        with Store.create(path, {}) as store, store.writer() as writer:
            batch = [passages(id)[0] for id in ids]
            writer.add(batch, np.ones((count, 4), np.float32))

        def remove(ready: Callable[[], None], path: Path = path, ids: list[str] = ids) -> None:
            with Store.open(path) as store, store.writer() as writer:
                before = _anonymous_kib()
                assert writer.remove(ids) == len(ids)
                (path / "grown").write_text(str(_anonymous_kib() - before))
            ready()

        with child(remove):
            grown[count] = int((path / "grown").read_text())
    assert grown[16_000] < grown[2_000] + 2_000


def _anonymous_kib() -> int:
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])
