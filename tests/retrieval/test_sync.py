"""An index kept in step with folders and files: what is read, what is encoded, what is left."""

import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.reading import scan
from flatcoat.indexing.reading.columns import Columns
from flatcoat.indexing.vectors import Vectors
from flatcoat.retrieval import freshness, ingest
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.encoders.load import load_encoder

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


@pytest.fixture(autouse=True)
def folders_are_no_younger_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if they, too, had been written a while ago."""
    monkeypatch.setattr(freshness, "_FRESH_NS", -60 * 10**9)


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
    monkeypatch.setattr(scan, "read_file", None)
    generation = retriever.store.generation
    again = Retriever.open(retriever.store.path)
    added = again.add_files(root)
    assert (added.documents, added.unchanged, added.removed, added.renamed) == (0, 3, 0, 0)
    assert again._model._encoder is None
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


def test_what_code_defines_is_filtered_by_and_follows_the_files(retriever: Retriever, root: Path) -> None:
    def found(*where: str) -> list[tuple[str, Any]]:
        results = retriever.search("birds", k=9, mode="bm25", where=where)
        return [(result.document_id, result.metadata["symbol"]) for result in results]

    write(root / "src" / "birds.py", "class Birds:\n    def sing(self):\n        pass\n")
    write(root / "tool", "#!/bin/sh\n# birds\nsing() {\n  echo birds\n}\n")
    retriever.add_files(root)
    assert found("symbol=Birds.sing") == found("kind=class") == [("src/birds.py", "Birds, Birds.sing")]
    assert found("symbol=sing", "lang=bash", "exported=true") == [("tool", "sing")]
    (root / "src" / "birds.py").rename(root / "src" / "feathered.py")
    assert retriever.add_files(root).renamed == 1
    assert found("symbol^=Birds") == [("src/feathered.py", "Birds, Birds.sing")]
    write(root / "src" / "feathered.py", "def _birds():\n    pass\n")
    retriever.add_files(root)
    retriever.compact()
    assert found("symbol^=Birds") == []
    assert found("kind=function", "exported=false") == [("src/feathered.py", "_birds")]
    assert retriever.store.verify() == []


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
    monkeypatch.setattr(ingest, "BATCH", 2)
    for number in range(9):
        write(tmp_path / "many" / f"{number}.txt", f"text {number}")
    retriever = Retriever.create(tmp_path / "index", encoder)  # type: ignore[arg-type]
    encoder.fails_at = "text 6"
    with pytest.raises(RuntimeError, match="killed"):
        retriever.add_files(tmp_path / "many")
    assert sorted(held(retriever)) == [f"{number}.txt" for number in range(9)]
    assert encoder.encoded == [f"{number}.txt text {number}" for number in range(6)]
    encoder.encoded.clear()
    encoder.fails_at = None
    added = retriever.add_files(tmp_path / "many")
    assert (added.documents, added.unchanged, added.encoded) == (0, 9, 3)
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
    monkeypatch.setattr("flatcoat.indexing.chunking.chunk.chunk", lambda *_, **__: [])
    assert "blank.md" in {skip.path for skip in retriever.add_files().skipped}
    monkeypatch.undo()
    os.utime(root / "blank.md", (1, 1))
    assert retriever.add_files().documents == 1
    assert retriever.store.verify() == []


def adds_up(added: ingest.Added) -> bool:
    return added.found == added.documents + added.unchanged + added.renamed + len(added.skipped)


@pytest.fixture
def empty(tmp_path: Path, encoder: Counting) -> Retriever:
    return Retriever.create(tmp_path / "empty.index", encoder)  # type: ignore[arg-type]


def test_files_of_one_name_are_all_kept(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "docs" / "README.md", "how to groom an otter")
    write(tmp_path / "README.md", "clocks from quartz")
    for _ in range(2):
        added = empty.add_files(tmp_path / "docs", tmp_path / "README.md")
        assert adds_up(added)
        assert sorted(held(empty).values()) == ["clocks from quartz", "how to groom an otter"]
    assert added.unchanged == 2
    assert empty.search("otter", k=1, mode="bm25")[0].document_id == "docs/README.md"


def test_folders_of_one_name_in_turns_are_all_kept(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "p" / "docs" / "guide.md", "guide of p")
    write(tmp_path / "q" / "docs" / "guide.md", "guide of q")
    write(tmp_path / "r" / "docs" / "guide.md", "guide of r")
    empty.add_files(tmp_path / "p")
    empty.add_files(tmp_path / "q" / "docs")
    empty.add_files(tmp_path / "r" / "docs" / "guide.md")
    assert sorted(held(empty).values()) == ["guide of p", "guide of q", "guide of r"]
    assert empty.add_files().unchanged == 3
    write(tmp_path / "p" / "docs-2" / "guide.md", "a later guide of p")  # as a document of q is called
    assert empty.add_files().documents == 1
    assert len(held(empty)) == 4
    assert empty.add_files().unchanged == 4


def test_rows_documents_of_ones_own_and_files_share_an_id(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "docs" / "README.md", "from the folder")
    write(tmp_path / "rows.jsonl", json.dumps({"id": "README.md", "text": "from the rows"}))
    empty.add([Document("README.md", "of my own")])
    empty.add_files(tmp_path / "rows.jsonl")
    empty.add_files(tmp_path / "docs")
    assert sorted(held(empty).values()) == ["from the folder", "from the rows", "of my own"]
    assert held(empty)["README.md"] == "of my own"
    assert empty.add_files().unchanged == 2
    (taken,) = (id for id, text in held(empty).items() if text == "from the rows")
    with pytest.raises(FlatcoatError, match=f"'{taken}' is in index .* already, from .*rows.jsonl"):
        empty.add([Document(taken, "would replace a row")])
    assert held(empty)[taken] == "from the rows"


def test_names_that_differ_in_unicode_form_alone_are_two_documents(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "docs" / "re\u0301sume\u0301.md", "decomposed walrus")
    write(tmp_path / "docs" / "r\u00e9sum\u00e9.md", "composed walrus")
    assert empty.add_files(tmp_path / "docs").documents == 2
    assert len(held(empty)) == 2
    assert empty.add_files().unchanged == 2
    (tmp_path / "docs" / "r\u00e9sum\u00e9.md").unlink()
    assert empty.add_files().removed == 1
    assert held(empty) == {"r\u00e9sum\u00e9.md": "decomposed walrus"}


def test_a_source_that_is_gone_does_not_block_the_others(
    empty: Retriever, tmp_path: Path, encoder: Counting
) -> None:
    write(tmp_path / "docs" / "a.md", "walrus")
    write(tmp_path / "notes.md", "zebra")
    write(tmp_path / "rows.jsonl", json.dumps({"id": "1", "text": "yak"}))
    empty.add_files(tmp_path / "docs", tmp_path / "notes.md", tmp_path / "rows.jsonl")
    (tmp_path / "notes.md").unlink()
    (tmp_path / "rows.jsonl").write_bytes(b"no rows")
    write(tmp_path / "docs" / "b.md", "otter")
    added = empty.add_files()
    assert (added.documents, added.removed) == (1, 0)
    assert {Path(skip.path).name for skip in added.skipped} >= {"notes.md"}
    assert any("does not exist any more" in skip.reason for skip in added.skipped)
    assert adds_up(added)
    assert empty.forget(tmp_path / "notes.md") == 1
    assert "zebra" not in held(empty).values()
    assert all("notes.md" not in skip.path for skip in empty.add_files().skipped)
    with pytest.raises(FlatcoatError, match=r"is no source of index .*; its sources: .*docs"):
        empty.forget(tmp_path / "notes.md")


def test_what_cannot_be_read_at_the_moment_stays(
    empty: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.md", "closed/b.md", "closed/in/c.md", "locked.md"):
        write(tmp_path / "docs" / name, f"text of {name}")
    empty.add_files(tmp_path / "docs")
    before = held(empty)
    write(tmp_path / "docs" / "locked.md", "changed")
    scandir, opened = os.scandir, Path.open

    def refusing(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def locked(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "locked.md":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(Path, "open", locked)
    added = empty.add_files()
    assert (added.removed, added.unchanged) == (0, 1)
    assert {skip.path for skip in added.skipped} == {"closed/", "locked.md"}
    assert held(empty) == before
    monkeypatch.undo()
    added = empty.add_files()
    assert (added.removed, added.unchanged, added.documents) == (0, 3, 1)


def test_standard_input_is_not_read_again(
    empty: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(text: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))

    write(tmp_path / "docs" / "a.md", "walrus")
    piped(b"piped text")
    empty.add_files("-", tmp_path / "docs")
    piped(b"")
    assert empty.add_files().removed == 0
    assert "piped text" in held(empty).values()
    with pytest.raises(FlatcoatError, match="nothing to index in -"):
        empty.add_files("-")
    assert "piped text" in held(empty).values()
    piped(b"another text")
    assert empty.add_files("-").documents == 1
    assert "another text" in held(empty).values()
    empty.forget(tmp_path / "docs")
    with pytest.raises(FlatcoatError, match="no folder or file to bring up to date"):
        empty.add_files()
    assert list(held(empty).values()) == ["another text"]


def test_a_source_remembers_how_it_is_read(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "docs" / "a.md", "walrus")
    write(tmp_path / "docs" / "secret.txt", "password")
    write(tmp_path / "docs" / "old" / "b.md", "yak")
    write(tmp_path / "t.csv", "key,body,cat\n1,hello,x\n2,world,y\n")
    columns = Columns(id="key", text=("body", "cat"))
    empty.add_files(
        tmp_path / "docs", tmp_path / "t.csv", include=["*.md"], exclude=["old/"], columns=columns
    )
    before = held(empty)
    assert sorted(before.values()) == ["hello\nx", "walrus", "world\ny"]
    write(tmp_path / "t.csv", "key,body,cat\n1,hello,x\n2,world,y\n3,otter,z\n")
    again = Retriever.open(empty.store.path, empty.encoder)
    assert again.add_files().documents == 1
    assert again.add_files(tmp_path / "docs").unchanged == 1
    assert sorted(held(again).values()) == ["hello\nx", "otter\nz", "walrus", "world\ny"]
    docs, rows = again.store.sources()
    assert docs.reading.describe() == " (include *.md; exclude old/)"
    assert rows.reading.describe() == " (columns id=key, text=body+cat)"
    assert again.add_files(tmp_path / "docs", include=()).documents == 1
    assert "password" in held(again).values()
    with pytest.raises(FlatcoatError, match="no encoding 'utf-99'"):
        again.add_files(encoding="utf-99")


def test_another_encoding_has_files_and_rows_read_anew(empty: Retriever, tmp_path: Path) -> None:
    write(tmp_path / "docs" / "a.txt", "\u0436\u0443\u043a".encode("koi8_r"))
    write(tmp_path / "rows.csv", "id,text\n1,\u0436\u0443\u043a\n".encode("koi8_r"))
    roots = tmp_path / "docs", tmp_path / "rows.csv"
    empty.add_files(*roots, encoding="cp1251")
    assert "\u0436\u0443\u043a" not in held(empty).values()
    assert empty.add_files(encoding="koi8_r").documents == 2
    assert list(held(empty).values()) == ["\u0436\u0443\u043a"] * 2
    assert empty.add_files().unchanged == 2
    assert empty.add_files(*roots).unchanged == 2


def test_a_file_of_rows_that_breaks_off_takes_nothing_out(empty: Retriever, tmp_path: Path) -> None:
    rows = [
        json.dumps({"id": number, "text": f"text {number} " + random.randbytes(200).hex()})
        for number in range(200)
    ]
    whole = gzip.compress("\n".join(rows).encode())
    write(tmp_path / "rows.jsonl.gz", whole)
    assert empty.add_files(tmp_path / "rows.jsonl.gz").documents == 200
    write(tmp_path / "rows.jsonl.gz", whole[: len(whole) // 2])
    added = empty.add_files()
    assert adds_up(added)
    assert added.removed == 0
    assert any("rows.jsonl.gz" in skip.path for skip in added.skipped)
    assert empty.info().documents == 200
    write(tmp_path / "rows.jsonl.gz", gzip.compress(rows[0].encode()))
    assert empty.add_files().removed == 199


@pytest.mark.parametrize("how", ["replaced", "overwritten", "swapped"])
def test_a_change_of_equal_size_and_time_is_seen(empty: Retriever, tmp_path: Path, how: str) -> None:
    root = tmp_path / "docs"
    for name in ("one", "two"):
        write(root / f"{name}.md", f"text {name}")
        os.utime(root / f"{name}.md", (LONG_AGO, LONG_AGO))
    empty.add_files(root)
    if how == "replaced":
        write(tmp_path / "new.md", "text six")
        os.utime(tmp_path / "new.md", (LONG_AGO, LONG_AGO))
        (tmp_path / "new.md").replace(root / "one.md")
    elif how == "overwritten":
        (root / "one.md").write_text("text six")
        os.utime(root / "one.md", (LONG_AGO, LONG_AGO))
    else:
        (root / "one.md").rename(tmp_path / "aside")
        (root / "two.md").rename(root / "one.md")
        (tmp_path / "aside").rename(root / "two.md")
    empty.add_files()
    assert held(empty) == {file.name: file.read_text() for file in root.iterdir()}


def test_a_root_that_is_a_link_is_followed_as_a_link(empty: Retriever, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write(tmp_path / version / "a.md", f"text of {version}")
    (tmp_path / "current").symlink_to("v1")
    empty.add_files(tmp_path / "current")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("v2")
    assert empty.add_files().documents == 1
    assert held(empty) == {"a.md": "text of v2"}
    with pytest.raises(FlatcoatError, match="hold the same files"):
        empty.add_files(tmp_path)
    assert empty.add_files(tmp_path / "v2").unchanged == 1
    assert empty.forget(tmp_path / "v2") == 1


def test_links_above_index_and_root_do_not_keep_them_from_moving(encoder: Counting, tmp_path: Path) -> None:
    write(tmp_path / "disk" / "project" / "docs" / "a.md", "walrus")
    (tmp_path / "home").symlink_to("disk")
    project = tmp_path / "home" / "project"
    Retriever.create(project / "i.index", encoder).add_files(project / "docs")  # type: ignore[arg-type]
    (tmp_path / "disk" / "project").rename(tmp_path / "moved")
    moved = Retriever.open(tmp_path / "moved" / "i.index", encoder)  # type: ignore[arg-type]
    assert moved.add_files().unchanged == 1
    assert moved.add_files(tmp_path / "moved" / "docs" / ".." / "docs").unchanged == 1


def test_an_index_from_elsewhere_is_not_brought_up_to_date_unasked(
    empty: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "docs" / "a.md", "walrus")
    empty.add_files(tmp_path / "docs")
    write(tmp_path / "docs" / "private.md", "my password")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    with pytest.raises(FlatcoatError, match="another user or on another machine: name it"):
        empty.add_files()
    assert list(held(empty)) == ["a.md"]
    assert empty.add_files(tmp_path / "docs").documents == 1
    assert empty.add_files().unchanged == 2


def test_roots_that_cannot_be_are_refused_in_a_line(empty: Retriever) -> None:
    for root in ("x" * 5_000, "a\0b", "a\ud800", Path("/dev/null/x"), None, 3):
        with pytest.raises(FlatcoatError, match=r"^[^\n]*(no path|too long|does not exist)[^\n]*$"):
            empty.add_files(root)


def test_a_root_whose_name_is_no_text_is_read(empty: Retriever, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    write(root / "a.md", "walrus")
    empty.add_files(root)
    write(root / "b.md", "otter")
    added = empty.add_files()
    assert (added.documents, added.unchanged) == (1, 1)
    assert empty.forget(root) == 2


def test_a_rename_that_is_taken_back_after_a_cut_loses_nothing(
    empty: Retriever, tmp_path: Path, encoder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH", 1)
    write(tmp_path / "docs" / "a.md", "walrus")
    empty.add_files(tmp_path / "docs")
    (tmp_path / "docs" / "a.md").rename(tmp_path / "docs" / "b.md")
    for number in range(4):
        write(tmp_path / "docs" / f"new{number}.md", f"new {number}")
    encoder.fails_at = "new 1"
    with pytest.raises(RuntimeError, match="killed"):
        empty.add_files()
    assert "b.md" in held(empty)
    encoder.fails_at = None
    (tmp_path / "docs" / "b.md").rename(tmp_path / "docs" / "a.md")
    shutil.copy2(tmp_path / "docs" / "a.md", tmp_path / "docs" / "c.md")
    empty.add_files()
    assert held(empty) == {file.name: file.read_text() for file in (tmp_path / "docs").iterdir()}
    assert empty.store.verify() == []


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
            assert adds_up(with_index.add_files(root))
            files = [file for file in root.rglob("*") if file.is_file() and file.read_bytes() != b"\0"]
            assert held(with_index) == {file.relative_to(root).as_posix(): file.read_text() for file in files}
    assert with_index.store.verify() == []
    with_index.close()
