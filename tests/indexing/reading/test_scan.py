"""What changed in a source since it was last read."""

import gzip
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from flatcoat.indexing.reading.gitignore import UNREADABLE
from flatcoat.indexing.reading.scan import (
    FileState,
    Finished,
    Gone,
    Read,
    Scanned,
    Skipped,
    Unchanged,
    scan,
)


class Memory:
    """What an index would hold: the states of files, the names of rows in batches of two."""

    def __init__(self, files: Mapping[str, FileState] | None = None, rows: Sequence[str] = ()) -> None:
        self.state = ""
        self._files, self._rows = files or {}, sorted(rows)

    def files(self) -> Mapping[str, FileState]:
        return self._files

    def count(self) -> int:
        return len(self._rows)

    def names(self, after: str) -> Sequence[str]:
        return [name for name in self._rows if name > after][:2]

    def remember(self, scanned: Sequence[Scanned]) -> None:
        """As an index does: keep the states of files and rows, drop the names that are gone."""
        files = dict(self._files)
        for item in scanned:
            if isinstance(item, Read | Unchanged | Skipped) and item.state:
                files[item.name] = item.state
            elif isinstance(item, Gone):
                files = {name: state for name, state in files.items() if name not in item.names}
            elif isinstance(item, Finished):
                self.state = item.state
        self._files = files


def write(path: Path, text: str) -> None:
    """A file that was written long enough ago to have a state."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


def kinds(scanned: Sequence[Scanned]) -> list[tuple[str, object]]:
    return [
        (type(item).__name__, sorted(item.names) if isinstance(item, Gone) else item[0]) for item in scanned
    ]


def test_files_are_unchanged_read_skipped_moved_and_gone(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "cats")
    write(tmp_path / "b.md", "dogs")
    write(tmp_path / "c.png", "\0")
    known = Memory()
    first = list(scan(tmp_path, known))
    assert kinds(first) == [("Read", "a.md"), ("Read", "b.md"), ("Skipped", "c.png")]
    known.remember(first)
    assert kinds(list(scan(tmp_path, known))) == [
        ("Unchanged", "a.md"),
        ("Unchanged", "b.md"),
        ("Skipped", "c.png"),
    ]
    (tmp_path / "a.md").rename(tmp_path / "z.md")
    write(tmp_path / "b.md", "other dogs")
    (tmp_path / "c.png").unlink()
    changed = list(scan(tmp_path, known))
    assert kinds(changed) == [("Read", "b.md"), ("Read", "z.md"), ("Gone", ["a.md", "c.png"])]
    assert [item.moved_from for item in changed if isinstance(item, Read)] == [None, "a.md"]
    known.remember(changed)
    (tmp_path / "b.md").touch()
    (touched, _) = scan(tmp_path, known)
    assert isinstance(touched, Unchanged) and touched.state


def test_nothing_is_gone_from_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "a.md", "cats")
    known = Memory()
    known.remember(list(scan(tmp_path, known)))

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    (skipped,) = scan(tmp_path, known)
    assert skipped == Skipped(".", f"{UNREADABLE}: Permission denied")


def test_rows_are_read_and_the_missing_ones_gone_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, "".join(json.dumps({"id": id, "text": "x"}) + "\n" for id in "ace") + "not json\n")
    known = Memory(rows=list("abcde"))
    scanned = list(scan(path, known))
    assert [item for item in scanned if isinstance(item, Gone)] == [Gone(["b"]), Gone(["d"]), Gone([])]
    assert kinds(scanned)[:3] == [("Read", "a"), ("Read", "c"), ("Read", "e")]
    assert isinstance(scanned[3], Skipped)
    assert isinstance(scanned[-1], Finished)
    known.remember(scanned)
    assert list(scan(path, known)) == [Unchanged(str(path), documents=5)]


def test_rows_that_break_off_are_not_gone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    rows = "".join(
        json.dumps({"id": str(id), "text": random.Random(id).randbytes(30).hex()}) + "\n"
        for id in range(9_999)
    )
    path.write_bytes(gzip.compress(rows.encode())[:-1_000])
    scanned = list(scan(path, Memory(rows=["0", "a row of before"])))
    assert isinstance(scanned[0], Read)
    assert scanned[-1][0] == str(path)
    assert {type(item) for item in scanned} == {Read, Skipped}


def test_a_file_that_cannot_be_read_keeps_no_others(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path / "loop-notes.md", "# Loops")
    memory = Memory()
    memory.remember(list(scan(tmp_path, memory)))
    (tmp_path / "loop-notes.md").unlink()
    scanned = list(scan(tmp_path, memory))
    assert next(item.reason for item in scanned if isinstance(item, Skipped)).startswith(UNREADABLE)
    assert [item.names for item in scanned if isinstance(item, Gone)] == [["loop-notes.md"]]
