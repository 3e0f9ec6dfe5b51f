"""An open store beside an index that is replaced, removed, moved, or must not be written."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.store import schema
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, passages
from .test_faults import in_child

READS: dict[str, Callable[[Store], object]] = {
    "generation": lambda store: store.generation,
    "snapshot": Store.snapshot,
    "index": Store.index,
    "rows": lambda store: store.rows_where([]),
    "filter": lambda store: store.rows_where(["n=0"]),
    "bm25": lambda store: store.bm25("word0", 3),
    "hashes": Store.document_hashes,
    "stats": Store.stats,
    "writer": lambda store: store.writer().__enter__(),
}


def make(path: Path, name: str, contract: dict[str, object] | None = None, engine: Any = "auto") -> None:
    with Store.create(path, contract or {"model": "m"}, engine=EngineSettings(engine)) as store:
        add(store, name)


def add(store: Store, name: str) -> None:
    with store.writer() as writer:
        writer.add(passages(name, 3), dense(passages(name, 3)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    make(tmp_path / "my.index", "old")
    with Store.open(tmp_path / "my.index") as store:
        assert set(contents(store)) == {"old"}
        yield store


def test_an_index_made_again_in_the_same_place_is_searched_from_then_on(store: Store) -> None:
    """Equal in generation and rows: only the file tells."""
    found, filtered = store.index(), store.rows_where(["n=0"])
    shutil.rmtree(store.path)
    make(store.path, "new")
    assert store.rows_where(["n=0"]).tolist() == filtered.tolist()
    assert set(contents(store)) == {"new"}
    assert store.index() is not found
    assert store.passages(store.index().search(dense(passages("new")), 1)[0].ids)[0].document_id == "new"
    assert store.state == (1, 1)
    assert store.verify() == []


def test_a_writer_of_an_open_store_writes_to_what_stands_there_now(store: Store) -> None:
    shutil.rmtree(store.path)
    make(store.path, "new")
    add(store, "more")
    assert set(contents(store)) == {"new", "more"}
    with Store.open(store.path) as other:
        assert set(contents(other)) == {"new", "more"}
        assert other.verify() == []


def test_what_the_new_index_has_in_its_log_outlives_the_reader_of_the_old(store: Store) -> None:
    """SQLite deletes the log by name when a connection closes: not that of another index."""
    shutil.rmtree(store.path)
    make(store.path, "new")
    with Store.open(store.path) as other, other.writer() as writer:
        writer.add(passages("more"), dense(passages("more")))
        writer.commit()
        store.close()
        assert (store.path / f"{schema.DATABASE}-wal").stat().st_size
    with Store.open(store.path) as other:
        assert set(contents(other)) == {"new", "more"}


def test_an_index_that_is_replaced_while_it_is_written_loses_nothing(store: Store) -> None:
    """Neither does the writer of the old one take away what the new one has in its log."""
    with pytest.raises(FlatcoatError, match="was replaced while it was written"), store.writer() as writer:
        writer.add(passages("more"), dense(passages("more")))
        writer.commit()
        shutil.rmtree(store.path)
        make(store.path, "new")
        other = Store.open(store.path)
        with other.writer() as second:
            second.add(passages("newer"), dense(passages("newer")))
            second.commit()
            contents(store)
    assert set(contents(store)) == set(contents(other)) == {"new", "newer"}
    other.close()
    assert set(contents(Store.open(store.path))) == {"new", "newer"}
    assert store.verify() == []


@pytest.mark.parametrize("read", READS)
def test_an_index_of_another_model_in_its_place_is_refused(store: Store, read: str) -> None:
    path = store.path
    for contract, engine in (({"model": "other"}, "auto"), ({"model": "m"}, "exact")):
        shutil.rmtree(path)
        make(path, "new", contract, engine)
        for _ in range(2):
            with pytest.raises(FlatcoatError, match="was replaced by one that another model or engine made"):
                READS[read](store)
    shutil.rmtree(path)
    make(path, "newest")
    assert set(contents(store)) == {"newest"}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("how", ["removed", "moved", "emptied", "another thing"])
def test_an_index_that_is_gone_is_said_to_be(store: Store, read: str, how: str) -> None:
    if how == "moved":
        store.path.rename(store.path.with_name("elsewhere"))
    elif how == "emptied":
        for file in store.path.glob("index.sqlite*"):
            file.unlink()
    else:
        shutil.rmtree(store.path)
    if how == "another thing":
        store.path.write_text("not a folder")
    with pytest.raises(FlatcoatError, match=r"is gone|cannot be written|cannot be read") as error:
        READS[read](store)
    assert "\n" not in str(error.value)


def test_an_index_that_was_moved_away_and_back_is_read_on(store: Store) -> None:
    elsewhere = store.path.with_name("elsewhere")
    store.path.rename(elsewhere)
    with pytest.raises(FlatcoatError, match="is gone, it was removed or moved: open it where it is now"):
        contents(store)
    elsewhere.rename(store.path)
    assert set(contents(store)) == {"old"}


def test_a_backup_that_is_put_back_is_read_though_it_counts_alike(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "backup")
    add(store, "first")
    index = store.index()
    shutil.rmtree(store.path)
    shutil.copytree(tmp_path / "backup", store.path)
    with Store.open(store.path) as other:
        add(other, "second")
    assert set(contents(store)) == {"old", "second"}
    assert store.index() is not index


def test_a_copy_at_rest_is_whole(store: Store, tmp_path: Path) -> None:
    add(store, "more")
    store.close()
    shutil.copytree(store.path, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        assert set(contents(copy)) == {"old", "more"}
        assert copy.verify() == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own are private."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(work: Callable[[], None]) -> None:
    def child() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        work()

    in_child(child)


def lock(path: Path, may_write: bool) -> None:
    for entry in [*path.rglob("*"), path]:
        folder, file = (0o755, 0o644) if may_write else (0o555, 0o444)
        entry.chmod(folder if entry.is_dir() else file)


def test_an_index_of_somebody_elses_is_followed_while_it_is_written(public: Path) -> None:
    """By a reader that may not write: first there is no ``-shm``, then there is the writer's, then none."""
    path = public / "my.index"
    make(path, "first")
    ask, answer = os.pipe(), os.pipe()

    def read() -> None:
        with Store.open(path) as store:
            for wanted in ({"first"}, {"first", "d0"}, {"first", "d0", "d1"}, {"first", "d0", "d1", "d2"}):
                os.read(ask[0], 1)
                assert set(contents(store)) == wanted
                assert len(store.snapshot()) == 3 * len(wanted)
                os.write(answer[1], b"x")

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            read()
            code = 0
        finally:
            os._exit(code)
    os.close(answer[1])

    def asked() -> None:
        os.write(ask[1], b"x")
        assert os.read(answer[0], 1) == b"x"

    asked()
    with Store.open(path) as store:
        add(store, "d0")
        asked()
        with store.writer() as writer:
            writer.add(passages("d1", 3), dense(passages("d1", 3)))
            writer.commit()
            asked()
            writer.add(passages("d2", 3), dense(passages("d2", 3)))
    asked()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_commits_that_are_left_in_the_log_are_read_or_named(public: Path) -> None:
    path = public / "my.index"
    make(path, "first")

    def die() -> None:
        with Store.open(path) as store, store.writer() as writer:
            writer.add(passages("second"), dense(passages("second")))
            writer.commit()
            os._exit(0)

    in_child(die)
    lock(path, may_write=False)

    def read() -> None:
        with Store.open(path) as store:
            assert set(contents(store)) == {"first", "second"}

    as_nobody(read)
    (path / "index.sqlite-shm").unlink()

    def fail() -> None:
        with pytest.raises(FlatcoatError, match=r"index.sqlite-wal .*open it once where you may write"):
            Store.open(path)

    as_nobody(fail)
    lock(path, may_write=True)
    read()
    lock(path, may_write=False)
    as_nobody(read)


def test_a_read_only_medium_is_read(public: Path) -> None:
    path = public / "my.index"
    make(path, "first")
    mount = public / "mount"
    mount.mkdir()
    bind = ["sh", "-c", f"mount --bind {path} {mount} && mount -o remount,ro,bind {mount}"]
    if os.getuid() or subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with Store.open(mount) as store:
            assert set(contents(store)) == {"first"}
            assert store.bm25("word0", 5).ids
            assert store.verify() == []
            with pytest.raises(FlatcoatError, match="cannot be written"), store.writer():
                pass
            with Store.open(path) as other:
                add(other, "second")
                assert set(contents(store)) == {"first", "second"}
            assert set(contents(store)) == {"first", "second"}
    finally:
        subprocess.run(["umount", str(mount)], check=True)
