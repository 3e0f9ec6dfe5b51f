"""An index folder that somebody else made is data: nothing in it runs, leads out of it, hangs or crashes."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError, UsageError
from flatcoat.indexing.store import schema
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import document_checksum, row_checksum
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, passages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "my.index"
    with Store.create(path, {}) as store, store.writer() as writer:
        writer.add(passages("a", 3), dense(passages("a", 3)))
    return path


def use(path: Path) -> None:
    """All that reads."""
    with Store.open(path) as store:
        assert all((store.document_hashes(), store.stats(), store.generation))
        assert not store.sources() and not store.file_states(1)
        store.passages(store.index().search(dense(passages("a")), 1)[0].ids)
        contents(store)
        store.bm25("word0", 3)


def write(path: Path) -> None:
    with Store.open(path) as store, store.writer() as writer:
        writer.add(passages("b"), dense(passages("b")))
        writer.remove(["a"])
        writer.compact()


def run(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path / schema.DATABASE, isolation_level=None)) as connection:
        connection.executescript(sql)


def set_meta(path: Path, key: str, value: str) -> None:
    """With a checksum that is right, as a stranger would."""
    with closing(sqlite3.connect(path / schema.DATABASE, isolation_level=None)) as connection:
        connection.execute("REPLACE INTO meta VALUES (?, ?, ?)", (key, value, row_checksum(key, value)))


def refused(path: Path, message: str, *works: Callable[[Path], object]) -> None:
    """Each of ``works`` ends soon, in one line that says what it is about."""
    for work in works or (use, write):
        with pytest.raises(FlatcoatError, match=message) as error:
            outcome(work, path)
        assert "\n" not in str(error.value)


def outcome(work: Callable[[Path], object], path: Path) -> None:
    """Do it in a thread, which may hang."""
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            work(path)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    for error in caught:
        raise error


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            f"DROP TABLE meta; CREATE VIEW meta AS {ENDLESS} AS key, '' AS value, 0 AS checksum FROM n",
            "view 'meta' is not as",
        ),
        ("CREATE TRIGGER mine AFTER DELETE ON texts BEGIN SELECT 1; END", "trigger 'mine' was not"),
        (f"CREATE VIEW mine AS {ENDLESS} FROM n", "view 'mine' was not"),
        ("CREATE TABLE mine(x)", "table 'mine' was not"),
        ("CREATE INDEX mine ON documents(title)", "index 'mine' was not"),
        ("DROP TRIGGER passages_delete", "has no trigger 'passages_delete'"),
        ("DROP INDEX passages_by_document", "has no index"),
        ("DROP TABLE texts; CREATE TABLE texts(title, section, text, parts)", "'texts' is not as"),
        ("DROP TABLE skipped_files", "has no table 'skipped_files'"),
        ("ALTER TABLE documents ADD COLUMN more", "'documents' is not as"),
    ],
)
def test_a_schema_that_is_not_ours_is_refused_before_it_is_used(path: Path, sql: str, message: str) -> None:
    run(path, sql)
    refused(path, message, use, write)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", '"three"', "its format is"),
        ("format", "null", "its format is"),
        ("format", "9" * 5_000, "its format is"),
        ("contract", "null", "contract of the index"),
        ("contract", "[1]", "contract of the index"),
        ("contract", "{", "'contract' of the index is damaged"),
        ("contract", "[" * 100_000, "'contract' of the index is damaged"),
        ("engine", '{"foo": 1}', "engine of the index"),
        ("engine", "null", "engine of the index"),
        ("engine", '{"name": "magic"}', "engine of the index"),
        ("engine", '{"centroids": "many"}', "engine of the index"),
        ("engine", '{"factory": 1}', "engine of the index"),
        ("shape", '["token"]', "shape of the vectors"),
        ("shape", '["dense", 1e9]', "shape of the vectors"),
        ("shape", '["dense", 3]', "of 4 components"),
        ("shape", '["token", 4]', "dense vectors where"),
        ("shape", "null", "is damaged"),
        ("calibration", "[[1]]", "calibration"),
        ("calibration", "7", "calibration"),
        ("calibration", '[["a", "b", "c", "d"]]', "calibration"),
        ("generation", '"x"', "generation"),
        ("generation", "null", "generation"),
    ],
)
def test_a_malformed_setting_is_named(path: Path, key: str, value: str, message: str) -> None:
    set_meta(path, key, value)
    refused(path, message, use)


def test_settings_are_compared_with_their_checksum(path: Path) -> None:
    run(path, "UPDATE meta SET value = '2' WHERE key = 'generation'")
    refused(path, "'generation' of the index is damaged", use)


def test_a_lost_setting_is_named(path: Path) -> None:
    for key, message in {"generation": "generation", "shape": "damaged", "contract": "contract"}.items():
        copy = shutil.copytree(path, path.with_name(key))
        run(copy, f"DELETE FROM meta WHERE key = '{key}'")
        refused(copy, message, use)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE segment_rows SET rows = x'0102030405'",
        "UPDATE segment_rows SET rows = 'text'",
        "UPDATE segment_rows SET rows = x'0100000000000000'",
        "DELETE FROM segment_rows",
        "UPDATE files SET name = 'values' WHERE kind = 'values'",
        "UPDATE files SET name = '../../secret.values.npy' WHERE kind = 'values'",
        "UPDATE files SET name = '/etc/passwd' WHERE kind = 'values'",
        "UPDATE files SET name = x'00' WHERE kind = 'values'",
        "UPDATE files SET name = '../../secret.postings.npy' WHERE kind = 'postings'",
        "UPDATE files SET kind = 'codes'",
        "UPDATE files SET bytes = -1",
        "UPDATE files SET bytes = 'many'",
        "UPDATE files SET bytes = bytes + 1",
        "DELETE FROM files",
        "UPDATE segments SET live = -1",
        "UPDATE segments SET live = 99",
        "UPDATE segments SET passages = 'x'",
        "UPDATE segments SET vectors = 2",
        "UPDATE documents SET metadata = '{'",
        "UPDATE documents SET metadata = '[1]'",
        "UPDATE documents SET metadata = '{\"a\": [[1]]}'",
        "UPDATE documents SET title = x'ff', id = x'ff'",
        "UPDATE documents SET id = CAST(x'ff' AS TEXT)",
        "UPDATE passages SET first_line = 'x'",
        "DELETE FROM texts WHERE rowid = 1",
        "UPDATE texts SET text = x'ff'",
        "UPDATE passages SET document = 77",
    ],
)
def test_a_malformed_row_is_named(path: Path, sql: str) -> None:
    run(path, sql)
    refused(path, "damaged|missing|cannot be read|bytes", use)
    with Store.open(path) as store:
        assert store.verify()


@pytest.mark.parametrize("reading", ["{", "null", "[1]", '{"columns": 3}', "[" * 100_000])
def test_a_malformed_source_is_named(path: Path, tmp_path: Path, reading: str) -> None:
    (tmp_path / "docs").mkdir()
    with Store.open(path) as store, store.writer() as writer:
        writer.enter_sources([tmp_path / "docs"])
    with closing(sqlite3.connect(path / schema.DATABASE)) as connection, connection:
        connection.execute("UPDATE sources SET reading = ?", [reading])
    refused(path, "damaged|in an unknown way", lambda path: Store.open(path).sources())
    with Store.open(path) as store:
        assert any("rows of sources" in problem for problem in store.verify())


PARTS = ["index.sqlite", "segments", "segments/000001.values.npy", "writer.lock"]


@pytest.mark.parametrize("part", PARTS)
def test_a_link_inside_an_index_is_refused(path: Path, tmp_path: Path, part: str) -> None:
    """Even to what would do."""
    victim = shutil.copytree(path, tmp_path / "victim")
    before = sorted(victim.rglob("*"))
    shutil.rmtree(path / part) if part == "segments" else (path / part).unlink()
    (path / part).symlink_to(victim / part)
    message = "no plain file|no folder"
    refused(path, message, write if "values" not in part else use)
    assert sorted(victim.rglob("*")) == before
    if part != "segments/000001.values.npy":
        refused(path, message, use)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_beside_the_database_is_refused(path: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "precious").write_text("precious")
    (path / f"index.sqlite{suffix}").symlink_to(tmp_path / "precious")
    refused(path, "no plain file", use, write)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_link_to_another_indexs_files_deletes_none_of_them(path: Path, tmp_path: Path) -> None:
    victim = shutil.copytree(path, tmp_path / "victim")
    run(path, "DELETE FROM files")
    shutil.rmtree(path / "segments")
    (path / "segments").symlink_to(victim / "segments")
    refused(path, "no folder", write)
    assert contents(Store.open(victim))
    use(victim)


@pytest.mark.parametrize("part", [*PARTS, "index.sqlite-wal"])
def test_a_pipe_hangs_nobody(path: Path, part: str) -> None:
    if (path / part).is_dir():
        shutil.rmtree(path / part)
    (path / part).unlink(missing_ok=True)
    os.mkfifo(path / part)
    refused(path, "no plain file|no folder", use)
    if "values" in part:
        with Store.open(path) as store:
            assert any("no plain file" in problem for problem in store.verify())


def test_the_folder_itself_may_be_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    use(tmp_path / "link")
    write(tmp_path / "link")


@pytest.mark.parametrize("name", ["x" * 300, "nul\0nul", "/".join(["d" * 200] * 25), "a\nb\0"])
def test_paths_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    for work in (Store.open, lambda path: Store.create(path, {})):
        with pytest.raises(FlatcoatError, match="cannot") as error:
            work(tmp_path / name)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1_000


def test_arguments_beyond_what_sqlite_takes(path: Path) -> None:
    with Store.open(path) as store:
        for k in (2**63 - 1, 2**63, 2**70):
            assert len(store.bm25("word0", k).ids) == 3
        assert store.rows_where(["n=\ud800", "\udfff exists"]).tolist() == []
        assert store.bm25("\ud800 word0", 9).ids
        with pytest.raises(FlatcoatError, match="half a surrogate pair"):
            store.holds("\ud800")
        for ids in ([None], [b"a"], [1.5], ["a", True], ["a", ""]):
            with pytest.raises(UsageError, match="a whole number is needed"), store.writer() as writer:
                writer.remove(ids)  # type: ignore[arg-type]
        assert len(contents(store)) == 1
        with store.writer() as writer:
            assert writer.remove(["\ud800", 2**70]) == 0  # type: ignore[list-item]


def test_ids_are_removed_in_any_unicode_form(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", {}) as store, store.writer() as writer:
        writer.add(passages("Zo\u00eb"), dense(passages("Zo\u00eb")))
        assert writer.remove(["Zoe\u0308"]) == 1


def rewritten_header(header: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        data = file.read_bytes()
        end = data.index(b"\n") + 1
        body = header.ljust(end - 11) + b"\n"
        file.write_bytes(data[:10] + body + data[end:])

    return damage


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4",
        b"{'descr': '<f2', 'fortran_order': True, 'shape': (3, 4), }",
        b"{'descr': '<f2', 'fortran_order': False, 'shape': (9223372036854775807, 4), }",
        b"{'descr': '<f2', 'fortran_order': False, 'shape': (-3, -4), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 1), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 1), }",
        b"{'descr': '>f2', 'fortran_order': False, 'shape': (3, 4), }",
        b"{'descr': '<f2', 'fortran_order': False, 'shape': (12,), }",
        b"(((((" * 10,
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_header_of_an_array_is_named(path: Path, header: bytes) -> None:
    rewritten_header(header)(path / "segments" / "000001.values.npy")
    refused(path, "000001.values.npy|float|segment", use)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04."])
def test_no_archive_and_no_pickle_is_opened(path: Path, content: bytes) -> None:
    file = path / "segments" / "000001.values.npy"
    size = file.stat().st_size
    file.write_bytes(content.ljust(size, b"\0"))
    refused(path, "000001.values.npy cannot be read", use)


def test_values_that_are_not_finite_are_found(path: Path) -> None:
    from flatcoat.indexing.array_files import checksum

    file = path / "segments" / "000001.values.npy"
    np.save(file, np.full((3, 4), np.nan, np.float16))
    row = file.name, 1, "values", file.stat().st_size, checksum(file)
    with closing(sqlite3.connect(path / schema.DATABASE, isolation_level=None)) as connection:
        connection.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (*row, row_checksum(*row)))
    with Store.open(path) as store:
        assert store.verify() == ["segment 1: holds NaN or infinity"]


def test_a_sound_index_of_each_engine_is_taken(tmp_path: Path) -> None:
    """And what ``document_checksum`` says of it is what stands there."""
    for engine in ("exact", "faiss"):
        path = tmp_path / engine
        with Store.create(path, {}, engine=EngineSettings(engine)) as store, store.writer() as writer:  # type: ignore[arg-type]
            writer.add(passages("a", 40), dense(passages("a", 40)))
            writer.compact()
        use(path)
        with Store.open(path) as store, store._reading() as connection:
            (written,) = connection.execute("SELECT checksum FROM documents").fetchone()
            assert written == document_checksum(connection, 1)
