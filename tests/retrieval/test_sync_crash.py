"""A sync that is cut off anywhere: the next one ends with what a fresh index of the same files holds."""

import errno
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from select import select
from shutil import copytree
from tempfile import TemporaryDirectory

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing import calibration, compaction
from flatcoat.retrieval import adding

from ..indexing.killing import changes_before_death
from .folders import Sources, let_files_settle

ENGINES = {"exact": "dense", "plaid": "colbert", "faiss": "dense"}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory where possible: a kill does not ask how slow the disk is. Batches and merges are small."""
    monkeypatch.setattr(adding, "BATCH", 2)
    monkeypatch.setattr(calibration, "THOROUGH", 8)
    monkeypatch.setattr(compaction, "RETRAIN_AT", 2)
    let_files_settle(monkeypatch)
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


class Kills:
    """Works of a child that is killed somewhere, and how many of them were."""

    def __init__(self, sources: Sources, random: Random) -> None:
        self._sources, self._random = sources, random
        self._length = 300
        self.killed = self.ended = 0

    def once(self, index: Path) -> None:
        """One piece of work, cut off at a change that is as likely as any other."""
        kill_at = self._random.randrange(self._length)
        made = changes_before_death(partial(self._random.choice(self._works()), index), kill_at)
        if made == kill_at:
            self.killed += 1
        else:
            self.ended += 1
            self._length = max(10, made)

    def _works(self) -> list[Callable[[Path], None]]:
        return [self._sync] * 7 + [self._sync_and_compact, self._remove_and_sync, self._sync_part]

    def _sync(self, index: Path) -> None:
        _one_thread()
        self._sources.sync(index)

    def _sync_and_compact(self, index: Path) -> None:
        self._sync(index)
        retriever = self._sources.open(index)
        retriever.compact()
        retriever.close()

    def _remove_and_sync(self, index: Path) -> None:
        retriever = self._sources.open(index)
        retriever.remove(list(self._sources.contents(index))[::3])
        retriever.close()
        self._sync(index)

    def _sync_part(self, index: Path) -> None:
        _one_thread()
        retriever = self._sources.open(index)
        if retriever.info().documents:  # Or what comes first alone has the shorter ids.
            retriever.add_files(self._sources.roots[0])
        retriever.close()


def _one_thread() -> None:
    import faiss

    faiss.omp_set_num_threads(1)  # A forked child has none of OpenMP's threads.


def run_script(place: Path, seed: int, engine: str, rounds: int) -> Kills:
    """Changes and cut syncs, one to four of them, then a whole one, so many times."""
    random = Random(seed)
    sources = Sources(place, random, ENGINES[engine], engine)
    index = place / "index"
    sources.create(index)
    kills = Kills(sources, random)
    for _ in range(rounds):
        for _ in range(random.randrange(1, 5)):
            sources.change()
            kills.once(index)
        sources.change()
        sources.sync(index)
        sources.require_synced(index)
    return kills


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(2))
def test_syncs_that_are_killed_anywhere(place: Path, engine: str, seed: int) -> None:
    run_script(place, seed, engine, rounds=4)


@contextmanager
def searching(index: Path, sources: Sources) -> Iterator[None]:
    """Another process searches all the while, and never meets an error."""
    reading, writing = os.pipe()
    stop, stopping = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stopping)
        _search_until(stop, writing, index, sources)
    os.close(writing)
    os.close(stop)
    try:
        yield
    finally:
        os.close(stopping)
        with os.fdopen(reading) as said:
            told = said.read()
        os.waitpid(child, 0)
        print("reader:", told)
    assert told.startswith("searches"), told


def _search_until(stop: int, told: int, index: Path, sources: Sources) -> None:
    try:
        _one_thread()
        number, slowest = 0, 0.0
        while not select([stop], [], [], 0)[0]:
            retriever = sources.open(index)
            for mode in ("bm25", "vectors", "hybrid") * 5:
                began = time.monotonic()
                retriever.search(f"content{number % 40:03d} words", mode=mode)  # type: ignore[arg-type]
                slowest = max(slowest, time.monotonic() - began)
                number += 1
            retriever.close()
        os.write(told, f"searches {number}, slowest {slowest:.2f} s".encode())
    except BaseException:
        os.write(told, traceback.format_exc()[-8_000:].encode())
    finally:
        os._exit(0)


def test_searches_beside_syncs_that_are_killed(place: Path) -> None:
    random = Random(7)
    sources = Sources(place, random)
    sources.create(index := place / "index")
    kills = Kills(sources, random)
    with searching(index, sources):
        for _ in range(6):
            kills.once(index)
            sources.change()
            sources.sync(index)
    sources.require_synced(index)
