"""The examples of the documentation run as their first lines say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class ChatServer(HTTPServer):
    """Speaks OpenAI's chat completions, and answers with the first place among the excerpts it was given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Chat(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({"path": self.path, "key": self.headers["authorization"], **body})
        place = re.search(r"^\S+:\d+(-\d+)?$", body["messages"][-1]["content"], re.MULTILINE)
        text = f"It stands in [{place[0]}]." if place else "The excerpts do not say."
        values = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(values)))
        self.end_headers()
        self.wfile.write(values)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, EXAMPLES / "rag.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_model_is_asked_with_evidence_from_the_files(tmp_path: Path, chat: ChatServer) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "retries.md").write_text(
        "# Retries\n\nA request is sent again after 2, 4 and 8 seconds.\n\nThen the error is raised.\n"
    )
    (docs / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    asked = "after how many seconds is a request sent again?"
    first = ask(asked, docs, "--url", chat.url, "--model", "any")
    assert (first.returncode, first.stderr) == (0, "")
    assert re.search(r"It stands in \[retries\.md:\d+(-\d+)?\]\.\n$", first.stdout)
    (request,) = chat.asked
    assert (request["path"], request["model"]) == ("/v1/chat/completions", "any")
    question = request["messages"][-1]["content"]
    assert "after 2, 4 and 8 seconds" in question
    assert question.endswith(f"Question: {asked}")
    (docs / "retries.md").write_text("# Retries\n\nA request is sent again after 3 seconds.\n")
    assert "after 3 seconds" in ask(asked, docs, "--url", chat.url, "--model", "any").stdout


def test_what_goes_wrong_is_said_in_a_line(tmp_path: Path, chat: ChatServer) -> None:
    none = ask("why?", tmp_path / "none", "--url", chat.url, "--model", "any")
    assert none.returncode == 1
    assert none.stderr.startswith("error: ")
    assert none.stderr.count("\n") == 1


def test_the_container_starts_a_server_with_options_that_exist() -> None:
    text = (EXAMPLES / "Containerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    command = [sys.executable, "-m", *json.loads(entry)]
    command[command.index("/index")] = "/no/index"
    started = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "/no/index is not an index" in started.stderr
    extras = re.search(r"/source\[(.+)\]", text)
    assert extras
    project = (EXAMPLES.parents[1] / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras[1].split(","))
