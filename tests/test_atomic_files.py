"""What is written atomically has its old content or all of the new, whatever comes between."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flatcoat.atomic_files import atomic_write, atomic_write_text
from flatcoat.backbone.model import ModernBert
from flatcoat.retrieval.encoders.int8_files import shrink

KILLED = """
import os, signal, sys
from pathlib import Path
from flatcoat.atomic_files import atomic_write

with atomic_write(Path(sys.argv[1])) as unfinished:
    if sys.argv[2] == "folder":
        unfinished.mkdir()
        unfinished /= "part"
    with unfinished.open("w") as file:
        file.write("half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    for text in ("one", "ä second time"):
        atomic_write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_write(path) as unfinished:
        (unfinished / "deep").mkdir(parents=True)
        (unfinished / "deep" / "weights").write_text("w")
        assert not path.exists()
    assert [entry.name for entry in path.rglob("*")] == ["deep", "weights"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_exception_leaves_what_was_there(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    path = tmp_path / "figures"
    if kind == "file":
        path.write_text("old")
    with pytest.raises(error), atomic_write(path) as unfinished:
        if kind == "folder":
            unfinished.mkdir()
            unfinished /= "part"
        unfinished.write_text("half")
        raise error
    assert [entry.read_text() for entry in tmp_path.iterdir()] == (["old"] if kind == "file" else [])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_leaves_what_was_there_and_the_next_write_clears_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "figures"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"figures", "figures.new"}
    atomic_write_text(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("figures", "new")]


def test_the_content_is_on_disk_before_the_rename_and_the_rename_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> Path:
        steps.append(f"rename {source.name}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    atomic_write_text(tmp_path / "a", "text")
    assert steps == ["fsync a.new", "rename a.new", f"fsync {tmp_path.name}"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_weights_can_be_read_by_others(tmp_path: Path, modernbert_folder: Path) -> None:
    other = tmp_path / "full" / "earlier" / "model.safetensors"
    other.parent.mkdir(parents=True)
    other.touch(mode=0o600)
    before = os.umask(0o027)
    try:
        ModernBert.from_pretrained(modernbert_folder).save_pretrained(tmp_path / "full")
        shrink(tmp_path / "full", tmp_path / "small")
    finally:
        os.umask(before)
    for file in (tmp_path / "full" / "model.safetensors", tmp_path / "small" / "model.int8.safetensors"):
        assert file.stat().st_mode & 0o777 == 0o640
    assert other.stat().st_mode & 0o777 == 0o600
