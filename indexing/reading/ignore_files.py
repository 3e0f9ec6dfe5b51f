"""Which names .gitignore and its like exclude: their patterns, and the files that hold them.

As in git the last pattern that matches a name decides, the innermost .gitignore first, then
.git/info/exclude, then the user's own file (core.excludesFile). As in ripgrep .ignore decides over these, and
what git tracks although a pattern excludes it is excluded too. .flatcoatignore decides over all.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from .wildmatch import pattern_regex

OnUnread: TypeAlias = Callable[[str, str], None]
"""Called with the path of an ignore file that cannot be read, and the reason."""

MAX_IGNORE_BYTES = 100_000

_NAMES = (".gitignore", ".ignore", ".flatcoatignore")
_USER, _REPOSITORY, _GIT = range(3)  # ranks of the git files; .ignore and .flatcoatignore come behind
_RANKS: dict[str, int] = dict(zip(_NAMES, range(_GIT, _GIT + len(_NAMES)), strict=True))
_BOM = b"\xef\xbb\xbf"


class _Pattern(NamedTuple):
    regex: re.Pattern[bytes]
    of_path: bool
    """Whether it matches the whole path, not the name alone."""
    folders_only: bool
    negated: bool


class Patterns:
    """Patterns written as in .gitignore, in their order; lines without one, and comments, are passed over.

    >>> patterns = Patterns([b"*.log", b"!keep.log", b"/build/"])
    >>> [patterns.decision(path) for path in (b"a/b.log", b"keep.log", b"a.txt")]
    [True, False, None]
    >>> patterns.decision(b"build", is_folder=True), patterns.decision(b"build")
    (True, None)
    """

    def __init__(self, lines: Iterable[bytes], *, ignore_case: bool = False) -> None:
        flags = re.DOTALL | re.IGNORECASE if ignore_case else re.DOTALL
        self._patterns = [pattern for line in lines if (pattern := _parsed(line, flags))]
        self._names = _any_of(self._patterns, flags, of_path=False)
        self._paths = _any_of(self._patterns, flags, of_path=True)

    def __len__(self) -> int:
        return len(self._patterns)

    def decision(self, path: bytes, start: int = 0, *, is_folder: bool = False) -> bool | None:
        """Whether the last pattern that matches a path, read from ``start`` on, takes it; None: none matches.

        Patterns without a slash before their end match the last name of the path.
        """
        at = path.rfind(b"/") + 1
        if not (
            (self._names and self._names.fullmatch(path, at))
            or (self._paths and self._paths.fullmatch(path, start))
        ):
            return None
        for regex, of_path, folders_only, negated in reversed(self._patterns):
            if (is_folder or not folders_only) and regex.fullmatch(path, start if of_path else at):
                return not negated
        return None


def _parsed(line: bytes, flags: int) -> _Pattern | None:
    if line.startswith(b"#"):
        return None
    text = _trimmed(line.split(b"\0")[0])
    negated = text.startswith(b"!")
    text = text[negated:]
    folders_only = text.endswith(b"/")
    text = text[: len(text) - folders_only]
    regex = pattern_regex(text.removeprefix(b"/"))
    if regex is None:
        return None
    return _Pattern(re.compile(regex, flags), b"/" in text, folders_only, negated)


def _trimmed(line: bytes) -> bytes:
    """The line without the spaces at its end, but for one behind a backslash."""
    text = line.rstrip(b" ")
    is_escaped = (len(text) - len(text.rstrip(b"\\"))) % 2
    return line[: len(text) + is_escaped]


def _any_of(patterns: Iterable[_Pattern], flags: int, *, of_path: bool) -> re.Pattern[bytes] | None:
    regexes = [pattern.regex.pattern for pattern in patterns if pattern.of_path == of_path]
    return re.compile(b"|".join(dict.fromkeys(regexes)), flags) if regexes else None


class IgnoreFile(NamedTuple):
    """The patterns of one file, which count for paths from the byte ``start`` on."""

    rank: int
    source: str
    start: int
    patterns: Patterns


class IgnoreRules(NamedTuple):
    """The ignore files that count in a folder, the weakest first.

    Paths begin with ``lead``, the way from the root of the repository to the folder where the walk began.
    """

    lead: bytes = b""
    files: tuple[IgnoreFile, ...] = ()
    ignore_case: bool = False

    def ignored_by(self, path: bytes, *, is_folder: bool) -> str:
        """The file that excludes a path; "" where none does."""
        for file in reversed(self.files):
            decision = file.patterns.decision(path, file.start, is_folder=is_folder)
            if decision is not None:
                return file.source if decision else ""
        return ""

    def inside(self, folder: Path, path: bytes, names: Iterable[str], on_unread: OnUnread) -> "IgnoreRules":
        """The rules in a folder, whose path ends with a slash or is empty, by the ``names`` that it holds.

        In a repository within another the rules of the outer one do not count.
        """
        names = set(names)
        rules = self
        if ".git" in names and path != self.lead:
            rules = rules._of_repository(folder, path, on_unread)
        found = [name for name in _NAMES if name in names]
        return rules._with(folder, path, found, on_unread) if found else rules

    def _of_repository(self, folder: Path, path: bytes, on_unread: OnUnread) -> "IgnoreRules":
        config = _git_config(folder)
        ignore_case = config.get("core.ignorecase", "false") in ("true", "yes", "on", "1", "")
        rules = IgnoreRules(self.lead, tuple(file for file in self.files if file.rank > _GIT), ignore_case)
        shown = ".git/info/exclude"
        user = _excludes_file(folder, config)
        rules = rules._with_file(_USER, user, str(user), path, on_unread)
        exclude = _common_folder(folder / ".git") / "info/exclude"
        return rules._with_file(_REPOSITORY, exclude, shown, path, on_unread)

    def _with(
        self, folder: Path, path: bytes, names: Iterable[str], on_unread: OnUnread, above: str = ""
    ) -> "IgnoreRules":
        rules = self
        for name in names:
            rules = rules._with_file(_RANKS[name], folder / name, above + name, path, on_unread)
        return rules

    def _with_file(
        self, rank: int, file: Path, source: str, path: bytes, on_unread: OnUnread
    ) -> "IgnoreRules":
        # In messages about the file its folder counts, in those about what it excludes its name says enough.
        shown = os.fsdecode(path[len(self.lead) :]) + source if rank >= _GIT else source
        lines = _read(file, lambda reason: on_unread(shown, reason), follow=rank != _GIT)
        if not (patterns := Patterns(lines, ignore_case=self.ignore_case)):
            return self
        added = IgnoreFile(rank, source, len(path), patterns)
        return self._replace(files=tuple(sorted((*self.files, added), key=lambda file: file.rank)))


def rules_above(folder: Path, on_unread: OnUnread) -> IgnoreRules:
    """The rules that hold in ``folder`` by what stands above it, up to the root of its repository."""
    real = Path(os.path.realpath(folder))
    top = _repository_of(real)
    if top is None:
        return IgnoreRules()
    between = real.relative_to(top)
    lead = os.fsencode(between.as_posix() + "/") if between.parts else b""
    rules = IgnoreRules(lead)._of_repository(top, b"", on_unread)
    for number in range(len(between.parts)):
        inner = top.joinpath(*between.parts[:number])
        path = os.fsencode("".join(f"{part}/" for part in between.parts[:number]))
        above = "../" * (len(between.parts) - number)
        rules = rules._with(inner, path, _NAMES, on_unread, above)
    return rules


def is_inner_worktree(folder: Path) -> bool:
    """Whether a folder is a worktree of the repository that it lies in: other states of the same files."""
    outer = _repository_of(Path(os.path.realpath(folder)).parent)
    try:
        # Where the outer .git is a file there may be worktrees alone, beside a bare repository.
        if outer is None or not (outer / ".git").is_dir() or not (folder / ".git").is_file():
            return False
        return _common_folder(folder / ".git").samefile(outer / ".git")
    except (OSError, ValueError):  # It leads nowhere.
        return False


def _repository_of(real: Path) -> Path | None:
    return next((parent for parent in (real, *real.parents) if os.path.lexists(parent / ".git")), None)


def _read(path: Path, on_unread: Callable[[str], None], *, follow: bool) -> Sequence[bytes]:
    """The lines of an ignore file; none where it is none or cannot be read, which is said."""
    try:
        if not follow and path.is_symlink():
            raise ValueError("a link, which git does not follow")
        if not path.is_file():
            return ()
        with path.open("rb") as file:
            data = file.read(MAX_IGNORE_BYTES + 1)
        if len(data) > MAX_IGNORE_BYTES:
            raise ValueError(f"over {MAX_IGNORE_BYTES:,} bytes")
    except (OSError, ValueError) as error:
        on_unread(str(getattr(error, "strerror", error)))
        return ()
    return [line.removesuffix(b"\r") for line in data.removeprefix(_BOM).split(b"\n")]


def _common_folder(git: Path) -> Path:
    """The folder of a repository's data, which a worktree and a submodule name in files."""
    try:
        if git.is_file():
            git = git.parent / git.read_text().removeprefix("gitdir:").strip()
        if (common := git / "commondir").is_file():
            git = git / common.read_text().strip()
    except (OSError, ValueError):  # What git cannot read either is no reason to stop.
        pass
    return git


def _excludes_file(top: Path, config: dict[str, str]) -> Path:
    if named := config.get("core.excludesfile"):
        return top / os.path.expanduser(named)  # noqa: PTH111 pathlib refuses unknown users
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(home) / "git" / "ignore"


def _git_config(top: Path) -> dict[str, str]:
    """What git's configuration says about ignoring, from all its files; nothing where there is no git."""
    import subprocess

    command = ["git", "config", "-z", "--get-regexp", r"^core\.(excludesfile|ignorecase)$"]
    env = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_COMMON_DIR")}
    try:
        found = subprocess.run(command, cwd=top, env=env, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (os.fsdecode(line).partition("\n") for line in found.stdout.split(b"\0") if line)
    return {name: value for name, _, value in lines}
