"""Documents from disk: folders of text and code, single files, JSONL, BEIR corpora."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

from pathspec import GitIgnoreSpec

from .. import FlatcoatError
from .documents import Document
from .jsonl import read_jsonl

OnSkip: TypeAlias = Callable[[str, str], None]
"""Called with the path, printable, and the reason of everything that is left out."""

MAX_BYTES = 10_000_000
MAX_DATA_BYTES = 100_000
"""For formats that machines mostly write: vocabularies and fixtures would drown what people wrote."""

_DATA = frozenset(".json .jsonl .csv .tsv .xml .svg .lock .ipynb .po".split())  # noqa: SIM905
_LANGUAGES = {
    "bash": ".sh .bash .zsh",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hpp .hh",
    "csharp": ".cs",
    "css": ".css .scss .less",
    "go": ".go",
    "html": ".html .htm .xhtml",
    "java": ".java",
    "javascript": ".js .jsx .mjs .cjs",
    "json": ".json .jsonl",
    "kotlin": ".kt .kts",
    "lua": ".lua",
    "markdown": ".md .markdown .mdx",
    "php": ".php",
    "python": ".py .pyi",
    "r": ".r",
    "restructuredtext": ".rst",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "sql": ".sql",
    "swift": ".swift",
    "tex": ".tex",
    "toml": ".toml",
    "typescript": ".ts .tsx .mts .cts",
    "xml": ".xml",
    "yaml": ".yaml .yml",
}
_LANGUAGE_OF = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}


def _log_skip(path: str, reason: str) -> None:
    logging.getLogger(__name__).warning("skipped %s: %s", path, reason)


def language_of(name: str) -> str:
    """The language of a file by its suffix; "text" where that says nothing."""
    return _LANGUAGE_OF.get(PurePosixPath(name).suffix.lower(), "text")


def read_documents(
    path: str | Path, *, on_skip: OnSkip = _log_skip, max_bytes: int = MAX_BYTES
) -> Iterator[Document]:
    """Read what ``path`` holds, one document at a time, in an order that is always the same.

    A folder with ``corpus.jsonl`` (BEIR) or a ``.jsonl`` file gives its rows. Any other folder gives its
    text files, less what .gitignore files in it exclude, hidden names and linked folders; ids and titles
    are paths relative to it. A single file gives one document, called by its name. What is left out goes
    to ``on_skip`` (an ignored folder once), which by default logs it; so do data files (JSON, CSV, XML, ...)
    over MAX_DATA_BYTES inside a folder. Raises FlatcoatError where ``path``
    is missing or a row is malformed.
    """
    path = Path(path)
    if not path.exists():
        raise FlatcoatError(f"{path} does not exist: give a folder, a text file or a .jsonl file")
    if path.is_dir():
        corpus = path / "corpus.jsonl"
        return read_jsonl(corpus) if corpus.is_file() else _read_folder(path, on_skip, max_bytes)
    if path.suffix.lower() == ".jsonl":
        return read_jsonl(path)
    return _read_each(iter([(path.name, path)]), on_skip, lambda name: max_bytes)


def _read_folder(folder: Path, on_skip: OnSkip, max_bytes: int) -> Iterator[Document]:
    def limit(name: str) -> int:
        return min(max_bytes, MAX_DATA_BYTES) if PurePosixPath(name).suffix.lower() in _DATA else max_bytes

    return _read_each(_walk(folder, "", (), on_skip), on_skip, limit)


def _read_each(
    files: Iterator[tuple[str, Path]], on_skip: OnSkip, limit: Callable[[str], int]
) -> Iterator[Document]:
    """``limit`` gives the most bytes that a file of a name may hold."""
    for name, path in files:
        text, reason = _read_text(path, limit(name))
        if reason:
            on_skip(name, reason)
        else:
            yield Document(name, text, name, {"path": name, "lang": language_of(name)})


class _Text(NamedTuple):
    """What a file holds, or the reason why it is not read."""

    text: str
    reason: str


def _read_text(path: Path, max_bytes: int) -> _Text:
    try:
        if not path.is_file():  # a pipe or device would be waited for forever
            return _Text("", "not a regular file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return _Text("", f"unreadable: {error.strerror}")
    if len(data) > max_bytes:
        return _Text("", f"over {max_bytes:,} bytes")
    if b"\0" in data:
        return _Text("", "binary")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _Text("", "not UTF-8")
    if not text.strip():
        return _Text("", "empty")
    return _Text(text.replace("\r\n", "\n").replace("\r", "\n"), "")


class _Ignore(NamedTuple):
    """One .gitignore file: its patterns, and the folder (posix prefix) that they are relative to."""

    prefix: str
    spec: GitIgnoreSpec


def _walk(
    folder: Path, prefix: str, ignores: tuple[_Ignore, ...], on_skip: OnSkip
) -> Iterator[tuple[str, Path]]:
    """Files under ``folder`` in order of name, each with its posix path, which starts with ``prefix``."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        on_skip(_printable(prefix), f"unreadable: {error.strerror}")
        return
    if any(entry.name == ".gitignore" for entry in entries):
        ignores = (*ignores, _Ignore(prefix, _read_gitignore(folder / ".gitignore", prefix, on_skip)))
    for entry in entries:
        name = prefix + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        reason = _reason_to_skip(entry, name + "/" * is_folder, ignores)
        if reason:
            on_skip(_printable(name + "/" * is_folder), reason)
        elif is_folder:
            yield from _walk(Path(entry.path), name + "/", ignores, on_skip)
        else:
            yield name, Path(entry.path)


def _reason_to_skip(entry: os.DirEntry[str], name: str, ignores: tuple[_Ignore, ...]) -> str:
    if _printable(entry.name) != entry.name:
        return "a name that is not printable UTF-8"
    if entry.name.startswith("."):
        return "hidden"
    if _is_ignored(name, ignores):
        return "ignored by .gitignore"
    if entry.is_symlink() and entry.is_dir():
        return "a link to a folder"
    return ""


def _is_ignored(name: str, ignores: tuple[_Ignore, ...]) -> bool:
    # As in git the innermost file that says anything about a name decides.
    for prefix, spec in reversed(ignores):
        decision = spec.check_file(name.removeprefix(prefix)).include
        if decision is not None:
            return decision
    return False


def _read_gitignore(path: Path, prefix: str, on_skip: OnSkip) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(path.read_text("utf-8-sig", errors="replace").splitlines())
    except (OSError, ValueError) as error:
        on_skip(_printable(f"{prefix}.gitignore"), f"unreadable: {error}")
        return GitIgnoreSpec.from_lines([])


def _printable(name: str) -> str:
    """``name`` with control characters and undecodable bytes (surrogates) escaped."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs") else c for c in name)
