"""An index of the former format opens and answers as it did, and the next write brings it to this format.

``former_format.tar.gz`` holds an index that flatcoat made while the format was 5 (three segments with
tombstones and a replaced and a renamed document), and its answers of that time.
"""

import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.store import schema
from flatcoat.indexing.store.store import Store

from ..corpus import contents, error, passages, vectors
from .killing import changes_before_death
from .power_cut import Record

PACKED = Path(__file__).parent / "former_format.tar.gz"


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where possible: a kill does not ask how slow the disk is."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        with tarfile.open(PACKED) as packed:
            packed.extractall(folder)  # Our own file.
        yield Path(folder)


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "my.index"


@pytest.fixture
def answers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "answers.json").read_text())


def format_of(path: Path) -> int:
    with Store.open(path) as store, store._reading() as connection:
        return schema.read_meta(connection, "format")


def write(path: Path) -> None:
    """A write that changes no document."""
    with Store.open(path) as store, store.writer():
        pass


def check(path: Path, answers: dict[str, Any]) -> None:
    """All answers are those of the former format, and nothing is wrong."""
    with Store.open(path) as store:
        assert store.verify() == []
        assert store.document_hashes() == answers["hashes"]
        assert [
            [one.document_id, one.title, one.section, one.text, list(one.lines), one.metadata]
            for one in store.passages(store.rows_where([]))
        ] == answers["passages"]
        assert store.rows_where(["n>11"]).tolist() == answers["rows_where"]["n>11"]
        for query, (rows, scores) in answers["bm25"].items():
            hits = store.bm25(query, 50)
            assert hits.ids == rows
            assert hits.scores == pytest.approx(scores, rel=1e-5)
            few = store.bm25(query, 50, rows=store.rows_where(["n>11"])).ids
            assert few == [row for row in rows if row in answers["rows_where"]["n>11"]]
        assert error(store) == 0
        stored = store.passages(store.snapshot().rows)
        (hits,) = store.index().search(vectors(stored[:1]), 1)
        assert hits.ids == store.snapshot().rows[:1].tolist()


def test_it_answers_as_it_did_and_reading_changes_nothing(path: Path, answers: dict[str, Any]) -> None:
    before = (path / schema.DATABASE).read_bytes()
    check(path, answers)
    assert format_of(path) == 5
    assert (path / schema.DATABASE).read_bytes() == before


def test_the_next_write_brings_it_to_this_format(path: Path, answers: dict[str, Any]) -> None:
    with Store.open(path) as reader:
        before = reader.bm25("walrus", 50)
        write(path)
        after = reader.bm25("walrus", 50)  # Opened before, it goes on.
        assert (after.ids, after.scores.tolist()) == (before.ids, before.scores.tolist())
        assert reader.verify() == []
    assert format_of(path) == schema.FORMAT
    check(path, answers)
    with closing(sqlite3.connect(path / schema.DATABASE)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {name for name in names if name.startswith("texts")} == {"texts"}


def test_it_is_written_to_as_any_other(path: Path, answers: dict[str, Any]) -> None:
    with Store.open(path) as store:
        with store.writer() as writer:
            writer.remove(["d1", "d7"])
            writer.add(passages("new"), vectors(passages("new")))
        assert "new" in contents(store)
        assert "d1" not in contents(store)
        assert [one.document_id for one in store.passages(store.bm25("word0", 5).ids)] == ["new"]
        store.compact()
        assert store.verify() == []
        assert store.stats().segments == 1


def test_what_a_new_index_holds_is_what_an_upgraded_one_holds(path: Path, tmp_path: Path) -> None:
    def entries(path: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(path / schema.DATABASE)) as connection:
            return sorted(connection.execute("SELECT name, ifnull(sql, '') FROM sqlite_master"))

    write(path)
    Store.create(tmp_path / "new.index", {}).close()
    assert entries(path) == entries(tmp_path / "new.index")


def test_a_damaged_document_is_not_given_a_new_checksum(path: Path) -> None:
    with closing(sqlite3.connect(path / schema.DATABASE)) as connection:
        connection.execute("UPDATE texts SET section = 'elsewhere' WHERE rowid = 2")
        connection.commit()
    with pytest.raises(FlatcoatError, match="document 'd0' of the index is damaged"):
        write(path)
    assert format_of(path) == 5
    with Store.open(path) as store:
        assert any("document 'd0'" in problem for problem in store.verify())


def kills(path: Path, work: Callable[[Path], None], step: int) -> Iterator[Path]:
    """What is left where ``work`` is killed at one in ``step`` of its changes to the disk."""
    work(shutil.copytree(path, path.with_name("first")))  # What it imports is there for all the children.
    whole = shutil.copytree(path, path.with_name("whole"))
    changes = changes_before_death(lambda: work(whole))
    for change in [*range(0, changes, step), changes]:
        copy = shutil.copytree(path, path.with_name(str(change)))
        assert changes_before_death(lambda copy=copy: work(copy), change) == change
        yield copy
        shutil.rmtree(copy)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_killed_upgrade_leaves_one_format_or_the_other(
    path: Path, answers: dict[str, Any], step: int
) -> None:
    formats = []
    for left in kills(path, write, step):
        formats.append(format_of(left))
        check(left, answers)
        write(left)
        assert format_of(left) == schema.FORMAT
        check(left, answers)
        with Store.open(left) as store:
            assert {file.name for file in (left / schema.SEGMENTS).iterdir()} == store._names()
    assert formats == sorted(formats)
    assert set(formats) == {5, schema.FORMAT}


@pytest.mark.parametrize("states", [12, pytest.param(200, marks=pytest.mark.slow)], ids=["some", "many"])
def test_a_power_cut_leaves_one_format_or_the_other(path: Path, answers: dict[str, Any], states: int) -> None:
    write(shutil.copytree(path, path.with_name("first")))
    record = Record.of(lambda: write(path), path)
    random = Random(states)
    formats = set()
    for at in np.linspace(0, len(record.events), states).astype(int).tolist():
        left = path.with_name(f"cut{at}")
        record.cut(at, random, left)
        formats.add(format_of(left))
        check(left, answers)
        write(left)
        check(left, answers)
        shutil.rmtree(left)
    assert formats == {5, schema.FORMAT}
