"""The configuration of coding agents: files as people have them, changed in one place and changed back."""

import json
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from flatcoat import DataError
from flatcoat.retrieval.serving import jsonc
from flatcoat.retrieval.serving.agent_files import installed, uninstalled
from flatcoat.retrieval.serving.agents import Name, places

VSCODE = """\
{
\t// Servers of the team; see docs/mcp.md
\t"inputs": [
\t\t{ "type": "promptString", "id": "token", "password": true, },
\t],
\t"servers": {
\t\t"github": { "type": "http", "url": "https://api.example.com/mcp/" }, // "flatcoat": no
\t\t/* "old": {}, */
\t},
}
"""
OPENCODE = """\
{
  "$schema": "https://opencode.ai/config.json",
  // https://example.com has the themes
  "theme": "opencode"
}
"""
CLAUDE = (
    '{"numStartups":12,"tipsHistory":{"a":1},"projects":{"/x":{"mcpServers":{}}},"note":"caf\\u00e9 {\\"}"}'
)
CODEX = """\
model = "gpt-5"   # the large one
notify = [
  "python3",
  "/home/me/notify.py",
]

[mcp_servers.docs]
command = "npx"
args = ["-y", "docs-mcp"]

[mcp_servers.docs.env]
KEY = "[mcp_servers.flatcoat]"
# the end
"""
PROSE = "# House rules\r\n\r\nUse tabs.\r\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    (repository / "src").mkdir()
    monkeypatch.chdir(repository / "src")
    return repository


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def install(agent: Name, *, for_user: bool = False) -> None:
    for edit in installed(places(agent, for_user=for_user)):
        edit.write()


def uninstall(agent: Name, *, for_user: bool = False) -> None:
    for edit in uninstalled(places(agent, for_user=for_user)):
        edit.write()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("for_user", [False, True])
@pytest.mark.parametrize("agent", get_args(Name))
def test_what_was_not_there_is_made_and_removed(agent: Name, for_user: bool, repository: Path) -> None:
    home = repository.parent / "home" if for_user else repository
    install(agent, for_user=for_user)
    made = files(home)
    assert 1 <= len(made) <= 2
    install(agent, for_user=for_user)
    assert files(home) == made
    uninstall(agent, for_user=for_user)
    assert files(home) == {}


EXISTING: list[tuple[Name, str, str, str]] = [
    ("vscode", ".vscode/mcp.json", VSCODE, ".github/instructions/flatcoat.instructions.md"),
    ("opencode", "opencode.jsonc", OPENCODE, "AGENTS.md"),
    ("claude-code", ".mcp.json", CLAUDE, "CLAUDE.md"),
    ("claude-code", ".mcp.json", VSCODE.replace("servers", "mcpServers").replace("\n", "\r\n"), "CLAUDE.md"),
    ("gemini", ".gemini/settings.json", '{\n    "mcpServers": {\n        "a": {}\n    }\n}', "GEMINI.md"),
    ("cursor", ".cursor/mcp.json", '\ufeff{ "mcpServers": { "a": {} } }\n', ".cursor/rules/flatcoat.mdc"),
    ("codex", ".codex/config.toml", CODEX, "AGENTS.md"),
    ("codex", ".codex/config.toml", CODEX.replace("\n", "\r\n"), "AGENTS.md"),
    ("codex", ".codex/config.toml", 'model = "gpt-5"', "AGENTS.md"),
]


@pytest.mark.parametrize(("agent", "name", "text", "instructions"), EXISTING)
def test_what_was_there_stays_and_comes_back(
    agent: Name, name: str, text: str, instructions: str, repository: Path
) -> None:
    put(repository / name, text)
    if not instructions.endswith(("mdc", "instructions.md")):
        put(repository / instructions, PROSE)
    before = files(repository)
    install(agent)
    written = (repository / name).read_bytes().decode()
    for line in text.splitlines():
        assert line.rstrip(",} ") in written
    assert (agent == "codex" or jsonc.parse(written)) and written.count("\r\n") in (0, written.count("\n"))
    told = (repository / instructions).read_text()
    assert "find_related" in told and ("Use tabs." in told) == (instructions in before)
    uninstall(agent)
    after = files(repository)
    assert {path: text.rstrip() for path, text in after.items()} == {
        path: text.rstrip() for path, text in before.items()
    }


def test_what_is_written_is_what_agents_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # So that the command is this Python.
    put(repository / ".codex/config.toml", CODEX)
    for agent in get_args(Name):
        install(agent)
    codex = tomllib.loads((repository / ".codex/config.toml").read_text())
    claude = json.loads((repository / ".mcp.json").read_text())
    assert codex["mcp_servers"]["docs"]["env"] == {"KEY": "[mcp_servers.flatcoat]"}
    assert claude["mcpServers"]["flatcoat"].pop("type") == "stdio"
    assert codex["mcp_servers"]["flatcoat"] == claude["mcpServers"]["flatcoat"]
    assert codex["mcp_servers"]["flatcoat"]["args"] == ["-m", "flatcoat", "mcp"]
    assert json.loads((repository / "opencode.json").read_text())["mcp"]["flatcoat"]["command"][1:] == [
        "-m",
        "flatcoat",
        "mcp",
    ]
    vscode = json.loads((repository / ".vscode/mcp.json").read_text())["servers"]["flatcoat"]
    assert vscode["args"][-1] == "${workspaceFolder}"


def test_an_earlier_entry_is_replaced(repository: Path) -> None:
    put(repository / ".mcp.json", '{"mcpServers": {"flatcoat": {"command": "old"}, "b": {"c": 1}}}')
    put(
        repository / ".codex/config.toml",
        '[mcp_servers.flatcoat]\ncommand = "old"\n\n[mcp_servers.flatcoat.env]\n\n# next\n[b]\nc = 1\n',
    )
    install("claude-code")
    install("codex")
    servers = json.loads((repository / ".mcp.json").read_text())["mcpServers"]
    assert servers["b"] == {"c": 1} and servers["flatcoat"]["command"] != "old"
    text = (repository / ".codex/config.toml").read_text()
    assert tomllib.loads(text)["b"] == {"c": 1} and "old" not in text and "# next\n[b]" in text


@pytest.mark.parametrize(
    ("agent", "name", "text"),
    [
        ("claude-code", ".mcp.json", '{"mcpServers": {"a": }}'),
        ("claude-code", ".mcp.json", '{"mcpServers": []}'),
        ("claude-code", ".mcp.json", "[1]"),
        ("codex", ".codex/config.toml", "model = "),
        ("codex", ".codex/config.toml", 'mcp_servers = { docs = { command = "x" } }\n'),
        ("codex", ".codex/config.toml", 'note = """\n[mcp_servers.flatcoat]\n"""\n'),
    ],
)
def test_what_cannot_be_edited_is_left_alone(agent: Name, name: str, text: str, repository: Path) -> None:
    put(repository / name, text)
    with pytest.raises(DataError, match=name.rpartition("/")[2]):
        install(agent)
    assert files(repository) == {name: text.encode()}


def test_a_link_stays_one_and_permissions_are_kept(repository: Path) -> None:
    real = put(repository / "dotfiles" / "mcp.json", "{}\n")
    real.chmod(0o600)
    (repository / ".mcp.json").symlink_to(real)
    install("claude-code")
    assert (repository / ".mcp.json").is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert "flatcoat" in json.loads(real.read_text())["mcpServers"]


def test_the_command_shows_asks_and_writes(repository: Path) -> None:
    from flatcoat.__main__ import app

    def run(*arguments: str, answer: str = "") -> str:
        done = CliRunner().invoke(app, ["mcp", *arguments], input=answer)
        assert done.exit_code == 0, done.output
        return done.output

    assert "+++ " in run("install", "codex", "--dry-run") and "write this?" not in run(
        "install", "codex", "--dry-run"
    )
    assert "[mcp_servers.flatcoat]" in run("install", "codex", answer="n\n")
    assert files(repository) == {}
    assert "wrote" in run("install", "codex", answer="y\n")
    assert "nothing to change" in run("install", "codex", "--yes")
    assert "removed" in run("uninstall", "codex", "--yes")
    assert files(repository) == {}
    assert "nothing to change" in run("uninstall", "codex", "--yes")
