"""The command line of the server: what it says when it cannot start."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flatcoat", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{tmp}", "is not an index"),
        ("{tmp}/none", "is not an index"),
        ("a b={late}", "'a b' is no name for an index"),
    ],
)
def test_what_is_no_index_is_named(folders: dict[str, Path], tmp_path: Path, index: str, reason: str) -> None:
    done = serve("--index", index.format(tmp=tmp_path, late=folders["late"]), "--port", "0")
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_indexes_need_two_names(folders: dict[str, Path]) -> None:
    done = serve(f"--index={folders['late']}", f"--index=late={folders['dense']}", "--port=0")
    assert done.returncode == 1
    assert "two indexes are named late" in done.stderr


def test_a_port_in_use_is_named(folders: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("--index", str(folders["late"]), "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"error: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_an_empty_key_would_let_everybody_in(folders: dict[str, Path]) -> None:
    done = serve("--index", str(folders["late"]), "--api-key", " ")
    assert done.returncode == 2
    assert "an API key is empty" in done.stderr
