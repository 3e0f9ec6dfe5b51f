"""The model that was inside flatcoat before: what says how to go on without its weights."""

from pathlib import Path

import numpy as np
import pytest

from flatcoat import Retriever
from flatcoat.errors import ConflictError, NotFoundError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.recipes.commands import find_recipe
from flatcoat.retrieval.encoders.load import load_encoder


def test_its_name_says_how_to_make_it() -> None:
    with pytest.raises(NotFoundError, match=r"no longer inside flatcoat.* flatcoat train flatcoat-small"):
        load_encoder("flatcoat-small")
    assert find_recipe("flatcoat-small").is_file()


def test_an_index_of_it_says_so(tmp_path: Path) -> None:
    contract = Retriever.create(tmp_path / "new").store.contract
    earlier = contract["encoder"] | {"model": "flatcoat-small", "weights": "0" * 64}
    with Store.create(tmp_path / "old", contract | {"encoder": earlier}) as store, store.writer() as writer:
        vectors = TokenVectors(np.eye(2, 128, dtype=np.float32), np.array([0, 2]))
        writer.add([Passage("cats", "cats purr")], vectors)
    opened = Retriever.open(tmp_path / "old")
    for use in (lambda: opened.search("cat"), lambda: opened.add([Document("dogs", "dogs bark")])):
        with pytest.raises(ConflictError, match=r"made with flatcoat-small, .* make a new index") as caught:
            use()
        assert str(tmp_path / "old") in str(caught.value)
    with pytest.raises(ConflictError, match="the index was made with"):
        Retriever.open(tmp_path / "old", model="flatcoat-minilm")
