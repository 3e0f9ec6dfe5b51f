"""The files of a coding agent with flatcoat in them, and without it: configuration and instructions.

Only flatcoat's own entry is written. A file that cannot be edited without harm is left alone, with an error.
"""

import difflib
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from flatcoat.atomic_files import atomic_write
from flatcoat.errors import DataError

from . import jsonc

_BEGIN, _END = "<!-- flatcoat: begin -->", "<!-- flatcoat: end -->"

_INSTRUCTIONS = """\
## Searching this repository

The MCP server flatcoat searches the code and documents here by meaning and by words, and follows the files.

- To find where something is or how it works, call its `search` first, in plain words or with identifiers.
  Go to the lines that it names; do not grep for them again.
- `find_related` (path, line) finds similar code, callers, tests and documentation; `read_passage` shows a
  whole function or section.
- grep is right for every occurrence of an exact string.
"""


class Edit(NamedTuple):
    """A file as it is and as it is to be; None where there is none."""

    path: Path
    before: str | None
    after: str | None

    def diff(self) -> str:
        """The change as a unified diff."""
        before, after = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        old, new = ("/dev/null" if text is None else str(self.path) for text in (self.before, self.after))
        changed = difflib.unified_diff(before, after, old, new)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in changed)

    def write(self) -> None:
        """Make the change, through links, keeping the permissions. OSError where that cannot be."""
        path = self.path.resolve()
        if self.after is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(self.after.encode())
            if path.exists():
                shutil.copymode(path, unfinished)


class Places(NamedTuple):
    """The files of an agent: its configuration, how its servers are written there, and its instructions.

    ``instructions`` is None where the agent has no file for them; a ``header`` begins a file of their own.
    """

    configuration: Path
    member: Sequence[str]
    entry: Mapping[str, Any]
    instructions: Path | None
    header: str | None = None


def installed(agent: Places) -> list[Edit]:
    """The edits that add flatcoat. DataError where a file is not what it should be."""
    before = read(agent.configuration)
    is_toml = agent.configuration.suffix == ".toml"
    after = (_with_table if is_toml else _with_json)(before or "", agent)
    edits = [Edit(agent.configuration, before, after)]
    if agent.instructions:
        told = read(agent.instructions)
        block = f"{_BEGIN}\n{_INSTRUCTIONS}{_END}\n"
        if agent.header is None:
            edits.append(Edit(agent.instructions, told, _with_block(told or "", block)))
        else:
            edits.append(Edit(agent.instructions, told, agent.header + block))
    return edits


def uninstalled(agent: Places) -> list[Edit]:
    """The edits that take flatcoat out; a file that holds nothing else is removed."""
    edits = []
    if (before := read(agent.configuration)) is not None:
        is_toml = agent.configuration.suffix == ".toml"
        after = _without_table(before, agent) if is_toml else _without_json(before, agent)
        edits.append(Edit(agent.configuration, before, after))
    if agent.instructions and (told := read(agent.instructions)) is not None:
        rest = _without_block(told)
        is_empty = not rest.strip() or rest.strip() == (agent.header or "").strip()
        edits.append(Edit(agent.instructions, told, None if is_empty and rest != told else rest))
    return edits


def read(path: Path) -> str | None:
    """The text of a file, None where there is none; DataError where it is not in UTF-8."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: it is left as it is") from error


def _with_json(text: str, agent: Places) -> str:
    """The text with flatcoat's member; every other value is checked to be what it was."""
    try:
        after = jsonc.with_member(text, agent.member, dict(agent.entry))
        rest = jsonc.parse(jsonc.without_member(after, agent.member)).data
        was = jsonc.parse(jsonc.without_member(text, agent.member)).data if text.strip() else {}
    except DataError as error:
        raise DataError(f"{agent.configuration}: {error}; it is left as it is") from error
    if _pruned(rest, agent.member) != _pruned(was, agent.member):
        raise DataError(f"{agent.configuration} cannot be edited without harm: add the server by hand")
    return after


def _without_json(text: str, agent: Places) -> str | None:
    try:
        after = jsonc.without_member(text, agent.member)
        is_empty = after != text and jsonc.parse(after).data == {} and not after.strip().strip("{} \t\r\n")
    except DataError as error:
        raise DataError(f"{agent.configuration}: {error}; it is left as it is") from error
    return None if is_empty else after


def _pruned(data: Any, path: Sequence[str]) -> Any:
    """The data without the object that is on the way to a member where it is empty."""
    if not path[:-1] or not isinstance(data, dict):
        return data
    inner = _pruned(data.get(path[0]), path[1:])
    return {name: value for name, value in (data | {path[0]: inner}).items() if name != path[0] or value}


def _with_table(text: str, agent: Places) -> str:
    """The text with flatcoat's table at its end, in place of an earlier one."""
    kept = _without_table(text, agent) or ""
    newline = "\r\n" if "\r\n" in text else "\n"
    rows = [
        f"[{'.'.join(agent.member)}]",
        *(f"{name} = {_toml(value)}" for name, value in agent.entry.items()),
    ]
    gap = newline if kept.strip() else ""
    if kept and not kept.endswith("\n"):
        kept += newline
    after = kept + gap + newline.join(rows) + newline
    wanted = _tables(kept, agent)
    wanted.setdefault(agent.member[0], {})[agent.member[1]] = dict(agent.entry)
    if _tables(after, agent) != wanted:
        raise DataError(f"{agent.configuration} cannot be edited without harm: add the server by hand")
    return after


def _without_table(text: str, agent: Places) -> str | None:
    """The text without flatcoat's table and the blank line before it; None where nothing is left."""
    before = _tables(text, agent)
    first, second = agent.member
    rows = text.splitlines(keepends=True)
    headers = [place for place, row in enumerate(rows) if row.lstrip().startswith("[")]
    own = re.compile(rf'\s*\[\s*{first}\s*\.\s*"?{second}"?\s*[.\]]')
    for start, end in reversed([*pairwise([*headers, len(rows)])]):
        if own.match(rows[start]):
            while end > start + 1 and not rows[end - 1].partition("#")[0].strip():
                end -= 1  # Blank lines and comments belong to what follows.
            is_joined = start > 0 and not rows[start - 1].strip()
            del rows[start - is_joined : end]
    after = "".join(rows)
    wanted = dict(before)
    servers = {name: one for name, one in wanted.pop(first, {}).items() if name != second}
    if _tables(after, agent) != wanted | ({first: servers} if servers else {}):
        raise DataError(
            f"{agent.configuration} cannot be edited without harm: take out {first}.{second} by hand"
        )
    return after if after.strip() else None


def _tables(text: str, agent: Places) -> dict[str, Any]:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{agent.configuration} is no TOML ({error}): it is left as it is") from error


def _toml(value: Any) -> str:
    """A text or a list of texts in TOML."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"[{', '.join(map(_toml, value))}]"


def _with_block(text: str, block: str) -> str:
    """The text with flatcoat's block, in place of an earlier one, else at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = block.replace("\n", newline)
    if found := _block(text):
        return text[: found.start()] + block + text[found.end() :]
    if not text.strip():
        return block
    return text + ("" if text.endswith("\n") else newline) + newline + block


def _without_block(text: str) -> str:
    found = _block(text)
    if found is None:
        return text
    before = text[: found.start()]
    return re.sub(r"(?<=\n)\r?\n\Z", "", before) + text[found.end() :]


def _block(text: str) -> re.Match[str] | None:
    return re.search(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}(\r?\n)?", text, re.DOTALL)
