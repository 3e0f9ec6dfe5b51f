"""A sync that is cut off anywhere: the next one ends with what a fresh index of the same files holds.

``pytest -m slow -s`` goes deeper, and prints how often what was cut off.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from select import select
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from flatcoat import FlatcoatError, Retriever
from flatcoat.indexing.store.engines import Name as Engine

from ..indexing.store.killing import changes_before_death
from .folders import ENGINES, Contents, Sources, one_thread, small_work


def slow(cases: Iterable[object]) -> list[Any]:
    """Cases for those who have the time."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with small_work(monkeypatch) as folder:
        yield folder


@pytest.fixture(params=[20, pytest.param(4, marks=pytest.mark.slow)], ids=["some", "more"])
def every(request: pytest.FixtureRequest) -> int:
    """At how many of the changes to kill: one in so many."""
    return request.param


class Encodings:
    """A first run whose texts are all in is cut off at one change after the other of its second step."""

    def __init__(self, place: Path, engine: Engine) -> None:
        self.sources = Sources(place, Random(3), engine)
        self.texts = place / "texts"
        self.sources.create(self.texts)
        self.sources.sync_texts(self.texts)

    def cut_off(self, index: Path, kill_at: int) -> tuple[int, int]:
        """The changes that were made, and how many passages have vectors then, which are all in order."""
        shutil.rmtree(index, ignore_errors=True)
        shutil.copytree(self.texts, index)
        made = changes_before_death(lambda: (one_thread(), self.sources.sync(index)), kill_at)
        assert self.sources.verify(index) == []
        encoded = self.sources.encoded(index)
        for mode in ("bm25", "vectors", "hybrid"):
            self.sources.search(index, mode)
        return made, encoded


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_step_that_is_killed_anywhere_goes_on(place: Path, engine: Engine, every: int) -> None:
    encodings = Encodings(place, engine)
    sources, index = encodings.sources, place / "index"
    all_encoded: list[int] = []
    for kill_at in range(0, 5_000, every):
        made, encoded = encodings.cut_off(index, kill_at)
        all_encoded.append(encoded)
        with closing(sources.open(index)) as retriever:
            added = retriever.add_files(*sources.roots)
            assert (added.documents, added.encoded) == (0, retriever.info().passages - encoded)
        sources.require_synced(index)
        if made < kill_at:
            break
    else:
        pytest.fail("the work did not come to its end")
    assert all_encoded == sorted(all_encoded)
    assert len(set(all_encoded)) > 3, "it is cut off between its batches"


class Kills:
    """Works of a child that is killed somewhere, and how many of them were."""

    def __init__(self, sources: Sources, random: Random) -> None:
        self._sources, self._random = sources, random
        self._lengths: dict[str, int] = {}
        self.killed = self.ended = 0

    def once(self, index: Path) -> None:
        """One piece of work, cut off at a change that is as likely as any other."""
        works = [self._sync] * 7 + [
            self._sync_part,
            self._sync_texts,
            self._refresh,
            self._remove_and_sync,
            self._sync_and_compact,
            self._compact,
        ]
        work = self._random.choice(works)
        kill_at = self._random.randrange(self._lengths.get(work.__name__, 200))
        made = changes_before_death(partial(work, index), kill_at)
        if made == kill_at:
            self.killed += 1
        else:
            self.ended += 1
            self._lengths[work.__name__] = max(10, made)

    def _sync(self, index: Path) -> None:
        one_thread()
        self._sources.sync(index)

    def _sync_texts(self, index: Path) -> None:
        one_thread()
        self._sources.sync_texts(index)

    def _refresh(self, index: Path) -> None:
        one_thread()
        retriever = self._sources.open(index)
        retriever.refresh(seconds=60)
        retriever.close()

    def _sync_and_compact(self, index: Path) -> None:
        self._sync(index)
        self._compact(index)

    def _compact(self, index: Path) -> None:
        one_thread()
        retriever = self._sources.open(index)
        retriever.compact()
        retriever.close()

    def _remove_and_sync(self, index: Path) -> None:
        retriever = self._sources.open(index)
        retriever.remove(list(self._sources.contents(index))[::3])
        retriever.close()
        self._sync(index)

    def _sync_part(self, index: Path) -> None:
        one_thread()
        retriever = self._sources.open(index)
        if retriever.info().documents:  # Or what comes first alone has the shorter ids.
            retriever.add_files(self._sources.roots[0])
        retriever.close()


def run_script(place: Path, seed: int, engine: Engine, rounds: int) -> Kills:
    """Changes and cut syncs, one to four of them, then a whole one, so many times."""
    random = Random(seed)
    sources = Sources(place, random, engine)
    index = place / "index"
    sources.create(index)
    kills = Kills(sources, random)
    for _ in range(rounds):
        for _ in range(random.randrange(1, 5)):
            sources.change()
            kills.once(index)
            assert sources.verify(index) == []
        sources.change()
        sources.sync(index)
        sources.require_synced(index)
    return kills


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", [0, *slow(range(1, 12))])
def test_syncs_that_are_killed_anywhere(place: Path, engine: Engine, seed: int) -> None:
    kills = run_script(place, seed, engine, rounds=4)
    print(f"{engine}: {kills.killed} runs killed, {kills.ended} came to their end")


@pytest.mark.parametrize("then", ["undone", *slow(["copied back", "copied on", "moved on"]), "gone"])
def test_a_rename_that_is_cut_off(place: Path, then: str, every: int) -> None:
    """Killed at one change after the other; then the file goes back, is copied there, or goes."""
    sources = Sources(place, Random(0))
    folder, index = sources.folder, place / "index"
    sources.create(index)
    new = [f"z{number}.txt" for number in range(5)]
    for kill_at in range(0, 2_000, every):
        folder.write("m.txt", 50)
        sources.sync(index)
        folder.move("m.txt", "0.txt")
        for name in new:
            folder.write(name, 51)
        made = changes_before_death(lambda: (one_thread(), sources.sync(index)), kill_at)
        if then == "undone":
            folder.move("0.txt", "m.txt")
        elif then == "copied back":
            folder.copy("0.txt", "m.txt")
        elif then == "copied on":
            folder.copy("0.txt", "1.txt")
        elif then == "moved on":
            folder.move("0.txt", "1.txt")
        else:
            folder.delete("0.txt")
        sources.sync(index)
        sources.require_synced(index)
        for name in [*new, "0.txt", "1.txt"]:
            if (folder.path / name).exists():
                folder.delete(name)
        if made < kill_at:
            break
    else:
        pytest.fail("the work did not come to its end")


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
        one_thread()
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


@pytest.fixture
def disk() -> Iterator["Disk"]:
    """A file system of a few mebibytes for the index alone, where root may mount one."""
    with TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
        if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", folder], check=True)


class Disk:
    """What the index stands on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, free: int) -> None:
        """Leave only so many bytes free, fewer where the index is written meanwhile."""
        found = os.statvfs(self.path)
        try:
            self._ballast.write_bytes(bytes(max(0, found.f_bavail * found.f_bsize - free)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        """Take out what filled it."""
        self._ballast.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As after an error of the hardware, or by hand."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)


def failed_sync(sources: Sources, index: Path, on_progress: Callable[[object], None]) -> bool:
    """Whether a sync failed, which it must do with one line."""
    try:
        with closing(sources.open(index)) as retriever:
            retriever.add_files(*sources.roots, on_progress=on_progress)
    except FlatcoatError as error:
        assert "\n" not in str(error)
        return True
    return False


def full_disks(place: Path, disk: Disk, seed: int, engine: Engine, rounds: int) -> int:
    """Syncs that a full disk cuts off, from their beginning or in the middle; returns how many failed."""
    random = Random(seed)
    sources = Sources(place, random, engine)
    index = disk.path / "index"
    sources.create(index)
    sources.sync(index)
    failed = 0
    for _ in range(rounds):
        for _ in range(random.randrange(1, 4)):
            sources.change()
            free, until_full = int(300_000 * random.random() ** 3), random.randrange(12)
            batches = count(1)

            def fill_up(
                _: object, free: int = free, full: int = until_full, batches: count = batches
            ) -> None:
                if next(batches) == full:
                    disk.fill(free)

            if not until_full:
                disk.fill(free)
            failed += failed_sync(sources, index, fill_up)
            assert sources.verify(index) == []
            sources.search(index, "bm25")
            disk.free()
        sources.sync(index)
        sources.require_synced(index)
    return failed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", [1, *slow(range(2, 10))])
def test_syncs_that_a_full_disk_cuts_off(place: Path, disk: Disk, engine: Engine, seed: int) -> None:
    failed = full_disks(place, disk, seed, engine, rounds=5)
    assert failed
    print(f"{engine}: {failed} syncs failed")


def read_only_disks(place: Path, disk: Disk, seed: int, rounds: int) -> int:
    """The disk turns read-only where a sync was killed; returns how often nothing could be read of it then.

    What is read is what the index holds, or an error of a line; what is written is such an error.
    """
    random = Random(seed)
    sources = Sources(place, random)
    index = disk.path / "index"
    sources.create(index)
    sources.sync(index)
    kills, unread = Kills(sources, random), 0
    for _ in range(rounds):
        sources.change()
        kills.once(index)
        with disk.read_only():
            found = _contents_or_error(sources, index)
            with pytest.raises(FlatcoatError) as raised:
                sources.sync(index)
            assert "\n" not in str(raised.value)
        assert found is None or found == sources.contents(index)
        unread += found is None
        sources.sync(index)
        with disk.read_only():  # At rest it must open.
            sources.search(index, "bm25")
            assert sources.verify(index) == []
        sources.require_synced(index)
    return unread


def _contents_or_error(sources: Sources, index: Path) -> Contents | None:
    try:
        return sources.contents(index)
    except FlatcoatError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("rounds", [6, *slow([50])])
def test_a_disk_that_turns_read_only_where_a_sync_was_killed(place: Path, disk: Disk, rounds: int) -> None:
    print(f"not read in {read_only_disks(place, disk, 1, rounds)} of {rounds} cases until it was mended")


@pytest.mark.parametrize(("engine", "rounds"), [("exact", 6), *slow((engine, 40) for engine in ENGINES)])
def test_searches_beside_syncs_that_are_killed(place: Path, engine: Engine, rounds: int) -> None:
    random = Random(7)
    sources = Sources(place, random, engine)
    sources.create(index := place / "index")
    kills = Kills(sources, random)
    with searching(index, sources):
        for _ in range(rounds):
            kills.once(index)
            sources.change()
            sources.sync(index)
    sources.require_synced(index)


@pytest.mark.slow
@pytest.mark.parametrize("then", ["undone", "copied back", "copied on"])
def test_the_command_that_is_killed_after_its_first_commit(tmp_path: Path, then: str) -> None:
    """With the model inside flatcoat and batches as they are."""
    root, index = tmp_path / "root", tmp_path / "index"
    command = [sys.executable, "-m", "flatcoat", "index", root, "--index", index]
    texts = {f"a{number}.txt": f"old text {number}" for number in range(5)}
    write_all(root, texts)
    subprocess.run(command, check=True, capture_output=True)
    watched = Retriever.open(index)
    before = watched.store.generation
    (root / "a0.txt").rename(root / "0.txt")
    write_all(root, new := {f"z{number}.txt": f"new text {number}" for number in range(1_500)})
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while watched.store.generation == before:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    if then == "undone":
        (root / "0.txt").rename(root / "a0.txt")
    else:
        name = "a0.txt" if then == "copied back" else "c0.txt"
        shutil.copy(root / "0.txt", root / name)
        texts["0.txt"] = texts[name] = texts.pop("a0.txt")
    subprocess.run(command, check=True, capture_output=True)
    store = watched.store
    passages = store.passages(store.rows_where([]))
    assert {passage.document_id: passage.text for passage in passages} == texts | new
    assert store.verify() == []
    watched.close()


def write_all(root: Path, texts: dict[str, str]) -> None:
    """Files that were written long ago."""
    root.mkdir(exist_ok=True)
    for name, text in texts.items():
        (root / name).write_text(text)
        os.utime(root / name, (1_600_000_000, 1_600_000_000))
