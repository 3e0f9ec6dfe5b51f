"""A writer killed at any of its steps leaves the last commit whole, and the next write succeeds."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from flatcoat.indexing import schema
from flatcoat.indexing.store import Store

from .corpus import passages, vectors

FIRST = {"a": 2, "b": 1}
COMMITS = [FIRST, {"a": 3, "b": 1, "c": 1}, {"a": 3, "d": 2}]
"""Passages of each document after each commit of ``change``."""


def change(path: Path) -> None:
    """Two commits: a replacement with an addition, then a removal with an addition; old segments go."""
    with Store.open(path) as store, store.writer() as writer:
        batch = passages("a", 3, content=1) + passages("c")
        writer.add(batch, vectors(batch))
        writer.commit()
        writer.remove(["b", "c"])
        writer.add(passages("d", 2), vectors(passages("d", 2)))


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make step number ``step`` a SIGKILL; steps are SQL statements, fsyncs and changes of names."""
    count = 0

    def tick(*_: object) -> None:
        nonlocal count
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def ticking(function: Callable) -> Callable:
        def wrapper(*arguments, **options):
            tick()
            result = function(*arguments, **options)
            tick()
            return result

        return wrapper

    connect = schema.connect

    def traced(database: Path) -> sqlite3.Connection:
        connection = connect(database)
        connection.set_trace_callback(tick)
        return connection

    monkeypatch.setattr(schema, "connect", traced)
    monkeypatch.setattr(os, "fsync", ticking(os.fsync))
    monkeypatch.setattr(Path, "unlink", ticking(Path.unlink))
    monkeypatch.setattr(Path, "replace", ticking(Path.replace))
    monkeypatch.setattr(Path, "mkdir", ticking(Path.mkdir))


def in_child(work: Callable[[], None], step: int) -> bool:
    """Run ``work`` in a forked child that is killed at ``step``; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                kill_at(step, patch)
                work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def contents(store: Store) -> dict[str, int]:
    held: dict[str, int] = {}
    for passage in store.passages(store.snapshot().rows):
        held[passage.document_id] = held.get(passage.document_id, 0) + 1
    return held


def test_a_write_killed_at_any_step(tmp_path: Path) -> None:
    seen = []
    with Store.create(tmp_path / "before", {}) as store, store.writer() as writer:
        batch = passages("a", 2) + passages("b")
        writer.add(batch, vectors(batch))
    for step in range(1_000):
        path = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", path)
        finished = in_child(lambda path=path: change(path), step)
        with Store.open(path) as store:
            seen.append(COMMITS.index(contents(store)))
            assert store.verify() == []
            with store.writer() as writer:
                writer.add(passages("z"), vectors(passages("z")))
            assert contents(store) == COMMITS[seen[-1]] | {"z": 1}
            assert len(list((path / "segments").iterdir())) == 2 * store.stats().segments
            assert store.verify() == []
        if finished:
            break
    assert finished
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2}
    assert len(seen) > 60


def test_a_creation_killed_at_any_step(tmp_path: Path) -> None:
    for step in range(200):
        path = tmp_path / str(step)
        finished = in_child(lambda path=path: Store.create(path, {"by": "child"}).close(), step)
        if (path / "index.sqlite").exists():
            store = Store.open(path)
            assert store.contract == {"by": "child"}
        else:
            store = Store.create(path, {"by": "parent"})
        with store, store.writer() as writer:
            writer.add(passages("a"), vectors(passages("a")))
        if finished:
            break
    assert finished
    assert step > 10


def test_a_commit_killed_between_its_page_writes(tmp_path: Path) -> None:
    """A hot journal is rolled back: pages that a torn commit left in the database are undone."""
    path = tmp_path / "index"
    with Store.create(path, {}) as store, store.writer() as writer:
        writer.add(passages("a"), vectors(passages("a")))
    before = (path / "index.sqlite").read_bytes()

    def spill() -> None:
        connection = schema.connect(path / "index.sqlite")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        for row in range(5_000):
            connection.execute("UPDATE documents SET title = ? WHERE id = 'a'", ("x" * (row % 4_000 * 10),))
            if (path / "index.sqlite").read_bytes() != before:
                os.kill(os.getpid(), signal.SIGKILL)

    assert not in_child(spill, -1)
    assert (path / "index.sqlite-journal").exists()
    assert (path / "index.sqlite").read_bytes() != before
    with Store.open(path) as store:
        assert store.verify() == []
        assert store.passages(store.rows_where([])) == passages("a")
