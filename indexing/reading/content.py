"""What a file of a project is for, by its path: code, documentation or configuration; tests, examples.

The rules are the conventions of each language's tools: which files pytest, go test, Jest, JUnit, PHPUnit,
RSpec, prove or bats run, which folders package managers fill.
"""

import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from .languages import PROSE, language_of

Content: TypeAlias = Literal["code", "docs", "config"]
Role: TypeAlias = Literal["test", "example", "vendored", "compat", "entry", "stub"]

_CONFIG = frozenset(
    ["cmake", "dockerfile", "dotenv", "hcl", "ini", "json", "make", "properties", "toml", "xml", "yaml"]
)
_CONFIG_NAMES = re.compile(
    r"(GNU)?[Mm]akefile(\..*)?|CMakeLists\.txt|Dockerfile.*|Jenkinsfile|Vagrantfile|Procfile|meson\.build"
    r"|(package|composer|deno|tsconfig.*)\.json|.*\.(lock|cfg|conf|ini|env|editorconfig|properties|gradle|gradle\.kts"
    r"|cabal|opam|gemspec|csproj|sln|nix|m4|ac|am|cmake|in|mk)|(setup|conf)\.py|configure|requirements.*\.txt"
    r"|(Gem|Rake|Pip|Brew|Cargo)file|\..+|.*\.config\.[cm]?[jt]s"
)
_DOCS_NAMES = re.compile(
    r"(README|CHANGE(S|LOG)?|HISTORY|NEWS|AUTHORS|CONTRIBUT\w*|LICEN[CS]E|COPYING|NOTICE|THANKS|TODO|INSTALL"
    r"|MAINTAINERS|SECURITY|CODE_OF_CONDUCT|UPGRAD\w*|RELEAS\w*)([-_.].*)?|.*\.([1-9]|pod|adoc|org|texi|texinfo)",
    re.IGNORECASE,
)
_DOCS_FOLDERS = frozenset(["doc", "docs", "documentation", "man", "manual", "website"])

_TEST_FILES = {
    "python": r"test_.*|.*_tests?|tests?|conftest",
    "go": r".*_test",
    "javascript": r".*[.-](test|spec)",
    "java": r"(Test[A-Z].*|.*(Tests?|TestCase|IT))",
    "ruby": r".*_(test|spec)|(test|spec)_helper",
    "php": r".*(Test|TestCase)",
    "c": r"test[-_].*|.*[-_](unit)?tests?",
    "haskell": r".*(Spec|Test)",
    "scala": r".*(Spec|Suite|Tests?)",
    "swift": r".*Tests?",
    "lua": r".*_(test|spec)",
    "dart": r".*_test",
    "elixir": r".*_test|test_helper",
    "rust": r"tests?",
    "r": r"test[-_].*",
}
_TEST_RULE_OF = {
    **dict.fromkeys(["typescript", "tsx", "vue", "svelte"], "javascript"),
    **dict.fromkeys(["kotlin", "csharp"], "java"),
    **dict.fromkeys(["cpp", "objc"], "c"),
}
_TEST_SUFFIXES = frozenset([".bats", ".t"])
_FOLDERS_OF: dict[Role, str] = {
    "test": "test tests Tests __tests__ testing testdata spec specs fixtures e2e",
    "example": "example examples demo demos sample samples tutorial tutorials bench benches benchmarks",
    "vendored": "vendor vendored _vendor third_party thirdparty 3rdparty node_modules extern external",
    "compat": "compat compatibility legacy deprecated polyfill polyfills shims",
}
_FOLDERS: dict[Role, frozenset[str]] = {role: frozenset(names.split()) for role, names in _FOLDERS_OF.items()}
_COMPAT_FILE = re.compile(r"(.*[-_.])?(compat|compatibility|legacy|deprecated|polyfills?|shims?)")
_ENTRY_FILE = re.compile(r"__init__\.py|index\.[cm]?[jt]sx?|mod\.rs|package-info\.java|doc\.go")
_STUB_FILE = re.compile(r".*\.(pyi|d\.[cm]?ts)")


@lru_cache(maxsize=10_000)
def content_of(path: str, lang: str = "") -> Content:
    """Whether a file is code, documentation or configuration; ``lang`` is by default that of its name.

    >>> content_of("src/app.rs"), content_of("docs/guide.md"), content_of("pyproject.toml")
    ('code', 'docs', 'config')
    """
    lang = lang or language_of(path)
    *folders, name = PurePosixPath(path).parts or ("",)
    if lang in PROSE and _DOCS_NAMES.fullmatch(name):
        return "docs"
    if lang in _CONFIG or _CONFIG_NAMES.fullmatch(name):
        return "config"
    is_unknown = lang == "text" and not name.endswith(".txt") and "." in name
    if (lang in PROSE and not is_unknown) or not _DOCS_FOLDERS.isdisjoint(folders):
        return "docs"
    return "code"


@lru_cache(maxsize=10_000)
def roles_of(path: str, lang: str = "") -> frozenset[Role]:
    """The roles of a file beside the project's own code; most files have none.

    ``entry`` is a file that names what is elsewhere (``__init__.py``, ``index.ts``), ``stub`` declares types.

    >>> sorted(roles_of("tests/compat/test_app.py")), sorted(roles_of("lib/test_functions.bash"))
    (['compat', 'test'], [])
    """
    *folders, name = PurePosixPath(path).parts or ("",)
    roles: set[Role] = {role for role, names in _FOLDERS.items() if not names.isdisjoint(folders)}
    lang = lang or language_of(path)
    stem, _, suffix = name.partition(".") if name.endswith(".d.ts") else name.rpartition(".")
    rule = _TEST_FILES.get(_TEST_RULE_OF.get(lang, lang))
    if f".{suffix}" in _TEST_SUFFIXES or (rule and re.fullmatch(rule, stem)):
        roles.add("test")
    if _COMPAT_FILE.fullmatch(stem.lower()):
        roles.add("compat")
    if _ENTRY_FILE.fullmatch(name):
        roles.add("entry")
    if _STUB_FILE.fullmatch(name):
        roles.add("stub")
    return frozenset(roles - {"test"} if content_of(path, lang) == "docs" else roles)
