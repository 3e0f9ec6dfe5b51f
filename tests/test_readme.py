"""Every block of the README runs as it stands. (The test command is what runs this.)"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_tour_runs(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "birds.md").write_text("# Birds\n\nThe wren builds its nest of moss and leaves.\n")
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sky:1 The sky is blue" in done.stdout


def test_the_start_command_indexes_and_finds(tmp_path: Path) -> None:
    flatcoat = [line for line in blocks("sh")[0].splitlines() if line.startswith("flatcoat ")]
    assert len(flatcoat) == 2
    # The backbone alone stands for the whole repository, to keep the test short.
    shutil.copytree(Path(__file__).parents[1] / "backbone", tmp_path / "backbone")
    for line in flatcoat:
        words = shlex.split(line.removesuffix("&&"))[1:]
        done = subprocess.run(
            [sys.executable, "-m", "flatcoat", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "packing.py" in done.stdout


def test_the_test_command_is_where_the_check_of_a_change_reads_it() -> None:
    match = re.search(r"<!-- tests -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert match and match[1].strip().endswith("pytest -q")


def test_the_pictures_are_there_and_drawn() -> None:
    pictures = re.findall(r"!\[[^\]]{20,}\]\((docs/assets/[\w.]+)\)", README)
    assert len(pictures) == 3
    for picture in pictures:
        data = (Path(__file__).parents[1] / picture).read_bytes()
        assert data.startswith((b"<svg", b"\x89PNG"))
