"""The notebooks run from top to bottom in an empty folder."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import flatcoat

FOLDER = Path(flatcoat.__file__).parent / "docs" / "notebooks"
NAMES = ["search", *(pytest.param(name, marks=pytest.mark.slow) for name in ("compare", "train"))]


def test_all_notebooks_are_tested() -> None:
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == {"compare", "search", "train"}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    pictures = [
        output
        for cell in book.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    if name == "search":
        assert "baking.md" in printed and "cart.py" in printed and "tides.md" in printed
    elif name == "train":
        before, after = map(float, re.search(r"before ([\d.]+), after ([\d.]+)", printed).groups())  # type: ignore[union-attr]
        assert after > before + 10
    else:
        assert "hybrid against bm25" in printed


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_is_kept_with_its_pictures(file: Path) -> None:
    outputs = [
        output for cell in nbformat.read(file, as_version=4).cells for output in cell.get("outputs", ())
    ]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
