"""Waiting for changes below a folder."""

import sys
import threading
from pathlib import Path

import pytest

from flatcoat import FlatcoatError
from flatcoat.retrieval.sync import changes


def test_changes_are_told_and_those_of_the_index_are_not(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    index = tmp_path / ".flatcoat"
    index.mkdir()
    writing = threading.Timer(0.7, lambda: (tmp_path / "new.md").write_text("new"))
    own = threading.Timer(0.3, lambda: (index / "index.sqlite").write_text("own"))
    own.start()
    writing.start()
    following = changes([tmp_path], index, quiet_ms=50)
    next(following)
    assert (tmp_path / "new.md").exists()
    writing.join()
    own.join()


def test_without_watchfiles_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(FlatcoatError, match=r"pip install flatcoat\[watch\]"):
        next(changes([tmp_path], tmp_path / "index"))
