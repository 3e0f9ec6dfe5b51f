"""Token pooling: the vectors of PyLate and of sentence-transformers 6, and an index with fewer of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.__main__ import app
from flatcoat.indexing.exact import unit_length
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.encoders.token_pooling import pooled_tokens

MakeFolder = Callable[..., Path]


def random_vectors(*lengths: int) -> TokenVectors:
    generator = np.random.default_rng(0)
    matrices = [generator.standard_normal((length, 16)).astype(np.float32) for length in lengths]
    return TokenVectors.from_list([unit_length(matrix) for matrix in matrices], 16)


def assert_same(came: TokenVectors, expected: list[torch.Tensor]) -> None:
    """Equal as sets of vectors: the numbers of clusters, and so their order, are the library's own."""
    for ours_TD, theirs in zip(came, expected, strict=True):
        theirs_TD = unit_length(theirs.numpy())
        assert ours_TD.shape == theirs_TD.shape
        np.testing.assert_allclose(ours_TD[0], theirs_TD[0], atol=1e-6)
        assert ((ours_TD @ theirs_TD.T).max(axis=1) > 1 - 1e-5).all()


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_the_vectors_are_those_of_pylate(factor: int) -> None:
    kind = pytest.importorskip("pylate.models").ColBERT
    vectors = random_vectors(1, 2, 3, 9, 40, 180)
    given = [torch.from_numpy(matrix) for matrix in vectors]
    assert_same(
        pooled_tokens(vectors, factor), kind.pool_embeddings_hierarchical(None, given, pool_factor=factor)
    )


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_the_vectors_are_those_of_sentence_transformers(factor: int) -> None:
    pooling = pytest.importorskip("sentence_transformers.multi_vector_encoder.modules")
    vectors = random_vectors(1, 2, 3, 9, 40, 180)
    given = [torch.from_numpy(matrix) for matrix in vectors]
    assert_same(pooled_tokens(vectors, factor), pooling.HierarchicalTokenPooling(factor).pool(given))


def test_equal_vectors_become_one() -> None:
    vectors = TokenVectors.from_list([np.tile(np.eye(1, 16, dtype=np.float32), (9, 1))], 16)
    assert 2 <= len(pooled_tokens(vectors, 2)[0]) <= 5


@pytest.mark.parametrize("engine", ["exact", "plaid"])
def test_an_index_holds_fewer_vectors(make_colbert: MakeFolder, tmp_path: Path, engine: str) -> None:
    encoder = load_encoder(make_colbert(do_query_expansion=False), device="cpu")
    words = ["cat", "sky", "bread", "river", "steel", "light"]
    documents = [
        Document(f"d{number}", f"the {word} number {number} and its {word}, again and again " * 3)
        for number, word in enumerate(words * 6)
    ]
    counts = {}
    for factor in (1, 3):
        path = tmp_path / str(factor)
        retriever = Retriever.create(path, encoder, index=engine, token_pooling=factor)  # type: ignore[arg-type]
        retriever.add(documents)
        retriever = Retriever.open(path, encoder)
        assert retriever.token_pooling == factor
        counts[factor] = retriever.store.stats().vectors
        results = retriever.search("the bread number 2", 5, mode="vectors", explain=True)
        assert "bread" in results[0].text
        assert results[0].explanation
    assert counts[3] == pytest.approx(counts[1] / 3, rel=0.1)


def test_it_is_for_late_interaction_and_stays(make_dense: MakeFolder, tmp_path: Path) -> None:
    for factor, message in ((2, "for models of late interaction"), (0, "from 1 to"), (99, "from 1 to")):
        with pytest.raises(FlatcoatError, match=message):
            Retriever.create(tmp_path / "index", str(make_dense()), token_pooling=factor)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("The sky is blue.")

    def index(*options: str) -> str:
        arguments = ["index", str(tmp_path / "docs"), "--index", str(tmp_path / "made"), *options]
        return CliRunner().invoke(app, arguments).output

    index("--token-pooling", "2")
    assert Retriever.open(tmp_path / "made").token_pooling == 2
    assert "its token pooling stays 2" in index("--token-pooling", "3").replace("\n", " ")
    said = CliRunner().invoke(app, ["info", "--index", str(tmp_path / "made")]).output
    assert "token pooling: one vector for 2 tokens" in said
