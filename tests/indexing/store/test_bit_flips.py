"""Single flipped bits, anywhere: what changes an answer, or makes a read fail, ``verify`` finds."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing import segments
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.fusion import reciprocal_rank_fusion
from flatcoat.indexing.reading.scan import FileState
from flatcoat.indexing.store import schema
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store

from ..corpus import passages, vectors

WORDS = ["otter", "walrus", "heron", "zebra", "lynx", "raven", "moth", "adder", "parseTree", "openFile"]
QUERIES = ["otter zebra", "parse tree", "walrus", "file heron moth"]
FILTERS = ["n>3", "kind=odd", "path exists and path^=b", "symbol=otter"]


def make(folder: Path, engine: str) -> Path:
    """Text, metadata, removed and replaced documents, several segments, a source with files."""
    drawn = random.Random(3)
    (folder / "docs").mkdir()
    path = folder / "my.index"
    with Store.create(path, {"model": "m", "n": 7}, engine=EngineSettings(engine)) as store:  # type: ignore[arg-type]
        with store.writer() as writer:
            (source,) = writer.enter_sources([folder / "docs"])
            for batch in range(3):
                texts = [
                    _passage(drawn, source.prefix, number) for number in range(20 * batch, 20 * batch + 25)
                ]
                hashes = {text.document_id: f"hash{text.document_id}" for text in texts}
                writer.add(texts, vectors(texts), hashes=hashes, source=source.key)
                names = [text.document_id.removeprefix(source.prefix) for text in texts]
                writer.remember(source.key, [(name, FileState(f"1:2:{name}", f"d{name}")) for name in names])
                writer.commit()
            writer.remember(source.key, [("skipped.bin", FileState("3:4", skipped="binary"))])
            writer.add(passages("plain", 3), vectors(passages("plain", 3)), hashes={"plain": "h"})
            writer.rename("plain", Document("renamed", "", "A title", {"n": 5, "kind": "odd"}), hash="h2")
            writer.remove([f"{source.prefix}b{number}.txt" for number in (3, 30)])
        if engine == "plaid":
            store.compact()
    return path


def _passage(drawn: random.Random, prefix: str, number: int) -> Passage:
    metadata = {"n": number, "kind": ("even", "odd")[number % 2], "path": f"b{number}.txt"}
    text = " ".join(drawn.choices(WORDS, k=12))
    metadata["symbol"] = ", ".join(text.split()[:2])
    own = ("symbol",)
    return Passage(f"{prefix}b{number}.txt", text, f"Title {number}", (1, 9), metadata, "Part > One", own)


def answers(path: Path) -> str:
    """All that can be asked."""
    with Store.open(path) as store:
        found: list[object] = [store.contract, repr(store.engine), store.generation, repr(store.stats())]
        sources = store.sources()
        found += [repr(sources), [store.file_states(source.key) for source in sources]]
        found += [
            store.document_hashes(),
            store.document(None, "renamed"),
            repr(store.passages(store.rows_where([]))),
        ]
        index = store.index()
        for query in QUERIES:
            lexical = store.bm25(query, 9)
            (hits,) = index.search(vectors([Passage("", query)]), 9)
            fused = reciprocal_rank_fusion([lexical.ids, hits.ids], 60)
            found += [lexical.ids, lexical.scores.tolist(), hits.ids, hits.scores.tolist(), fused]
            found += [store.bm25(query, 9, rows=store.rows_where([condition])).ids for condition in FILTERS]
        snapshot = store.snapshot()
        found += [snapshot.rows.tolist(), snapshot.positions.tolist()]
        return repr(found)


def verified(path: Path) -> list[str]:
    try:
        with Store.open(path) as store:
            return store.verify()
    except FlatcoatError as error:
        return [str(error)]


def flip(file: Path, count: int, seed: int) -> Iterator[int]:
    """Flip one random bit after the other, each alone."""
    whole = file.read_bytes()
    for bit in random.Random(seed).sample(range(8 * len(whole)), count):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        yield bit
    file.write_bytes(whole)


TABLES = (
    *("meta", "sources", "documents", "skipped_files", "segments", "segment_rows", "files", "passages"),
    "texts",
)
COUNTS = [60, pytest.param(400, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_no_flipped_bit_of_the_database_that_matters_goes_unfound(tmp_path: Path, count: int) -> None:
    path = make(tmp_path, "exact")
    intact = answers(path)
    assert verified(path) == []
    changed, found, unfound = 0, 0, []
    for bit in flip(path / schema.DATABASE, count, seed=count):
        try:
            differs = answers(path) != intact
        except FlatcoatError:
            differs = True
        changed += differs
        problems = verified(path)
        found += bool(problems)
        if differs and not problems:
            unfound.append(bit)
        assert not [problem for problem in problems if "\n" in problem]
        for beside in path.glob("index.sqlite-*"):
            beside.unlink()
    print(f"{count} flips, {changed} changed answers or failed, verify found {found}, unfound {len(unfound)}")
    assert unfound == []
    assert changed
    assert verified(path) == []


@pytest.mark.parametrize("count", COUNTS)
def test_no_flipped_bit_of_a_segment_file_goes_unfound(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 1)
    path = make(tmp_path, "plaid")
    assert verified(path) == []
    files = sorted((path / "segments").iterdir())
    for number, file in enumerate(files):
        for bit in flip(file, -(-count // len(files)), seed=number):
            assert any(file.name in problem for problem in verified(path)), (file.name, bit)
    assert verified(path) == []


def test_what_a_row_says_is_checked_whoever_changed_it(tmp_path: Path) -> None:
    """Each column of each table, by SQL: no page is damaged, and every index agrees."""
    path = make(tmp_path, "exact")
    (path / schema.DATABASE).chmod(0o644)
    whole = (path / schema.DATABASE).read_bytes()
    unfound = []
    for table in [*TABLES, "sqlite_sequence"]:
        with closing(sqlite3.connect(path / schema.DATABASE)) as connection:
            columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            with closing(sqlite3.connect(path / schema.DATABASE, isolation_level=None)) as connection:
                row = f"(SELECT min(rowid) FROM {table})" if "rowid" in _rowid(connection, table) else None
                where = f"rowid = {row}" if row else f"{columns[1]} = (SELECT min({columns[1]}) FROM {table})"
                try:
                    connection.execute(f"UPDATE {table} SET {column} = {_other(column)} WHERE {where}")
                except sqlite3.IntegrityError:
                    continue
            if not verified(path):
                unfound.append((table, column))
            for beside in path.glob("index.sqlite-*"):
                beside.unlink()
            (path / schema.DATABASE).write_bytes(whole)
    assert unfound == [("sqlite_sequence", "seq")]  # A greater one is as good.


@pytest.mark.parametrize("value", ["NULL", "-1", "1 << 62", "0.5", "'\u00e9{'", "'[' || 7", "x'00ff'"])
def test_a_row_that_cannot_be_read_is_a_flatcoat_error(tmp_path: Path, value: str) -> None:
    """A value of another kind in each column: a read answers or raises FlatcoatError, and nothing else."""
    path = make(tmp_path, "exact")
    whole = (path / schema.DATABASE).read_bytes()
    failed = 0
    for table in TABLES:
        with closing(sqlite3.connect(path / schema.DATABASE)) as connection:
            columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            with closing(sqlite3.connect(path / schema.DATABASE, isolation_level=None)) as connection:
                try:
                    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = {value}")
                except sqlite3.IntegrityError:
                    continue
            try:
                answers(path)
            except FlatcoatError as error:
                assert "\n" not in str(error)
                failed += 1
            for beside in path.glob("index.sqlite-*"):
                beside.unlink()
            (path / schema.DATABASE).write_bytes(whole)
    assert failed


def _rowid(connection: sqlite3.Connection, table: str) -> str:
    try:
        connection.execute(f"SELECT rowid FROM {table} LIMIT 1")
    except sqlite3.OperationalError:
        return ""
    return "rowid"


def _other(column: str) -> str:
    """SQL for another value of the same type."""
    return (
        f"CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'null' THEN 1 ELSE {column} || 'x' END"
    )
