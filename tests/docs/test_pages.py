"""Every code block of every page of the site runs as it stands, one after the other as a reader would."""

import ast
import gc
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

import flatcoat
from flatcoat.__main__ import app
from flatcoat.recipes.schema import Recipe

from .blocks import LANGUAGES, Block, blocks

ROOT = Path(flatcoat.__file__).parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
SKILL = ROOT / "docs" / "skills" / "flatcoat" / "SKILL.md"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
HUB_NAME = re.compile(r'"(?:lightonai|colbert-ir|sentence-transformers)/[\w.-]+"')
SHELL = set("|&;<>$`")
SHORTER = (("max_steps: 100", "max_steps: 2"), ("batch_size: 16", "batch_size: 4"))
"""The documents of these tests are few, and their time short."""
TEACHER = "cross-encoder/ms-marco-MiniLM-L6-v2"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, world: Path, cross_encoder: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    with Reader(page, world, cross_encoder) as reader:
        for block in blocks(page):
            if not block.note.startswith("slow"):
                reader.run(block)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.note.startswith("slow") for block in blocks(page))],
    ids=lambda page: page.stem,
)
def test_the_long_blocks_of_a_page_run(page: Path, world: Path, cross_encoder: Path) -> None:
    with Reader(page, world, cross_encoder) as reader:
        for block in blocks(page):
            reader.run(block)


class Reader:
    """Does what a page says, in a folder of its own; Python blocks of a page share their names."""

    def __init__(self, page: Path, folder: Path, cross_encoder: Path) -> None:
        self.page, self.folder, self.cross_encoder = page, folder, cross_encoder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.port = _free_port()
        self.server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.server:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(30)
        self.names.clear()
        gc.collect()  # Models and indexes of one page beside those of the next would fill the memory.

    def run(self, block: Block) -> None:
        """Run a block, or check what can be checked of it."""
        code = block.code.replace(TEACHER, str(self.cross_encoder))
        for long, short in SHORTER:
            code = code.replace(long, short)
        code = code.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        if block.note == "minilm":
            code = HUB_NAME.sub('"flatcoat-minilm"', code)
        if block.title:
            (self.folder / block.title).write_text(code)
        where = f"{self.page.name}:{block.line}"
        match block.language:
            case "python":
                self._python(code, block.note, where)
            case "sh":
                self._shell(code, block.note, where)
            case "yaml" if block.title:
                Recipe.load(self.folder / block.title, ())
            case "yaml":
                yaml.safe_load(code)
            case "json":
                [json.loads(line) for line in code.splitlines()]
            case "toml":
                tomllib.loads(code)

    def _python(self, code: str, note: str, where: str) -> None:
        tree = ast.parse(code, where)
        if note == "hub":
            imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            methods = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
            tree = ast.Module(list(imports), [])
            exec(compile(tree, where, "exec"), self.names)
            for node in methods:
                if isinstance(node.value, ast.Name) and node.value.id in self.names:
                    assert hasattr(self.names[node.value.id], node.attr), f"{where}: {ast.unparse(node)}"
        if note != "theirs":
            exec(compile(tree, where, "exec"), self.names)

    def _shell(self, code: str, note: str, where: str) -> None:
        lines = [line for line in code.replace("\\\n", " ").splitlines() if line.strip()]
        for line in lines:
            _check_installation(line)
        lines = [line for line in lines if not re.match(r"pip |python3 -m venv", line)]
        if note == "hub":
            for line in lines:
                _check_options(line)
        elif note == "background":
            self._start(lines)
        else:
            codes = {int(one) for one in re.findall(r"\d", note)} if "exit" in note else {0}
            for line in lines:
                self._command(line, codes, where)

    def _command(self, line: str, codes: set[int], where: str) -> None:
        words = shlex.split(line)
        if words[0] == "flatcoat" and not SHELL & set(_unquoted(line)):
            result = CliRunner().invoke(app, words[1:])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise AssertionError(f"{where}: {line}: {result.exception}") from result.exception
            assert result.exit_code in codes, f"{where}: {line}: {result.output}"
            return
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in codes, f"{where}: {line}: {done.stderr}"

    def _start(self, lines: list[str]) -> None:
        (line,) = lines
        command = [sys.executable, "-m", *shlex.split(line), "--port", str(self.port)]
        self.server = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            time.sleep(0.1)
        raise AssertionError(f"{line} does not answer")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _unquoted(line: str) -> Iterator[str]:
    yield from re.sub(r"\"[^\"]*\"|'[^']*'", "", line)


def _check_installation(line: str) -> None:
    """What is installed must be there: extras, and files of constraints."""
    for extra in re.findall(r"flatcoat\[([\w,]+)\]", line):
        assert set(extra.split(",")) <= set(EXTRAS)
    for file in re.findall(r"^pip .*-c (\S+)", line):
        assert (ROOT / file).is_file()


def _check_options(line: str) -> None:
    """The command is one, and takes these arguments; it is not run."""
    words = shlex.split(line)
    assert words[0] == "flatcoat"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= options, line


def test_the_blocks_of_the_skill_run(world: Path, cross_encoder: Path) -> None:
    (world / ".git").mkdir()
    (world / "docs").rename("notes")
    front = yaml.safe_load(SKILL.read_text().split("---")[1])
    assert front["name"] == "flatcoat" and len(front["description"]) < 1024
    with Reader(SKILL, world, cross_encoder) as reader:
        for block in blocks(SKILL):
            reader.run(block)


def test_every_page_is_in_the_list_for_language_models() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "llms.txt").read_text())
    assert sorted(listed) == [page.name for page in PAGES if page.stem != "notebooks"]


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    text = (ROOT / "zensical.toml").read_text()
    assert sorted(re.findall(r'"([\w/-]+\.md)"', text)) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.is_file(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w]+", "-", heading.lower()).strip("-") for heading in headings}
    for path in re.findall(r"flatcoat/blob/main/([\w./-]+)", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} links to {path} in the repository"


def test_every_command_is_on_the_page_of_commands() -> None:
    listed = (ROOT / "docs" / "cli.md").read_text()
    command: Any = typer.main.get_command(app)
    # restore undoes shrink for those who made the model inside.
    for name in set(command.commands) - {"restore"}:
        assert f"flatcoat {name}" in listed, name


def test_the_libraries_that_pages_import_are_in_the_test_environment() -> None:
    for name in ("openai", "langchain_core", "llama_index.core", "haystack"):
        assert find_spec(name)
