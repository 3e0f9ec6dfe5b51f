"""What the pages of the site speak of: a folder of documents, one of code, and a small cross-encoder."""

from pathlib import Path

import pytest

import flatcoat

NOTES = Path(flatcoat.__file__).parent / "docs" / "examples" / "notes"
FOLDERS = ("docs", "docs/examples/notes")
"""Where the notes stand: as a user's documents, and as in a clone of the repository."""

FILES = {
    "src/cart.py": '''"""The shopping cart of the web shop."""


class Cart:
    """Holds what a customer is going to buy."""

    def __init__(self, prices):
        self.prices = prices

    def total(self):
        """Add up the prices of everything in the cart."""
        return sum(self.prices)
''',
    "src/retry.py": '''"""Try again what failed for a moment."""

import time


def retry(call, tries=5):
    """Call a function until it succeeds, waiting twice as long each time."""
    for number in range(tries):
        try:
            return call()
        except OSError:
            time.sleep(2**number)
    raise TimeoutError(f"failed {tries} times")
''',
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a page."""
    files = {f"{folder}/{note.name}": note.read_text() for note in NOTES.glob("*.md") for folder in FOLDERS}
    for name, text in (files | FILES).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """A cross-encoder with random weights."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("cross-encoder")
    CrossEncoder(str(bert_folder), num_labels=1, max_length=64, device="cpu").save(str(folder))
    return folder
