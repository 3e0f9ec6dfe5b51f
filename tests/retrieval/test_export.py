"""Exported files hold what the index holds, as other systems read it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat import ConflictError, Document, Retriever, UsageError
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.retrieval.export import export

from .folders import HashEncoder

pq = pytest.importorskip("pyarrow.parquet")

TEXTS = ["a cat by the river", "two dogs\n\nand more of them", "", "bread and yeast"]


def documents() -> list[Document]:
    return [
        Document(f"d{number}", f"{text} {number}", f"Title {number}", {"n": number, "tags": ["x", "é"]})
        for number, text in enumerate(TEXTS * 5)
    ]


def made(path: Path, kind: str) -> Retriever:
    encoder = HashEncoder("dense" if kind == "dense" else "colbert")
    settings = EngineSettings("plaid", centroids=4) if kind == "plaid" else EngineSettings("exact")
    retriever = Retriever.create(path, encoder, index=settings, shards=3 if kind == "shards" else None)
    retriever.add(documents())
    retriever.remove("d3")
    return retriever


@pytest.fixture(params=["exact", "plaid", "dense", "shards"])
def retriever(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Retriever]:
    retriever = made(tmp_path / "index", request.param)
    yield retriever
    retriever.close()


def vectors_of(retriever: Retriever) -> dict[str, np.ndarray]:
    """The vectors that are searched, by text."""
    stores = [s for _, s in retriever.collection.stores()] if retriever.collection else [retriever.store]
    found = {}
    for store in stores:
        snapshot = store.snapshot()
        texts = [passage.text for passage in store.passages(snapshot.rows)]
        if store.stats().kind == "dense":
            (values,) = snapshot.vectors
            assert isinstance(values, np.ndarray)
            found |= {text: values[at] for text, at in zip(texts, snapshot.positions, strict=True)}
        else:
            found |= zip(texts, snapshot.token_vectors(snapshot.rows.tolist()), strict=True)
    return found


def test_a_table_holds_every_passage_with_its_vectors(retriever: Retriever, tmp_path: Path) -> None:
    assert export(retriever.collection or retriever.store, tmp_path / "out.parquet") == 19
    table = pq.read_table(tmp_path / "out.parquet")
    assert {row["document_id"] for row in table.to_pylist()} == {one.id for one in documents()} - {"d3"}
    expected = vectors_of(retriever)
    for row in table.to_pylist():
        number = int(row["document_id"][1:])
        assert row["title"] == f"Title {number}"
        assert json.loads(row["metadata"]) == {"n": number, "tags": ["x", "é"]}
        assert (row["first_line"], row["last_line"]) == (1, row["text"].count("\n") + 1)
        np.testing.assert_allclose(np.array(row["vector"], np.float32), expected[row["text"]], atol=2e-3)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about["flatcoat.bits"] == ("4" if retriever.info().engine == "plaid" else "16")
    assert about["flatcoat.model"] == "hashes"
    assert len(set(table["row"].to_pylist())) == 19


def test_vespa_reads_a_document_a_line(retriever: Retriever, tmp_path: Path) -> None:
    assert export(retriever.collection or retriever.store, tmp_path / "out.jsonl", name="wiki") == 19
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = vectors_of(retriever)
    for line in lines:
        assert line["put"].startswith("id:wiki:passage::")
        fields = line["fields"]
        if "embedding" in fields:
            came: Any = fields["embedding"]["values"]
        else:
            blocks = fields["colbert"]["blocks"]
            came = [blocks[str(token)] for token in range(len(blocks))]
        np.testing.assert_allclose(np.array(came), expected[fields["text"]], atol=1e-4)


def test_passages_without_vectors_are_exported_too(tmp_path: Path) -> None:
    waiting = Retriever.create(tmp_path / "waiting", HashEncoder("colbert"))
    waiting.add(documents()[:5])
    waiting.add(documents()[5:7], vectors=False)
    export(waiting.store, tmp_path / "one.parquet")
    vectors = pq.read_table(tmp_path / "one.parquet")["vector"].to_pylist()
    assert [vector is None for vector in vectors] == [False] * 5 + [True] * 2
    bare = Retriever.create(tmp_path / "bare", None)
    bare.add(documents()[:5])
    export(bare.store, tmp_path / "two.parquet")
    assert "vector" not in pq.read_table(tmp_path / "two.parquet").schema.names


def test_an_unknown_format_and_an_empty_index_are_refused(tmp_path: Path) -> None:
    empty = Retriever.create(tmp_path / "empty", HashEncoder("dense"))
    with pytest.raises(UsageError, match="parquet, vespa"):
        export(empty.store, tmp_path / "out.csv")
    with pytest.raises(ConflictError, match="no passages"):
        export(empty.store, tmp_path / "out.parquet")
    assert not list(tmp_path.glob("out*"))
