"""A small index for the frameworks' own suites."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flatcoat import Document, Retriever

TEXTS = {
    "sky": "The sky is blue because air scatters short waves of light.",
    "cat": "How does a cat purr? Cats purr when they are content.",
    "bread": "Bread rises as yeast turns sugar into carbon dioxide.",
    "bridge": "A bridge of steel, 1280 metres long, crosses the river since 1937.",
}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Retriever]:
    """Four documents, of the years 2000 to 2003."""
    retriever = Retriever.create(tmp_path / "my.index")
    years = enumerate(TEXTS.items(), start=2000)
    retriever.add(Document(id, text, metadata={"year": year, "lang": "en"}) for year, (id, text) in years)
    yield retriever
    retriever.close()
