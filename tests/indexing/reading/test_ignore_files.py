"""Ignore files: the same files as git lists, on generated trees, and what git does not know."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatcoat.errors import UsageError
from flatcoat.indexing.reading.gitignore import list_files
from flatcoat.indexing.reading.ignore_files import Patterns

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="compares with git")

NAMES = ["a", "b", "ab", "A", "abc", "a.b", "b.a", ".a", "é", "a b", "a ", "!a", "#a", "*", "[a]", "\\a", "-"]
NAMES += ["a-b", "^", "x\ny", "ééb"]
PIECES = [
    "*",
    "**",
    "***",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[]-]",
    "[[:alpha:]]",
    "[[:space:]b]",
    "[a",
    "[",
]
PIECES += [
    "[[:nope:]]",
    "[a-",
    "\\",
    "\\*",
    "\\[",
    "\\ ",
    "a",
    "b",
    ".",
    "c",
    "[\\]a]",
    "[--a]",
    "é",
    "**/",
    "/**/",
]

names = st.sampled_from(NAMES[:7]) | st.sampled_from(NAMES)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
globs = st.lists(st.sampled_from(PIECES) | names, min_size=1, max_size=4).map("".join)
patterns = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "", "!", "!", "#", "\\!", "\\#"]),
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(globs, min_size=1, max_size=3).map("/".join) | paths | globs,
    st.sampled_from(["", "", "/", "/", "/**", "/*", "//"]),
    st.sampled_from(["", "", "", " ", "  ", "\\ ", "\r", "\t"]),
)
patterns |= st.sampled_from(
    ["*", "!*/", "!*.a", "", "!", "/", "\\", "\r", "**", "!**/a", "a/*", "!a/b", "/*", "a\0b"]
)
ignore_files = st.lists(patterns, max_size=5).map("\n".join)
trees = st.fixed_dictionaries(
    {
        "files": st.lists(paths, min_size=1, max_size=14),
        "rules": st.dictionaries(paths | st.just("."), ignore_files, max_size=3),
        "top": ignore_files,
        "exclude": ignore_files | st.none(),
        "user": ignore_files | st.none(),
        "ignore_case": st.booleans(),
        "links": st.dictionaries(paths, paths, max_size=2),
        "root": st.just(".") | paths,
    }
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose configuration of git is the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return home


def repository(top: Path, config: str = "") -> Path:
    """What of a repository git asks for, made without git."""
    for folder in ("objects", "refs", "info"):
        (top / ".git" / folder).mkdir(parents=True)
    (top / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (top / ".git" / "config").write_text(f"[core]\nrepositoryformatversion = 0\n{config}")
    return top


def write(path: Path, text: str) -> None:
    """A file, unless a file stands in its way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        pass


def plant(top: Path, tree: dict) -> None:
    repository(top, f"ignorecase = {str(tree['ignore_case']).lower()}\nexcludesfile = {top.parent}/user\n")
    for name in tree["files"]:
        write(top / name, "x")
    for folder, text in {**tree["rules"], ".": tree["top"]}.items():
        write(top / folder / ".gitignore", text)
    for name, target in tree["links"].items():
        if not os.path.lexists(top / name) and (top / target).exists() and (top / name).parent.is_dir():
            (top / name).symlink_to(top / target)
    for path, text in ((top / ".git/info/exclude", tree["exclude"]), (top.parent / "user", tree["user"])):
        if text is not None:
            write(path, text)


def git(*arguments: str, at: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=at, capture_output=True, check=False)


def by_git(root: Path) -> set[str]:
    listed = git("ls-files", "-co", "--exclude-standard", "-z", at=root)
    assert listed.returncode == 0, listed.stderr
    found = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    return {name for name in found if not (root / name).is_symlink() or is_file_within(root, root / name)}


def is_file_within(root: Path, link: Path) -> bool:
    return link.is_file() and link.resolve().is_relative_to(root.resolve())


def by_us(root: Path) -> set[str]:
    return {
        str(file.path.relative_to(root)) for file in list_files(root, hidden=True, on_skip=lambda *_: None)
    }


def same_files_as_git(tree: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "top"
        plant(top, tree)
        root = top / tree["root"]
        if not root.is_dir() or root.is_symlink() or any(parent.is_symlink() for parent in root.parents):
            root = top
        # What is named itself is read, which git refuses of a folder that it ignores.
        if root != top and git("check-ignore", "-q", str(root), at=top).returncode == 0:
            root = top
        assert by_us(root) == by_git(root), {path: path.read_bytes() for path in top.rglob(".gitignore")}


@needs_git
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_the_same_files_as_git(tree: dict) -> None:
    same_files_as_git(tree)


@needs_git
@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_the_same_files_as_git_in_a_thousand_trees(tree: dict) -> None:
    same_files_as_git(tree)


PATTERN_PARTS = ["*", "**", "**/", "/", "/", "?", "a", "b", "ab", "c", ".", "é", "\\", "\\*", "\\/", " ", "-"]
CLASS_PARTS = [
    "a",
    "b",
    "a-c",
    "!",
    "^",
    "]",
    "[",
    "-",
    "\\]",
    "\\",
    "[:alpha:]",
    "[:space:]",
    "[:nope:]",
    "/",
    "é",
]


def random_pattern(random: Random) -> str:
    parts = random.choices(PATTERN_PARTS, k=random.randint(1, 6))
    if random.random() < 0.4:
        inside = "".join(random.choices(CLASS_PARTS, k=random.randint(1, 3)))
        parts.insert(random.randint(0, len(parts)), f"[{random.choice(['', '', '!', '^'])}{inside}]")
    return "".join([random.choice(["", "", "!", "/"]), *parts, random.choice(["", "", "/", " ", "\\ "])])


def random_path(pattern: str, random: Random) -> str:
    """A path that a pattern may match: its wildcards replaced by this or that."""
    path = re.sub(
        r"\[.{1,12}?\]", lambda _: random.choice(["a", "b", "c", "]", "^", "-", "[", " "]), pattern.strip("!")
    )
    path = re.sub(r"\*\*/?", lambda _: random.choice(["", "a/b/", "x/", "x"]), path)
    path = re.sub(r"[*?]", lambda _: random.choice(["", "a", "ab", "/", "é"]), path)
    if random.random() < 0.8:
        path = path.replace("\\", "")
    return "/".join(part for part in path.split("/") if part not in ("", ".", "..")) or "a"


def ignored_by_git(top: Path, asked: dict[str, list[str]]) -> set[tuple[str, str]]:
    """Of the paths per pattern those that git ignores where the pattern is all there is."""
    names = []
    for number, (pattern, candidates) in enumerate(asked.items()):
        write(top / str(number) / ".gitignore", f"*\n{pattern}" if pattern.startswith("!") else pattern)
        names += [f"{number}/{path}" for path in candidates]
    command = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    text = "\0".join(names).encode()
    said = subprocess.run(command, cwd=top, input=text, capture_output=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    found = (name.decode().split("/", 1) for name in said.stdout.split(b"\0") if name)
    return {([*asked][int(number)], path) for number, path in found}


def is_ignored(pattern: str, path: str) -> bool:
    """The path, or a folder above it."""
    rules = Patterns([b"*", pattern.encode()] if pattern.startswith("!") else [pattern.encode()])
    parts = path.split("/")
    above = ("/".join(parts[:number]).encode() for number in range(1, len(parts)))
    return any(rules.decision(folder, is_folder=True) for folder in above) or bool(
        rules.decision(path.encode())
    )


@needs_git
@pytest.mark.parametrize("seed", range(6))
def test_every_pattern_matches_as_in_git(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    patterns = [random_pattern(random) for _ in range(300)]
    asked = {pattern: [random_path(pattern, random) for _ in range(12)] for pattern in patterns}
    expected = ignored_by_git(repository(tmp_path / "top"), asked)
    pairs = [(pattern, path) for pattern, candidates in asked.items() for path in candidates]
    assert [pair for pair in pairs if is_ignored(*pair) != (pair in expected)] == []
    assert 0.1 * len(pairs) < len(expected) < 0.9 * len(pairs)


def listed(root: Path, *include: str, hidden: bool = False, exclude: tuple[str, ...] = ()) -> set[str]:
    return {file.name for file in list_files(root, include, exclude=exclude, hidden=hidden, on_skip=skip)}


def skip(path: str, reason: str) -> None:
    """What is left out is not looked at."""


def reasons(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    assert list(list_files(root, on_skip=found.__setitem__)) is not None
    return found


def make(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, "x")
    return root


def test_ignore_files_above_the_folder_count_up_to_the_root_of_the_repository(
    tmp_path: Path, home: Path
) -> None:
    top = make(
        repository(tmp_path / "top"), *(f"src/app/{name}" for name in ("a.py", "a.log", "a.tmp", "a.bak"))
    )
    make(top, "src/app/a.old", "src/app/b.old", "src/app/build/a.py", "src/app/c.env")
    write(tmp_path / ".gitignore", "*.py")  # above the repository
    write(top / ".gitignore", "*.log\n/src/app/build/\n/build/\n*.old\n")
    write(top / "src" / ".gitignore", "!b.old\n")
    write(top / ".git/info/exclude", "*.tmp")
    write(home / ".config/git/ignore", "*.bak")
    write(top / ".ignore", "*.env")
    assert listed(top / "src" / "app") == {"a.py", "b.old"}
    assert reasons(top / "src" / "app") == {
        "a.log": "ignored by ../../.gitignore",
        "a.old": "ignored by ../../.gitignore",
        "build/": "ignored by ../../.gitignore",
        "a.tmp": "ignored by .git/info/exclude",
        "a.bak": f"ignored by {home}/.config/git/ignore",
        "c.env": "ignored by ../../.ignore",
    }
    assert listed(top / "src/app/build") == {"a.py"}  # What is named itself is read.
    (tmp_path / "link").symlink_to(top / "src" / "app")
    assert listed(tmp_path / "link") == {"a.py", "b.old"}


@needs_git
@pytest.mark.parametrize("value", ["~/mine", '"~/mine"', "/nowhere"])
def test_the_users_own_file_is_where_gits_configuration_says(tmp_path: Path, home: Path, value: str) -> None:
    top = make(repository(tmp_path / "top"), "a.py", "a.bak")
    write(home / "mine", "*.bak")
    write(home / ".config/git/ignore", "*.py")  # not read where another one is named
    write(home / ".gitconfig", "[include]\npath = other\n")
    write(home / "other", f"[core]\nexcludesFile = {value}\n")
    assert listed(top) == by_git(top) == ({"a.py", "a.bak"} if value == "/nowhere" else {"a.py"})


def test_without_git_the_users_usual_file_counts(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = make(repository(tmp_path / "top"), "a.py", "a.bak")
    write(home / ".config/git/ignore", "*.bak")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert listed(top) == {"a.py"}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    write(tmp_path / "xdg/git/ignore", "*.py")
    assert listed(top) == {"a.bak"}


def test_a_repository_in_another_has_rules_of_its_own(tmp_path: Path) -> None:
    top = make(repository(tmp_path / "top"), "inner/a.log", "inner/a.tmp", "inner/a.env", "a.log", "a.txt")
    repository(top / "inner")
    write(top / ".gitignore", "*.log\n")
    write(top / ".ignore", "*.env\n")
    write(top / "inner/.git/info/exclude", "*.tmp\n")
    assert listed(top) == {"a.txt", "inner/a.log"}


@needs_git
def test_a_worktree_shares_what_its_repository_excludes(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    make(top, "a.txt")
    write(top / ".git/info/exclude", "*.tmp\n")
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["add", "a.txt"], [*name, "commit", "-qm", "a"], ["worktree", "add", "-q", "../tree"]):
        assert git(*command, at=top).returncode == 0
    make(tmp_path / "tree", "b.tmp", "b.txt", "c/d.tmp")
    assert listed(tmp_path / "tree") == by_git(tmp_path / "tree") == {"a.txt", "b.txt"}


@needs_git
def test_a_worktree_within_its_repository_is_left_out(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    make(top, "a.txt")
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["add", "a.txt"], [*name, "commit", "-qm", "a"], ["worktree", "add", "-q", "trees/b"]):
        assert git(*command, at=top).returncode == 0
    assert listed(top) == {"a.txt"} == by_git(top) - {"trees/b/"}
    assert reasons(top)["trees/b/"] == "another worktree of the repository"
    assert listed(top / "trees/b") == {"a.txt"}
    make(repository(top / "vendor"), "c.txt")
    assert listed(top) == {"a.txt", "vendor/c.txt"}


@pytest.mark.parametrize("leads_to", ["nowhere", "loop", "a\0b", ""])
def test_a_folder_whose_git_leads_nowhere_is_read(tmp_path: Path, leads_to: str) -> None:
    top = make(tmp_path / "top", "a.txt", "inner/b.txt")
    (top / ".git").mkdir()
    (top / "inner/loop").symlink_to("loop")
    write(top / "inner/.git", f"gitdir: {leads_to}\n")
    assert listed(top) == {"a.txt", "inner/b.txt"}


@needs_git
def test_worktrees_beside_a_bare_repository_are_read(tmp_path: Path) -> None:
    top = make(repository(tmp_path / "top"), "a.txt")
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (
        ["add", "a.txt"],
        [*name, "commit", "-qm", "a"],
        ["clone", "-q", "--bare", ".", "../all/bare"],
    ):
        assert git(*command, at=top).returncode == 0
    write(tmp_path / "all/.git", "gitdir: ./bare\n")
    assert git("worktree", "add", "-q", "tree", at=tmp_path / "all").returncode == 0
    assert "tree/a.txt" in listed(tmp_path / "all")


@needs_git
def test_folders_that_a_pattern_opens_again_are_not_lost(tmp_path: Path) -> None:
    top = make(
        repository(tmp_path / "top"), "a.go", "a.py", "src/a.go", "src/a.py", "src/deep/b.go", "docs/a.md"
    )
    write(top / ".gitignore", "*\n!*/\n!*.go\n")
    assert listed(top) == by_git(top) == {"a.go", "src/a.go", "src/deep/b.go"}


def test_a_linked_gitignore_is_not_followed(tmp_path: Path) -> None:
    top = make(tmp_path / "top", "a.txt")
    write(tmp_path / "rules", "*.txt\n")
    (top / ".gitignore").symlink_to(tmp_path / "rules")
    assert listed(top) == {"a.txt"}


HIDDEN = [
    ".env",
    ".github/ci.yml",
    ".github/.x/a.md",
    "docs/.h/a.md",
    "docs/a.md",
    ".config/b.md",
    "other/.h/c.md",
]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ([], {"docs/a.md"}),
        (["*.md"], {"docs/a.md"}),
        ([".github/"], {".github/ci.yml"}),
        (["/.github/*.yml"], {".github/ci.yml"}),
        ([".github/**"], {".github/ci.yml"}),
        (["*", ".github/"], {"docs/a.md", ".github/ci.yml"}),
        ([".env"], {".env"}),
        ([".env", "!.env"], set()),
        ([".e*"], {".env"}),
        ([".*"], {name for name in HIDDEN if "/." in name or name[0] == "."}),
        (["docs/.h/*.md"], {"docs/.h/a.md"}),
        (["*.md", "docs/.h/"], {"docs/a.md", "docs/.h/a.md"}),
        (["**/.h/"], {"docs/.h/a.md", "other/.h/c.md"}),
        (["docs/**/*.md"], {"docs/a.md"}),
    ],
)
def test_a_pattern_that_spells_its_dot_includes_what_is_hidden(
    tmp_path: Path, include: list[str], expected: set[str]
) -> None:
    assert listed(make(tmp_path / "top", *HIDDEN), *include) == expected


def test_hidden_files_are_found_where_they_are_asked_for(tmp_path: Path) -> None:
    top = make(repository(tmp_path / "top"), *HIDDEN, ".svn/entries", ".log")
    write(top / ".gitignore", "*.log\n")
    assert listed(top, hidden=True) == {*HIDDEN, ".gitignore"}
    assert listed(top, "*.md", hidden=True, exclude=(".h/",)) == {
        ".github/.x/a.md",
        "docs/a.md",
        ".config/b.md",
    }


def test_patterns_of_many_stars_take_no_time(tmp_path: Path) -> None:
    name, began = ("a" * 250).encode(), time.process_time()
    for pattern in (b"*a" * 40 + b"b", b"**/a/" * 40 + b"b", b"[a]*" * 60 + b"b", b"a*" * 40 + b"/b"):
        assert Patterns([pattern]).decision(name) is None
        assert Patterns([pattern]).decision(b"a/" * 120 + b"a") is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize("pattern", ["!", "/", "", "a\\", "[a", " "])
def test_a_pattern_that_can_match_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="matches nothing"):
        list_files(tmp_path, [pattern])
