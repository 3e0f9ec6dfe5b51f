"""A framework that is not installed is named with the command that installs it; nothing else imports one."""

import subprocess
import sys

import pytest

FRAMEWORKS = {"langchain": "langchain_core", "llamaindex": "llama_index", "haystack": "haystack"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("extra", "package"), FRAMEWORKS.items())
def test_a_missing_framework_says_what_to_install(extra: str, package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None\n"
    use = f"""
try:
    import flatcoat.retrieval.adapters.{extra}
except Exception as error:
    print(type(error).__name__, error)
"""
    assert run(hidden + use).strip().endswith(f"pip install flatcoat[{extra}]")
    assert run(hidden + use).startswith("MissingExtraError")


def test_nothing_imports_a_framework_unasked() -> None:
    code = (
        "import sys, flatcoat.__main__, flatcoat.retrieval.retriever, flatcoat.retrieval.adapters.documents\n"
    )
    assert (
        run(f"{code}print([name for name in {list(FRAMEWORKS.values())} if name in sys.modules])") == "[]\n"
    )
