"""The tools as an agent calls them: the real client, in memory, over stdio and over HTTP."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

pytest.importorskip("mcp.client", reason="pip install -c constraints.txt flatcoat[mcp]")

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from flatcoat import Retriever
from flatcoat.indexing.store.stats import Encoded
from flatcoat.retrieval.serving.mcp import mcp_server
from flatcoat.retrieval.serving.workspace import Workspace

BOAT = '''\
"""Boats."""


class Boat:
    """A boat with an engine."""

    def start_engine(self, choke):
        """Start the engine; a cold one needs the choke."""
        self.engine.fuel(choke)
        return self.engine.ignite()

    def drop_anchor(self, depth):
        """Drop the anchor to the ground."""
        self.anchor.lower(depth)
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with code in a folder of its own, and a page."""
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    (root / "src").mkdir()
    (root / "docs").mkdir()
    (root / "src" / "boat.py").write_text(BOAT)
    (root / "docs" / "birds.md").write_text("# Birds\n\nThe wren builds its nest of moss and leaves.\n")
    return root


@pytest.fixture
def workspace(repository: Path) -> Iterator[Workspace]:
    workspace = Workspace(repository, patience=60)  # Whatever else the machine does.
    yield workspace
    workspace.close()


class Agent:
    """What a client gets: one connection per call, in the task that opens it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def answer(self, tool: str, **arguments: Any) -> str:
        async with Client(mcp_server(self.workspace)) as client:
            return await answer(client, tool, **arguments)

    async def refusal(self, tool: str, **arguments: Any) -> str:
        async with Client(mcp_server(self.workspace)) as client:
            result = await client.call_tool(tool, arguments)
        assert result.is_error and result.content[0].type == "text"
        return result.content[0].text


@pytest.fixture
def agent(workspace: Workspace) -> Agent:
    return Agent(workspace)


async def answer(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert content.type == "text" and result.structured_content is None
    assert not result.is_error, content.text
    return content.text


async def test_tools_are_few_small_and_documented(workspace: Workspace) -> None:
    async with Client(mcp_server(workspace)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["search", "find_related", "read_passage", "index_status"]
    assert tools["search"].input_schema["required"] == ["query"]
    assert all(tool.description and tool.output_schema is None for tool in tools.values())
    assert len(str([tool.model_dump() for tool in tools.values()])) < 6_000


async def test_a_cold_start_answers_with_lines(agent: Agent, repository: Path) -> None:
    found = await agent.answer("search", query="a cold engine needs the choke", k=1)
    place, *lines = found.splitlines()
    assert re.match(r"src/boat\.py:\d+  .*\(lines \d+-\d+\)$", place)
    assert any(re.match(r" +8: ", line) for line in lines) and len(lines) <= 11
    assert (repository / ".flatcoat" / ".gitignore").read_text() == "*\n"
    places_only = await agent.answer("search", query="a cold engine needs the choke", k=1, lines=0)
    assert places_only.splitlines()[0] == place and "\n  " not in places_only


async def test_answers_follow_the_files(agent: Agent, repository: Path) -> None:
    assert "harpsichord" not in await agent.answer("search", query="harpsichord")
    page = repository / "docs" / "music.md"
    page.write_text("# Music\n\nThe harpsichord is plucked.\n")
    assert "docs/music.md:3" in await agent.answer("search", query="harpsichord")
    page.unlink()
    assert "harpsichord" not in await agent.answer("search", query="harpsichord")


async def test_vectors_come_by_themselves(agent: Agent, workspace: Workspace) -> None:
    await agent.answer("search", query="nest")
    for _ in range(600):
        if workspace.mode == "hybrid" and workspace.opened().store.encoded().is_complete:
            break
        await asyncio.sleep(0.1)
    status = await agent.answer("index_status")
    assert "searches now rank by: hybrid" in status and "model: flatcoat-minilm" in status
    assert "docs/birds.md:" in await agent.answer("search", query="where do small birds breed?")


async def test_much_is_ranked_by_bm25_until_it_is_encoded(
    agent: Agent, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await test_vectors_come_by_themselves(agent, workspace)
    store = workspace.opened().store
    for passages, mode in ((7_000, "hybrid"), (8_500, "bm25"), (94_000, "bm25"), (96_000, "hybrid")):
        monkeypatch.setattr(store, "encoded", lambda passages=passages: Encoded(passages, of=100_000))
        assert workspace.mode == mode


async def test_the_status_counts_what_was_skipped(agent: Agent, repository: Path) -> None:
    assert "files skipped: none" in await agent.answer("index_status")
    (repository / "docs" / "photo.png").write_bytes(bytes(range(256)))
    for name in ("empty.md", "blank.md"):
        (repository / "docs" / name).touch()
    assert "files skipped: 2 empty, 1 binary" in await agent.answer("index_status")


async def test_a_search_below_a_folder_or_in_a_file(agent: Agent, repository: Path) -> None:
    assert "boat.py" not in await agent.answer("search", query="boat nest", path="docs")
    assert "birds.md" not in await agent.answer("search", query="boat nest", path="src/boat.py")
    assert "birds.md" in await agent.answer("search", query="boat nest", path=str(repository / "docs"))
    assert "name a folder" in await agent.refusal("search", query="boat", path="/etc")


async def test_a_passage_is_read_whole_and_has_relatives(agent: Agent) -> None:
    passage = await agent.answer("read_passage", path="src/boat.py", line=9)
    assert passage.startswith("src/boat.py:") and "    9          self.engine.fuel(choke)" in passage
    related = await agent.answer("find_related", path="docs/birds.md", line=3)
    assert "birds.md" not in related
    assert "not in the index" in await agent.refusal("read_passage", path="src/none.py", line=1)
    assert "not in the index" in await agent.refusal("find_related", path="/etc/passwd", line=1)


async def test_a_long_passage_is_cut_to_the_length_of_an_answer(agent: Agent, repository: Path) -> None:
    (repository / "docs" / "list.md").write_text("".join(f"zebra {n} {'x' * 300}\n" for n in range(200)))
    found = await agent.answer("search", query="zebra", k=50, lines=50)
    read = await agent.answer("read_passage", path="docs/list.md", line=3)
    assert len(found) < 9_000 and len(read) < 8_000


async def test_a_wrong_call_says_what_is_wrong(agent: Agent) -> None:
    assert "the query is empty" in await agent.refusal("search", query=" ")
    assert "k" in await agent.refusal("search", query="boat", k=0)


async def test_paths_are_those_of_the_callers_folder(repository: Path) -> None:
    workspace = Workspace(repository / "src")
    try:
        async with Client(mcp_server(workspace)) as client:
            found = await answer(client, "search", query="engine nest", lines=0)
            assert "\nboat.py:" in f"\n{found}" and f"{repository}/docs/birds.md:" in found
            assert "engine.ignite" in await answer(client, "read_passage", path="boat.py", line=9)
            assert "wren" in await answer(client, "read_passage", path="docs/birds.md", line=3)
    finally:
        workspace.close()
    assert not (repository / "src" / ".flatcoat").exists()


async def test_only_the_first_answers_wait_for_an_index_that_is_being_made(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = Event()

    class Slow(Workspace):
        def _compare(self) -> None:
            may_go_on.wait()
            super()._compare()

    monkeypatch.setattr("flatcoat.retrieval.serving.workspace._FIRST_SECONDS", 2)
    workspace = Slow(repository, patience=0.1)
    times = [time.monotonic()]
    for _ in range(2):
        assert not workspace.bring_up_to_date().is_complete
        times.append(time.monotonic())
    may_go_on.set()
    workspace.close()
    assert times[1] - times[0] > 1.5 and times[2] - times[1] < 1


async def test_an_index_that_another_process_writes_still_answers(repository: Path) -> None:
    first = Workspace(repository)
    first.bring_up_to_date()
    assert first.close()
    with Retriever.open(repository / ".flatcoat").store.writer():
        second = Workspace(repository)
        async with Client(mcp_server(second)) as client:
            found = await answer(client, "search", query="nest")
            assert "docs/birds.md:3" in found and "still being made" in found
    second.close()


async def test_a_folder_without_text_says_so(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with Client(mcp_server(workspace)) as client:
        assert "nothing to index" in await answer(client, "search", query="anything")
    workspace.close()


def subprocess_environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}


async def test_over_stdio(repository: Path, tmp_path: Path) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "flatcoat", "mcp"],
        cwd=str(repository / "docs"),
        env=subprocess_environment(tmp_path),
    )
    async with Client(stdio_client(parameters)) as client:
        assert "birds.md:3" in await answer(client, "search", query="nest")
        assert f"index: {repository / '.flatcoat'}" in await answer(client, "index_status")


async def test_over_http(repository: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    index = tmp_path / "my.index"
    command = [sys.executable, "-m", "flatcoat", "mcp", str(repository), "--index", str(index)]
    server = subprocess.Popen(
        [*command, "--http", "--port", str(port)],
        env=subprocess_environment(tmp_path),
        stderr=subprocess.PIPE,
    )
    try:
        await asyncio.to_thread(wait_for, port, server)
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert "docs/birds.md:3" in await answer(client, "search", query="nest")
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert (index / "index.sqlite").exists() and not (repository / ".flatcoat").exists()


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None, server.communicate()
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at port {port}")


async def test_calls_may_come_together(workspace: Workspace) -> None:
    async with Client(mcp_server(workspace)) as client:
        queries = ["nest", "anchor", "engine"] * 5
        answers = await asyncio.gather(*(answer(client, "search", query=query, k=1) for query in queries))
    for query, found in zip(queries, answers, strict=True):
        assert query in found


@pytest.mark.slow
async def test_a_killed_server_leaves_an_index_for_the_next(repository: Path, tmp_path: Path) -> None:
    for number in range(400):
        (repository / "docs" / f"{number}.md").write_text(
            f"# Page {number}\n\nIt is about item{number}.\n" * 20
        )
    command = [sys.executable, "-m", "flatcoat", "mcp", str(repository)]
    server = subprocess.Popen(
        command, env=subprocess_environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not (repository / ".flatcoat" / "index.sqlite").exists():
        assert server.poll() is None
        time.sleep(0.05)
    server.kill()
    server.communicate()
    workspace = Workspace(repository, patience=60)
    try:
        found = await Agent(workspace).answer("search", query="item399", k=1)
        assert "docs/399.md" in found and "still being made" not in found
    finally:
        workspace.close()
    assert Retriever.open(repository / ".flatcoat").store.verify() == []


async def test_a_copied_repository_is_answered_from_itself(repository: Path, tmp_path: Path) -> None:
    first = Workspace(repository)
    first.bring_up_to_date()
    first.close()
    copy = shutil.copytree(repository, tmp_path / "copy")
    (copy / "docs" / "birds.md").write_text("# Birds\n\nThe heron fishes.\n")
    second = Workspace(copy, patience=60)
    try:
        agent = Agent(second)
        assert "docs/birds.md:3" in await agent.answer("search", query="heron", k=1)
        assert "wren" not in await agent.answer("search", query="wren")
    finally:
        second.close()


async def test_a_worktree_has_an_index_of_its_own(repository: Path) -> None:
    main = Workspace(repository)
    main.bring_up_to_date()
    main.close()
    worktree = repository / "worktrees" / "topic"
    worktree.mkdir(parents=True)
    (worktree / ".git").write_text("gitdir: elsewhere\n")
    (worktree / "only_here.md").write_text("The heron fishes.\n")
    workspace = Workspace(worktree, patience=60)
    try:
        agent = Agent(workspace)
        assert "only_here.md:1" in await agent.answer("search", query="heron", k=1)
        assert "wren" not in await agent.answer("search", query="wren")
    finally:
        workspace.close()
    assert (worktree / ".flatcoat" / "index.sqlite").exists()


async def test_a_home_folder_is_not_indexed_unasked(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "home", lambda: repository / "src")
    (repository / ".git").rmdir()
    for folder in (repository / "src", repository):
        workspace = Workspace(folder)
        assert "is no project" in await Agent(workspace).refusal("search", query="boat")
        workspace.close()
        assert not (folder / ".flatcoat").exists()
