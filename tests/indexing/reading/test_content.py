"""What files are for, by the conventions of their languages."""

import pytest

from flatcoat.indexing.reading.content import content_of, roles_of


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("src/app.rs", "code"),
        ("lib/parse.weird", "code"),
        ("docs/conf_helpers.py", "docs"),
        ("man/rbenv.1", "docs"),
        ("README", "docs"),
        ("CHANGELOG.md", "docs"),
        ("LICENSE-MIT", "docs"),
        ("notes.txt", "docs"),
        ("requirements-dev.txt", "config"),
        ("pyproject.toml", "config"),
        (".github/workflows/ci.yml", "config"),
        (".gitignore", "config"),
        ("Makefile", "config"),
        ("webpack.config.js", "config"),
        ("licenser.py", "code"),
        ("changes_parser.py", "code"),
    ],
)
def test_content(path: str, content: str) -> None:
    assert content_of(path) == content


@pytest.mark.parametrize(
    ("path", "roles"),
    [
        ("src/app.py", set()),
        ("tests/test_app.py", {"test"}),
        ("app/test_app.py", {"test"}),
        ("conftest.py", {"test"}),
        ("lib/test_functions.bash", set()),
        ("test/run.bats", {"test"}),
        ("suite/run.bats", {"test"}),
        ("pkg/tree_test.go", {"test"}),
        ("pkg/test_tree.go", set()),
        ("src/app.test.tsx", {"test"}),
        ("src/app.spec.js", {"test"}),
        ("src/__tests__/app.js", {"test"}),
        ("src/main/java/org/Contest.java", set()),
        ("src/main/java/org/TestRule.java", {"test"}),
        ("src/test/java/org/RuleTest.java", {"test"}),
        ("lib/Test/Mojo.pm", set()),
        ("t/basic.t", {"test"}),
        ("src/latest.rs", set()),
        ("src/build_log_test.cc", {"test"}),
        ("docs/tests/defined.rst", set()),
        ("examples/hello.go", {"example"}),
        ("vendor/github.com/x/y.go", {"vendored"}),
        ("http/compat/socket.lua", {"compat"}),
        ("httpx/_compat.py", {"compat"}),
        ("deprecated.go", {"compat"}),
        ("httpx/__init__.py", {"entry"}),
        ("lib/index.ts", {"entry"}),
        ("src/index/mod.rs", {"entry"}),
        ("lib/indexer.ts", set()),
        ("types/agent.d.ts", {"stub"}),
        ("index.d.ts", {"stub"}),
        ("numpy/core.pyi", {"stub"}),
    ],
)
def test_roles(path: str, roles: set[str]) -> None:
    assert roles_of(path) == roles


def test_the_language_of_a_script_without_suffix_counts() -> None:
    assert content_of("bin/run") == "docs"
    assert content_of("bin/run", "bash") == "code"
