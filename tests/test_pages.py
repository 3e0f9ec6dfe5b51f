"""The pages for contributors name files that exist, and commands that are there."""

import re
from pathlib import Path

import pytest

import flatcoat

ROOT = Path(flatcoat.__file__).parent
_PATH = re.compile(r"`((?:backbone|indexing|retrieval|eval|recipes|tests)/[\w/.]*|\w+\.py|\.ci/run)`")
_LINK = re.compile(r"\]\(([\w./-]+)\)")


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {*_PATH.findall(text), *_LINK.findall(text)}
    assert page == "SECURITY.md" or len(named) > 2
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert not missing
