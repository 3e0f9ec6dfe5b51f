"""The coding agents that ``flatcoat mcp install`` knows: their files, and how they write down a server."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from flatcoat.retrieval.discovery import repository_of

from . import jsonc
from .agent_files import Places, read

Name = Literal["claude-code", "codex", "cursor", "vscode", "opencode", "gemini"]

_SERVER = "flatcoat"
_WORKSPACE = "${workspaceFolder}"  # VS Code and Cursor fill it in.


def places(agent: Name, *, for_user: bool = False, folder: Path | None = None) -> Places:
    """The files of an agent for the repository around ``folder`` (here), or for all projects of the user."""
    here = folder or Path.cwd()
    home = Path.home() if for_user else repository_of(here) or here
    return _AGENTS[agent](home, for_user)


def _claude_code(home: Path, for_user: bool) -> Places:
    entry = {"type": "stdio", **_command(for_user)}
    if for_user:
        return Places(home / ".claude.json", ["mcpServers", _SERVER], entry, home / ".claude" / "CLAUDE.md")
    return Places(home / ".mcp.json", ["mcpServers", _SERVER], entry, home / "CLAUDE.md")


def _codex(home: Path, for_user: bool) -> Places:
    folder = Path(os.environ.get("CODEX_HOME") or home / ".codex") if for_user else home / ".codex"
    instructions = folder / "AGENTS.md" if for_user else home / "AGENTS.md"
    return Places(folder / "config.toml", ["mcp_servers", _SERVER], _command(for_user), instructions)


def _cursor(home: Path, for_user: bool) -> Places:
    rules = None if for_user else home / ".cursor" / "rules" / "flatcoat.mdc"  # A user's are in its settings.
    header = "---\ndescription: How to search this repository\nalwaysApply: true\n---\n\n"
    entry = _command(for_user, _WORKSPACE)
    return Places(home / ".cursor" / "mcp.json", ["mcpServers", _SERVER], entry, rules, header)


def _vscode(home: Path, for_user: bool) -> Places:
    entry = {"type": "stdio", **_command(for_user, _WORKSPACE)}
    if for_user:
        return Places(_vscode_folder(home) / "mcp.json", ["servers", _SERVER], entry, None)
    rules = home / ".github" / "instructions" / "flatcoat.instructions.md"
    return Places(
        home / ".vscode" / "mcp.json", ["servers", _SERVER], entry, rules, '---\napplyTo: "**"\n---\n\n'
    )


def _opencode(home: Path, for_user: bool) -> Places:
    folder = home / ".config" / "opencode" if for_user else home
    names = ("opencode.json", "opencode.jsonc")
    configuration = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    command = _command(for_user)
    entry = {"type": "local", "command": [command["command"], *command["args"]], "enabled": True}
    member = ["mcp", _SERVER]
    text = read(configuration)
    if text and isinstance((jsonc.parse(text).data.get("mcp") or {}).get("servers"), dict):
        member = ["mcp", "servers", _SERVER]  # As OpenCode 2 writes it; it reads both.
    return Places(configuration, member, entry, folder / "AGENTS.md")


def _gemini(home: Path, for_user: bool) -> Places:
    instructions = home / ".gemini" / "GEMINI.md" if for_user else home / "GEMINI.md"
    return Places(
        home / ".gemini" / "settings.json", ["mcpServers", _SERVER], _command(for_user), instructions
    )


_AGENTS: dict[Name, Callable[[Path, bool], Places]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "cursor": _cursor,
    "vscode": _vscode,
    "opencode": _opencode,
    "gemini": _gemini,
}


def _vscode_folder(home: Path) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "Code" / "User"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", home / "AppData" / "Roaming")) / "Code" / "User"
    return home / ".config" / "Code" / "User"


def _command(for_user: bool, *arguments: str) -> dict[str, Any]:
    """What starts the server: by name in a repository, which others share, else by its absolute path."""
    found = shutil.which("flatcoat")
    if found is None:
        return {"command": sys.executable, "args": ["-m", "flatcoat", "mcp", *arguments]}
    return {"command": str(Path(found).absolute()) if for_user else "flatcoat", "args": ["mcp", *arguments]}
