"""Every example in a docstring runs as it stands."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import flatcoat

ROOT = Path(flatcoat.__file__).parent
FOLDERS = ("backbone", "indexing", "retrieval", "eval", "recipes")
FILES = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
MODULES = sorted(
    ".".join(["flatcoat", *file.relative_to(ROOT).with_suffix("").parts])
    for file in FILES
    if re.search(r"^ *>>> (?!.*\+SKIP)", file.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(name.removesuffix(".__init__")))
    assert found.attempted and not found.failed
