"""Damaged files are named, a full disk and a folder without rights cost nothing but the write at hand."""

import os
import resource
import shutil
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing import segments
from flatcoat.indexing.array_files import checksum
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store import compaction
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import row_checksum
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, error, passages, vectors

ENGINES = ["exact", "plaid", "faiss"]


def add(store: Store, name: str, count: int) -> None:
    batch = passages(name, count)
    with store.writer() as writer:
        writer.add(batch, dense(batch) if store.engine.name == "faiss" else vectors(batch))


def compact(store: Store) -> None:
    import faiss

    faiss.omp_set_num_threads(1)  # A forked child has none of OpenMP's threads.
    store.compact()


def small_index(path: Path, engine: str) -> Store:
    """Two segments of it, and whatever else its engine needs."""
    store = Store.create(path, {}, engine=EngineSettings(engine))  # type: ignore[arg-type]
    add(store, "a", 30)
    compact(store)
    add(store, "b", 3)
    return store


@pytest.mark.parametrize("engine", ENGINES)
def test_damage_to_any_file_is_named(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 1)
    small_index(tmp_path / "index", engine).close()
    kinds = set()
    for path in sorted((tmp_path / "index" / "segments").iterdir()):
        whole = path.read_bytes()
        kinds.add(path.name.split(".")[1])
        for place in (0, len(whole) // 2, len(whole) - 1):
            flipped = bytearray(whole)
            flipped[place] ^= 1
            path.write_bytes(flipped)
            with Store.open(tmp_path / "index") as store:
                assert any(path.name in problem for problem in store.verify())
        for cut in (True, False):
            path.write_bytes(whole[:-1]) if cut else path.unlink()
            with Store.open(tmp_path / "index") as store:
                with pytest.raises(FlatcoatError, match=path.name):
                    store.snapshot()
                    store.bm25("part", 1)
                assert any(path.name in problem for problem in store.verify())
        path.write_bytes(whole)
    with Store.open(tmp_path / "index") as store:
        assert store.verify() == []
    coded = {"codes", "residuals", "scales", "offsets", "lists", "list_offsets", "codec"}
    of_engine = {"exact": {"values", "offsets"}, "plaid": coded, "faiss": {"values", "faiss"}}
    assert kinds == {"postings", *of_engine[engine]}


WRONG: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "codes name 65535": ("codes", lambda codes: np.full_like(codes, 65_535)),
    "inverted lists": ("codes", lambda codes: codes[::-1]),
    "lists are not": ("lists", lambda lists: lists[::-1]),
    "do not fit together": ("scales", lambda scales: scales[1:]),
    "do not rise from 0": ("offsets", lambda offsets: offsets[[0, 2, 1, 3]]),
    "number of vectors": ("offsets", lambda offsets: offsets - [0, 1, 0, 0]),
    "holds 2 passages": ("offsets", lambda offsets: offsets[[0, 1, 3]]),
    "int64 [9], uint16": ("codes", lambda codes: codes.astype(np.int64) - (1 << 40)),
    "uint8 [9, 5], uint8": ("residuals", lambda residuals: np.zeros((len(residuals), 5), np.uint8)),
    "float16 [9], uint16": ("codes", lambda codes: codes.astype(np.float16)),
    "int64 [9, 4], uint8": ("residuals", lambda residuals: np.full(residuals.shape, 1 << 40)),
    "uint8 [5], uint8 [any, any]": ("residuals", lambda residuals: np.zeros(5, np.uint8)),
    "int64 [9, 100000], uint8": ("scales", lambda scales: np.full((len(scales), 100_000), 1)),
    "codes, residuals and scales": ("scales", lambda scales: np.repeat(scales, 2, axis=1)),
    "int64 [7], uint16 [any]": ("lists", lambda lists: lists.astype(np.int64) - (1 << 33)),
    "int64 [13], uint32 [any]": ("list_offsets", lambda ends: -ends.astype(np.int64)),
}


@pytest.mark.parametrize("problem", WRONG)
def test_arrays_that_do_not_fit_are_found(tmp_path: Path, problem: str, monkeypatch) -> None:
    """Such as another codec would leave, under a checksum that is right."""
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 1)
    store = small_index(tmp_path / "index", "plaid")
    part, change = WRONG[problem]
    (path,) = sorted((store.path / "segments").glob(f"*.{part}.npy"))[1:]
    np.save(path, change(np.load(path)))
    if part == "offsets":
        for other in ("lists", "list_offsets"):
            path.with_name(path.name.replace(part, other)).unlink()
    with sqlite3.connect(store.path / "index.sqlite") as connection:
        if part == "offsets":
            connection.execute("DELETE FROM files WHERE segment = 4 AND kind LIKE 'list%'")
        row = path.name, 4, part, path.stat().st_size, checksum(path)
        connection.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (*row, row_checksum(*row)))
    connection.close()
    found = store.verify()
    assert problem in found[0]
    assert all(line.startswith("segment 4") for line in found)
    store.close()


@pytest.mark.parametrize("kind", ["codec", "codes"])
def test_codes_and_codec_go_together(tmp_path: Path, kind: str) -> None:
    with small_index(tmp_path / "index", "plaid") as store:
        connection = sqlite3.connect(store.path / "index.sqlite")
        with connection:
            connection.execute("UPDATE files SET kind = 'values' WHERE kind = ?", [kind])
        connection.close()
        assert any("codec" in problem for problem in store.verify())


def in_child(work: Callable[[], None]) -> None:
    """Run ``work`` where its limits and rights end with it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


WRITES: dict[str, Callable[[Store], None]] = {
    "add": lambda store: add(store, "c", 40),
    "compact": compact,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_may_not_grow(tmp_path: Path, engine: str, write: str, monkeypatch) -> None:
    """Under RLIMIT_FSIZE a write stops short, as on a full disk: ours, SQLite's and FAISS's."""
    monkeypatch.setattr(compaction, "RETRAIN_AT", 1)
    small_index(tmp_path / "before", engine).close()

    def starved(path: Path, limit: int) -> None:
        with Store.open(path) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            with pytest.raises(FlatcoatError, match=r"cannot be written|commit failed|FAISS"):
                WRITES[write](store)

    for limit in (0, 100, 200, 400, 800, 1_600, 6_000, 30_000):
        path = shutil.copytree(tmp_path / "before", tmp_path / f"{limit}")
        in_child(lambda path=path, limit=limit: starved(path, limit))
        goes_on(path, write)


def goes_on(path: Path, write: str) -> None:
    """Whether the last commit is whole, and what failed succeeds now."""
    with Store.open(path) as store:
        names = store._names()
        assert {entry.name for entry in (path / "segments").iterdir()} == names
        assert store.verify() == []
        assert contents(store) == {"a": passages("a", 30), "b": passages("b", 3)}
        WRITES[write](store)
        assert store.verify() == []
        assert error(store) < 0.1


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one mebibyte, where root may mount one."""
    with TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk(small_disk: Path, tmp_path: Path, engine: str, write: str, monkeypatch) -> None:
    monkeypatch.setattr(compaction, "RETRAIN_AT", 1)
    small_index(tmp_path / "before", engine).close()
    failed = []
    for free in range(0, 193, 16):
        path = shutil.copytree(tmp_path / "before", small_disk / "index")
        ballast = small_disk / "ballast"
        available = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
        ballast.write_bytes(bytes(max(0, available - (free << 10))))
        with Store.open(path) as store:
            try:
                WRITES[write](store)
            except FlatcoatError:
                failed.append(free)
        ballast.unlink()
        if free in failed:
            goes_on(path, write)
        shutil.rmtree(path)
    assert 0 in failed
    assert 192 not in failed


@pytest.mark.parametrize("engine", ENGINES)
def test_a_read_only_folder_is_searched(engine: str) -> None:
    """In a child without root's rights, in a folder that others may enter (pytest's are private)."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "index"
        with small_index(path, engine) as store:
            _search(store)  # numba caches its kernels, where one may write.
            store.bm25("b", 3)
        for entry in [*path.rglob("*"), path]:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        in_child(lambda: _read_as_nobody(path))


def _search(store: Store) -> list[Passage]:
    texts = passages("b", 3)
    query = dense(texts) if store.engine.name == "faiss" else vectors(texts)
    return [store.passages(hits.ids)[0] for hits in store.index().search(query, 1)]


def _read_as_nobody(path: Path) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    with Store.open(path) as store:
        assert len(_search(store)) == 3
        assert store.bm25("b", 3).ids == [31, 32, 33]
        assert store.verify() == []
        with pytest.raises(FlatcoatError, match="cannot be written"), store.writer():
            pass


def test_a_writer_in_another_process_is_refused_at_once(tmp_path: Path) -> None:
    store = small_index(tmp_path / "index", "exact")

    def try_to_write() -> None:
        began = time.monotonic()
        with Store.open(store.path) as other:
            assert len(contents(other)) == 2
            with pytest.raises(FlatcoatError, match="is being written by another process"), other.writer():
                pass
        assert time.monotonic() - began < 1

    with store.writer() as writer:
        writer.add(passages("c"), vectors(passages("c")))
        in_child(try_to_write)
    store.close()
