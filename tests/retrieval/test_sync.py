"""An index kept in step with folders and files: what is read, what is encoded, what is left."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.types import Vectors
from flatcoat.retrieval import adding, sync
from flatcoat.retrieval.encoding import Encoder
from flatcoat.retrieval.load import load_encoder

MakeFolder = Callable[..., Path]
LONG_AGO = 1_600_000_000
clock = count(LONG_AGO)


class Counting:
    """An encoder that keeps what it encoded, and fails when told to."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.encoded: list[str] = []
        self.fails_at: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if self.fails_at is not None and any(self.fails_at in text for text in texts):
            raise RuntimeError("killed")
        self.encoded += texts
        return self._encoder.encode_documents(texts)


@pytest.fixture(scope="module")
def real_encoder(make_colbert: MakeFolder) -> Encoder:
    return load_encoder(make_colbert(), device="cpu")


@pytest.fixture
def encoder(real_encoder: Encoder) -> Counting:
    return Counting(real_encoder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cats.md", "dogs.md", "src/birds.py"):
        write(tmp_path / "root" / name, f"all about {Path(name).stem}")
    return tmp_path / "root"


@pytest.fixture
def retriever(tmp_path: Path, encoder: Counting, root: Path) -> Iterator[Retriever]:
    retriever = Retriever.create(tmp_path / "index", encoder)  # type: ignore[arg-type]
    assert retriever.add_files(root).documents == 3
    encoder.encoded.clear()
    yield retriever
    retriever.close()


def write(path: Path, text: str | bytes) -> None:
    """A file that was written a while ago, later than all before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, (now := next(clock), now))


def held(retriever: Retriever) -> dict[str, str]:
    """All documents of a passage each, by id."""
    rows = retriever.store.rows_where([])
    return {passage.document_id: passage.text for passage in retriever.store.passages(rows)}


def test_nothing_changed_nothing_is_read(
    retriever: Retriever, root: Path, encoder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "read_file", None)
    generation = retriever.store.generation
    again = Retriever.open(retriever.store.path)
    added = again.add_files(root)
    assert (added.documents, added.unchanged, added.removed, added.renamed) == (0, 3, 0, 0)
    assert again._encoder is None
    assert again.store.generation == generation
    assert Retriever.open(retriever.store.path).add_files().unchanged == 3


def test_only_what_changed_is_encoded(retriever: Retriever, root: Path, encoder: Counting) -> None:
    write(root / "cats.md", "cats changed")
    write(root / "new.md", "all new")
    (root / "dogs.md").unlink()
    (root / "src" / "birds.py").rename(root / "src" / "feathered.py")
    added = retriever.add_files(root)
    assert (added.documents, added.unchanged, added.removed, added.renamed) == (2, 0, 1, 1)
    assert sorted(encoder.encoded) == ["cats.md cats changed", "new.md all new"]
    assert held(retriever) == {
        "cats.md": "cats changed",
        "new.md": "all new",
        "src/feathered.py": "all about birds",
    }
    (renamed,) = retriever.search("feathered", k=1, mode="bm25")
    assert (renamed.title, renamed.metadata["path"]) == ("src/feathered.py", "src/feathered.py")
    assert not retriever.search("birds.py", where=["path=src/birds.py"])
    assert retriever.store.verify() == []
    assert retriever.add_files(root).unchanged == 3


def test_a_file_that_was_only_touched_is_not_encoded(
    retriever: Retriever, root: Path, encoder: Counting
) -> None:
    write(root / "cats.md", "all about cats")
    assert retriever.add_files(root).unchanged == 3
    assert encoder.encoded == []
    states = retriever.store.file_states(1)
    assert states["cats.md"].state.endswith(f"{(root / 'cats.md').stat().st_mtime_ns}")


def test_a_copy_of_a_file_that_stays_is_no_rename(
    retriever: Retriever, root: Path, encoder: Counting
) -> None:
    shutil.copy2(root / "cats.md", root / "copy.md")
    added = retriever.add_files(root)
    assert (added.documents, added.renamed, added.removed) == (1, 0, 0)
    assert held(retriever)["copy.md"] == held(retriever)["cats.md"]


def test_what_becomes_unreadable_goes_and_what_becomes_readable_comes(
    retriever: Retriever, root: Path
) -> None:
    write(root / "cats.md", b"\0\1")
    write(root / "dogs.md", "  \n")
    added = retriever.add_files(root)
    assert sorted(held(retriever)) == ["src/birds.py"]
    assert {skip.path: skip.reason for skip in added.skipped} == {"cats.md": "binary", "dogs.md": "empty"}
    again = retriever.add_files(root)
    assert sorted(again.skipped) == sorted(added.skipped)
    write(root / "cats.md", "back")
    assert retriever.add_files(root).documents == 1
    assert held(retriever)["cats.md"] == "back"


def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, encoder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "BATCH", 2)
    for number in range(9):
        write(tmp_path / "many" / f"{number}.txt", f"text {number}")
    retriever = Retriever.create(tmp_path / "index", encoder)  # type: ignore[arg-type]
    encoder.fails_at = "text 6"
    with pytest.raises(RuntimeError, match="killed"):
        retriever.add_files(tmp_path / "many")
    assert sorted(held(retriever)) == [f"{number}.txt" for number in range(6)]
    encoder.encoded.clear()
    encoder.fails_at = None
    added = retriever.add_files(tmp_path / "many")
    assert (added.documents, added.unchanged) == (3, 6)
    assert encoder.encoded == [f"{number}.txt text {number}" for number in (6, 7, 8)]
    assert retriever.store.verify() == []


def test_what_was_removed_by_hand_comes_back_with_its_file(retriever: Retriever, root: Path) -> None:
    assert retriever.remove(["cats.md"]) == 1
    assert retriever.add_files(root).documents == 1
    assert sorted(held(retriever)) == ["cats.md", "dogs.md", "src/birds.py"]


def test_documents_of_ones_own_stay(retriever: Retriever, root: Path) -> None:
    retriever.add([Document("mine", "my own text")])
    (root / "cats.md").unlink()
    assert retriever.add_files(root).removed == 1
    assert sorted(held(retriever)) == ["dogs.md", "mine", "src/birds.py"]


def test_several_roots_in_one_index(retriever: Retriever, root: Path, tmp_path: Path) -> None:
    write(tmp_path / "other" / "docs" / "cats.md", "other cats")
    write(tmp_path / "more" / "docs" / "cats.md", "more cats")
    added = retriever.add_files(tmp_path / "other" / "docs", tmp_path / "more" / "docs")
    assert added.documents == 2
    ours = {"cats.md": "all about cats", "dogs.md": "all about dogs", "src/birds.py": "all about birds"}
    assert held(retriever) == ours | {"docs/cats.md": "other cats", "docs-2/cats.md": "more cats"}
    (tmp_path / "other" / "docs" / "cats.md").unlink()
    added = retriever.add_files()
    assert (added.removed, added.unchanged) == (1, 4)
    for overlapping in (root / "src", tmp_path):
        with pytest.raises(FlatcoatError, match="hold the same files"):
            retriever.add_files(overlapping)


def test_an_index_moves_with_its_folder(tmp_path: Path, encoder: Counting) -> None:
    write(tmp_path / "here" / "cats.md", "cats")
    Retriever.create(tmp_path / "here" / ".flatcoat", encoder).add_files(tmp_path / "here")  # type: ignore[arg-type]
    encoder.encoded.clear()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Retriever.open(tmp_path / "there" / ".flatcoat", encoder)  # type: ignore[arg-type]
    assert moved.add_files().unchanged == 1
    assert moved.add_files(tmp_path / "there").unchanged == 1


def test_a_root_that_moved_is_found_again(retriever: Retriever, root: Path, tmp_path: Path) -> None:
    root.rename(tmp_path / "gone")
    with pytest.raises(FlatcoatError, match="does not exist"):
        retriever.add_files()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gone").rename(tmp_path / "elsewhere" / "root")
    assert retriever.add_files(tmp_path / "elsewhere" / "root").unchanged == 3
    assert len(retriever.store.sources()) == 1


def test_rows_that_are_gone_go(retriever: Retriever, tmp_path: Path, encoder: Counting) -> None:
    def rows(**texts: str) -> None:
        lines = [json.dumps({"id": id, "text": text}) for id, text in texts.items()]
        write(tmp_path / "rows.jsonl", "\n".join(lines))

    rows(a="one", b="two")
    assert retriever.add_files(tmp_path / "rows.jsonl").documents == 2
    encoder.encoded.clear()
    rows(b="two", c="three")
    added = retriever.add_files(tmp_path / "rows.jsonl")
    assert (added.documents, added.unchanged, added.removed) == (1, 1, 1)
    assert encoder.encoded == ["three"]
    assert {"b", "c"} <= held(retriever).keys()
    assert "a" not in held(retriever)
    assert retriever.add_files(tmp_path / "rows.jsonl").unchanged == 2


def test_rows_of_two_files_may_have_the_same_ids(retriever: Retriever, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / f"{name}.jsonl", json.dumps({"id": "7", "text": f"text {name}"}))
    assert retriever.add_files(tmp_path / "one.jsonl", tmp_path / "two.jsonl").documents == 2
    assert {"7", "two.jsonl/7"} <= held(retriever).keys()
    (tmp_path / "one.jsonl").write_text(json.dumps({"id": "8", "text": "another text"}))
    assert retriever.add_files().removed == 1
    assert {"8", "two.jsonl/7"} <= held(retriever).keys()


def test_a_file_that_gave_no_passage_is_still_skipped_when_it_is_touched(
    retriever: Retriever, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "blank.md", "to be lost")
    monkeypatch.setattr("flatcoat.retrieval.retriever.chunk", lambda *_, **__: [])
    assert "blank.md" in {skip.path for skip in retriever.add_files().skipped}
    monkeypatch.undo()
    os.utime(root / "blank.md", (1, 1))
    assert retriever.add_files().documents == 1
    assert retriever.store.verify() == []


names = st.sampled_from(["a.md", "b.md", "c/d.md", "c/e.py"])
step = st.one_of(
    st.tuples(st.just("write"), names, st.sampled_from(["one text", "two texts", "three texts", "\0"])),
    st.tuples(st.just("delete"), names, st.just("")),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(step, max_size=12))
def test_after_any_changes_the_index_holds_the_files(
    real_encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    place = tmp_path_factory.mktemp("any")
    root = place / "root"
    write(root / "always.md", "always there")
    with_index = Retriever.create(place / "index", real_encoder)
    for what, name, other in [*steps, ("sync", "", "")]:
        path = root / name
        if what == "write":
            write(path, other)
        elif what == "delete":
            path.unlink(missing_ok=True)
        elif what == "rename" and path.exists():
            (root / other).parent.mkdir(exist_ok=True)
            path.rename(root / other)
        elif what == "sync":
            with_index.add_files(root)
            files = [file for file in root.rglob("*") if file.is_file() and file.read_bytes() != b"\0"]
            assert held(with_index) == {file.relative_to(root).as_posix(): file.read_text() for file in files}
    assert with_index.store.verify() == []
    with_index.close()
