"""Where documents come from: places that move, prefixes, states that go with their documents."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.reading.scan import FileState
from flatcoat.indexing.store.sources import place
from flatcoat.indexing.store.store import Store

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "index", {})


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "one" / "docs", tmp_path / "two" / "docs", tmp_path / "three"]
    for folder in found:
        folder.mkdir(parents=True)
    return found


def test_a_lone_folder_has_no_prefix_and_others_their_names(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        (first,) = writer.enter_sources(folders[:1])
        later = writer.enter_sources(folders)
        named = writer.enter_sources(["-", "datasets:imdb"])
    assert [source.prefix for source in later] == ["", "docs/", "three/"]
    assert first == later[0]
    assert [place(store.path, source) for source in store.sources()] == [*folders, "-", "datasets:imdb"]
    assert [source.prefix for source in named] == ["", "datasets:imdb/"]


def test_folders_named_together_all_have_prefixes(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        assert [source.prefix for source in writer.enter_sources(folders)] == ["docs/", "docs-2/", "three/"]


def test_rows_and_files_that_may_share_ids_have_prefixes(store: Store, folders: list[Path]) -> None:
    roots = [folder / name for name in ("a.md", "rows.jsonl") for folder in folders]
    other = folders[0] / "b.md"
    for root in (*roots, other):
        root.write_text("")
    with store.writer() as writer:
        found = [source.prefix for source in writer.enter_sources([*roots, other])]
        again = [source.prefix for source in writer.enter_sources(roots)]
    assert found == ["", "docs/", "three/", "", "rows.jsonl/", "rows.jsonl-2/", ""]
    assert again == found[:-1]


def test_paths_are_relative_to_the_index(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        writer.enter_sources(folders[2:])
    assert [source.path for source in store.sources()] == ["../three"]


def test_a_folder_inside_another_is_refused(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        writer.enter_sources(folders[:1])
        for clash in (folders[0].parent, folders[0] / "inside"):
            clash.mkdir(exist_ok=True)
            with pytest.raises(FlatcoatError, match="hold the same files"):
                writer.enter_sources([clash])
    assert len(store.sources()) == 1


def test_states_go_with_their_documents(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        first, second = writer.enter_sources(folders[1:])
        for source in (first, second):
            passages = [Passage(f"{source.prefix}{name}", name) for name in "ab"]
            writer.add(passages, VECTORS[:2], source=source.key)
            writer.remember(source.key, [(name, FileState("1:1", "digest")) for name in "ab"])
            writer.remember(source.key, [("c", FileState("2:2", skipped="binary"))])
    assert store.documents_of(first.key) == ["docs/a", "docs/b"]
    with store.writer() as writer:
        assert writer.remove(["docs/a", "three/b"]) == 2
    assert store.file_states(first.key).keys() == {"b", "c"}
    assert store.file_states(second.key) == {
        "a": FileState("1:1", "digest"),
        "c": FileState("2:2", skipped="binary"),
    }
    assert store.verify() == []


def test_a_renamed_document_keeps_its_vectors(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        (source,) = writer.enter_sources(folders[2:])
        writer.add([Passage("old", "a getUserName b", "old")], VECTORS[:1], source=source.key)
        writer.add([Passage("new", "in the way")], VECTORS[1:2], source=source.key)
    row = store.bm25("user name", 5).ids
    with store.writer() as writer:
        writer.rename("old", Document("new", "a getUserName b", "newTitle", {"path": "new"}), hash="hash")
    assert store.bm25("title user", 5).ids == row
    assert store.passages(row) == [Passage("new", "a getUserName b", "newTitle", (1, 1), {"path": "new"})]
    assert store.document_hashes() == {"new": "hash"}
    assert store.verify() == []


def test_a_file_is_not_remembered_without_its_document(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        (source,) = writer.enter_sources(folders[2:])
        with pytest.raises(FlatcoatError, match="'a' has no document in the index"):
            writer.remember(source.key, [("b", FileState("2:2", skipped="binary")), ("a", FileState("1:1"))])
    assert store.file_states(source.key) == {}


def test_a_source_replaces_no_document_of_another(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        one, two = writer.enter_sources(folders[1:])
        writer.add([Passage("a", "text of one")], VECTORS[:1], source=one.key)
        writer.add([Passage("mine", "text of my own")], VECTORS[:1])
        for id, source in (("a", two.key), ("a", None), ("mine", one.key)):
            with pytest.raises(FlatcoatError, match=f"document '{id}' is in index .* already, from "):
                writer.add([Passage(id, "another text")], VECTORS[:1], source=source)
        with pytest.raises(FlatcoatError, match=r"'mine' .* from add\(\): give the new one another id"):
            writer.rename("a", Document("mine", "text of one"), hash="hash")
        writer.add([Passage("a", "changed")], VECTORS[:1], source=one.key)
    assert sorted(store.document_hashes()) == ["a", "mine"]
    assert store.bm25("changed", 5).ids


def test_a_source_is_forgotten_with_its_documents(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        one, two = writer.enter_sources(folders[1:])
        for source in (one, two):
            writer.add([Passage(f"{source.prefix}a", "text")], VECTORS[:1], source=source.key)
            writer.remember(source.key, [("b", FileState("2:2", skipped="binary"))])
        assert writer.forget_source(one.key) == 1
    assert store.sources() == [two]
    assert list(store.document_hashes()) == [f"{two.prefix}a"]
    assert store.file_states(one.key) == {}
    assert store.verify() == []


def test_a_prefix_is_not_one_that_ids_have(store: Store, folders: list[Path]) -> None:
    with store.writer() as writer:
        (three,) = writer.enter_sources(folders[2:])
        writer.add([Passage("docs/a", "a folder below three")], VECTORS[:1], source=three.key)
        (docs,) = writer.enter_sources(folders[:1])
    assert docs.prefix == "docs-2/"


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Moves to the home of another user."""

    def move(home: Path) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(home))

    return move


def test_a_source_is_own_to_whom_named_it_for_this_index(
    store: Store, folders: list[Path], tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    at_home(tmp_path / "mine")
    with store.writer() as writer:
        writer.enter_sources(folders[2:])
    assert [source.is_own for source in store.sources()] == [True]
    secret = tmp_path / "mine" / "flatcoat" / "secret"
    assert len(secret.read_bytes()) == 32
    assert secret.stat().st_mode & 0o77 == 0
    with Store.create(tmp_path / "other.index", {}) as other:
        with other.writer() as writer:
            writer.enter_sources(folders[1:2])
        connection = sqlite3.connect(store.path / "index.sqlite")
        seal = connection.execute("SELECT seal FROM sources").fetchone()
        with closing(sqlite3.connect(other.path / "index.sqlite")) as theirs, theirs:
            theirs.execute("UPDATE sources SET path = '../three', seal = ?", seal)
        connection.close()
        assert [source.is_own for source in other.sources()] == [False]
    at_home(tmp_path / "of another user")
    assert [source.is_own for source in store.sources()] == [False]


def test_reading_makes_no_secret(
    store: Store, folders: list[Path], tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    at_home(tmp_path / "home")
    assert store.sources() == []
    with store.writer() as writer:
        writer.add([Passage("a", "text")], VECTORS[:1])
    assert store.sources() == []
    assert not (tmp_path / "home").exists()
    with store.writer() as writer:
        writer.enter_sources(folders[2:])
    assert len((tmp_path / "home" / "flatcoat" / "secret").read_bytes()) == 32
    at_home(tmp_path / "other")
    (source,) = store.sources()
    with store.writer() as writer:
        writer.finish_source(source, "1:1")
    assert not source.is_own
    assert not (tmp_path / "other").exists()


def test_who_can_keep_no_secret_owns_no_source(
    store: Store, folders: list[Path], tmp_path: Path, at_home: Callable[[Path], None]
) -> None:
    (tmp_path / "file").write_text("no folder")
    at_home(tmp_path / "file")
    with store.writer() as writer:
        writer.enter_sources(folders[2:])
    assert [source.is_own for source in store.sources()] == [False]
