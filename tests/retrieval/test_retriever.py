"""Retriever end to end with a small random model: what is added is what is found."""

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval import ingest as module
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.retriever import Added

MakeFolder = Callable[..., Path]

DOCUMENTS = [
    Document("sky", "The sky is blue because air scatters short waves.", "Sky", {"year": 2020, "lang": "en"}),
    Document("cats", "Cats purr when they are content.", metadata={"year": 2021, "lang": "en"}),
    Document("foret", "La forêt est calme.", metadata={"year": 2022, "lang": "fr"}),
    Document("bread", "Bread rises.\n\nThe crust browns.\n", "Bread", {"year": 2023, "lang": "en"}),
]
TEXT_OF = {document.id: document.text for document in DOCUMENTS}


@pytest.fixture(scope="module")
def encoder(make_colbert: MakeFolder) -> Encoder:
    return load_encoder(make_colbert(), device="cpu")


@pytest.fixture(scope="module", params=["colbert", "dense"])
def either(request: pytest.FixtureRequest, make_colbert: MakeFolder, make_dense: MakeFolder) -> Encoder:
    return load_encoder((make_colbert if request.param == "colbert" else make_dense)(), device="cpu")


@pytest.fixture
def filled(tmp_path: Path, encoder: Encoder) -> Iterator[Retriever]:
    retriever = Retriever.create(tmp_path / "index", encoder)
    retriever.add(DOCUMENTS)
    yield retriever
    retriever.close()


def ids(retriever: Retriever, query: str = "cat", **options: object) -> set[str]:
    return {result.document_id for result in retriever.search(query, k=100, **options)}  # type: ignore[arg-type]


def brute_force(query: Vectors, documents: Vectors) -> np.ndarray:
    """Scores with vectors as an index keeps them, in float16; one loop a document."""
    if not isinstance(query, TokenVectors) or not isinstance(documents, TokenVectors):
        return np.array([query[0] @ vector.astype(np.float16).astype(np.float32) for vector in documents])
    return np.array(
        [
            (query[0] @ matrix.astype(np.float16).astype(np.float32).T).max(axis=1).sum()
            for matrix in documents
        ]
    )


def test_results_are_those_of_brute_force(tmp_path: Path, either: Encoder, texts: list[str]) -> None:
    documents = [Document(f"d{number}", text) for number, text in enumerate(texts[1:-2])]
    retriever = Retriever.create(tmp_path / "index", either)
    added = retriever.add(documents)
    assert (added.documents, added.passages, added.unchanged) == (len(documents), len(documents), 0)
    for query in ("why is the sky blue?", "parseHttpResponse", "!"):
        results = retriever.search(query, k=len(documents), mode="vectors")
        stored = [document.text for document in documents]
        scores = brute_force(
            either.encode_queries([query]), either.encode_documents([text.strip() for text in stored])
        )
        order = np.argsort(-scores, kind="stable")
        assert [result.document_id for result in results] == [f"d{number}" for number in order]
        assert [result.score for result in results] == pytest.approx(scores[order].tolist(), abs=1e-4)
        assert [result.rank for result in results] == list(range(1, len(documents) + 1))
        assert [result.document_id for result in retriever.search(query, k=3, mode="vectors")] == [
            result.document_id for result in results[:3]
        ]


def test_a_result_says_where_it_was_found(filled: Retriever) -> None:
    (result,) = filled.search("The crust browns. Bread rises.", k=1, where=["year>=2023"])
    assert (result.rank, result.document_id, result.title) == (1, "bread", "Bread")
    assert (result.text, result.lines) == ("Bread rises.\n\nThe crust browns.", (1, 3))
    assert result.metadata == {"year": 2023, "lang": "en"}
    assert result.to_json()["lines"] == [1, 3]


def test_a_retriever_that_is_dropped_keeps_no_model(filled: Retriever) -> None:
    gc.collect()
    gc.disable()
    try:
        retriever = Retriever.open(filled.path)
        retriever.search("cats")
        model = weakref.ref(retriever.query_encoder)
        retriever.close()
        del retriever
        assert model() is None
    finally:
        gc.enable()


def test_an_index_loads_its_own_model_when_it_is_opened(filled: Retriever) -> None:
    again = Retriever.open(filled.store.path)
    found, expected = again.search("cat"), filled.search("cat")
    assert [result.document_id for result in found] == [result.document_id for result in expected]
    # The encoder that was given computes queries in torch, the model that the index names does in NumPy.
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
    assert again.encoder.contract == filled.encoder.contract
    assert again.info() == filled.info()
    assert (again.info().documents, again.info().kind) == (4, "token")


def test_another_model_is_refused(
    filled: Retriever, make_colbert: MakeFolder, make_dense: MakeFolder
) -> None:
    with pytest.raises(FlatcoatError, match=r"made with query_length 32 .* has 20"):
        Retriever.open(filled.store.path, make_colbert(query_length=20))
    with pytest.raises(FlatcoatError, match=r"made with kind colbert .* has dense"):
        Retriever.open(filled.store.path, make_dense())


def test_what_is_there_already_is_passed_over(filled: Retriever) -> None:
    generation = filled.store.generation
    added = filled.add(DOCUMENTS)
    assert (added.documents, added.passages, added.unchanged) == (0, 0, 4)
    assert filled.store.generation == generation


@pytest.mark.parametrize(
    "changed",
    [
        Document("cats", "Cats sleep.", metadata={"year": 2021, "lang": "en"}),
        Document("cats", TEXT_OF["cats"], "A title", {"year": 2021, "lang": "en"}),
        Document("cats", TEXT_OF["cats"], metadata={"year": 1999, "lang": "en"}),
    ],
)
def test_a_changed_document_is_replaced(filled: Retriever, changed: Document) -> None:
    added = filled.add([*DOCUMENTS[:1], changed])
    assert (added.documents, added.unchanged) == (1, 1)
    assert filled.info().documents == 4
    (found,) = [result for result in filled.search("cats", k=9) if result.document_id == "cats"]
    assert (found.text, found.title, found.metadata) == (changed.text, changed.title, changed.metadata)


def test_the_last_of_two_documents_with_one_id_wins(tmp_path: Path, encoder: Encoder) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder)
    versions = [Document("a", "first"), Document("b", "other"), Document("a", "second")]
    for _ in range(2):
        retriever.add(versions)
        assert {result.document_id: result.text for result in retriever.search("x")} == {
            "a": "second",
            "b": "other",
        }
    # An index that holds the first of them already ends with the last as well.
    retriever.add(versions[:1])
    retriever.add(versions)
    assert {result.text for result in retriever.search("x")} == {"second", "other"}


def test_a_document_that_becomes_empty_is_removed(filled: Retriever) -> None:
    filled.add([Document("cats", " \n ")])
    assert ids(filled) == {"sky", "foret", "bread"}
    filled.add(DOCUMENTS)
    assert "cats" in ids(filled)


def test_removal(filled: Retriever) -> None:
    assert filled.remove(["cats", "nobody", "sky"]) == 2
    assert ids(filled) == {"foret", "bread"}
    assert filled.remove("bread") == 1
    assert filled.remove(["foret"]) == 1
    assert filled.search("cat") == []
    assert filled.info().documents == 0
    assert filled.add(DOCUMENTS).documents == 4


def test_a_retriever_sees_the_commits_of_another(filled: Retriever, encoder: Encoder) -> None:
    assert "new" not in ids(filled)
    other = Retriever.open(filled.store.path, encoder)
    other.add([Document("new", "Something new.")])
    assert "new" in ids(filled)
    other.remove(["new"])
    assert "new" not in ids(filled)


def test_conditions_filter_before_the_ranking(filled: Retriever) -> None:
    assert ids(filled, where=["lang=fr"]) == {"foret"}
    assert ids(filled, where=["lang=en", "year>2020"]) == {"cats", "bread"}
    assert ids(filled, where=["lang=de"]) == set()
    assert ids(filled, where=["year=1"]) == set()
    with pytest.raises(FlatcoatError, match="no document has a field 'nothing'"):
        filled.search("cats", where=["nothing=1"])
    assert [result.document_id for result in filled.search("sky", k=1, where=["lang=fr"])] == ["foret"]
    with pytest.raises(FlatcoatError, match="has no operator"):
        filled.search("sky", where=["lang"])


def test_bad_questions(filled: Retriever) -> None:
    with pytest.raises(FlatcoatError, match="the query is empty"):
        filled.search(" \n")
    with pytest.raises(FlatcoatError, match="k is 0"):
        filled.search("cat", k=0)


def test_an_empty_index_finds_nothing(tmp_path: Path, encoder: Encoder) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder)
    assert retriever.search("cat") == []
    assert retriever.search("cat", where=["a=b"]) == []
    assert retriever.add([]) == Added()


def test_what_cannot_be_created_or_opened(filled: Retriever, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="is already an index"):
        Retriever.create(filled.store.path, encoder)
    with pytest.raises(FlatcoatError, match="is not an index"):
        Retriever.open(tmp_path, encoder)
    for tokens in (15, 121):
        with pytest.raises(FlatcoatError, match=f"passage_tokens {tokens}: from 16 to 120"):
            Retriever.create(tmp_path / "new", encoder, passage_tokens=tokens)
    with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
        Retriever.create(tmp_path / "new", "nobody/no-such-model")
    assert not (tmp_path / "new").exists()


def test_long_documents_become_passages_that_the_model_reads_whole(tmp_path: Path, encoder: Encoder) -> None:
    text = "\n".join(f"Line {number} says that cats purr and dogs bark." for number in range(60))
    retriever = Retriever.create(tmp_path / "index", encoder, passage_tokens=64)
    added = retriever.add([Document("long", text, "Animals")])
    assert (added.documents, added.passages) == (1, retriever.info().passages)
    results = retriever.search("cats", k=100)
    assert len(results) == added.passages > 10
    assert max(encoder.token_counts([f"Animals {result.text}" for result in results])) <= 64
    lines = sorted(result.lines for result in results)
    assert [line for first, last in lines for line in range(first, last + 1)] == list(range(1, 61))
    assert Retriever.open(tmp_path / "index", encoder).add([Document("long", text, "Animals")]).unchanged == 1


def test_passages_begin_with_the_end_of_the_one_before(tmp_path: Path, encoder: Encoder) -> None:
    text = "\n".join(f"Line {number} says that cats purr and dogs bark." for number in range(60))
    retriever = Retriever.create(tmp_path / "index", encoder, passage_tokens=64, overlap=24)
    retriever.add([Document("long", text)])
    lines = sorted(
        result.lines for result in Retriever.open(tmp_path / "index", encoder).search("cats", k=100)
    )
    assert all(first < next_first <= last for (first, last), (next_first, _) in pairwise(lines))
    assert (lines[0][0], lines[-1][1]) == (1, 60)
    with pytest.raises(FlatcoatError, match="overlap 33: from 0 to 32, half of a passage"):
        Retriever.create(tmp_path / "new", encoder, passage_tokens=64, overlap=33)


def test_a_model_given_by_name_reads_as_far_as_it_can(tmp_path: Path, make_colbert: MakeFolder) -> None:
    model = make_colbert()
    text = "\n".join(f"Line {number} says that cats purr and dogs bark." for number in range(30))
    retriever = Retriever.create(tmp_path / "index", model, passage_tokens=900)
    assert retriever.contract.document_length == 900
    assert retriever.add([Document("long", text)]).passages == 1
    again = Retriever.open(tmp_path / "index")
    assert again.encoder.contract.document_length == 900
    assert again.search("cats purr")[0].lines == (1, 30)
    with pytest.raises(FlatcoatError, match="passage_tokens 99999: from 16 to "):
        Retriever.create(tmp_path / "new", model, passage_tokens=99_999)


def many(count: int, stop_at: int | None = None) -> Iterator[Document]:
    for number in range(count):
        if number == stop_at:
            raise KeyboardInterrupt
        yield Document(f"d{number}", f"cat number {number}")


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    retriever = Retriever.create(tmp_path / "index", encoder)
    progress: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        retriever.add(many(20, stop_at=10), on_progress=lambda added: progress.append(added.documents))
    assert progress == [4, 8]
    assert (retriever.info().documents, retriever.info().passages_with_vectors) == (8, 0)
    assert retriever.store.verify() == []
    assert ids(retriever) == {f"d{number}" for number in range(8)}
    added = retriever.add(many(20))
    assert (added.documents, added.unchanged, added.encoded, added.waiting) == (12, 8, 20, 0)
    assert ids(retriever) == {f"d{number}" for number in range(20)}
    assert retriever.store.verify() == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "http.py").write_text("def parse_http_response(raw):\n    return raw\n")
    (folder / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (folder / "image.png").write_bytes(b"\x89PNG\0\0")
    (folder / "empty.txt").write_text("\n")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "debug.log").write_text("noise")
    return folder


def test_a_folder_remembers_that_its_hidden_files_are_read(
    tmp_path: Path, tree: Path, encoder: Encoder
) -> None:
    (tree / ".github").mkdir()
    (tree / ".github" / "ci.yml").write_text("on: push\n")
    retriever = Retriever.create(tmp_path / "index", encoder)
    retriever.add_files(tree, hidden=True)
    assert ids(retriever) == {"src/http.py", "cats.md", ".gitignore", ".github/ci.yml"}
    assert retriever.store.sources()[0].reading.describe() == " (hidden yes)"
    retriever.add_files()
    assert ".github/ci.yml" in ids(retriever)
    retriever.add_files(tree, hidden=False, include=["*", ".github/"])
    assert ids(retriever) == {"src/http.py", "cats.md", ".github/ci.yml"}


def test_files_are_added_by_their_paths(tmp_path: Path, tree: Path, encoder: Encoder) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder)
    added = retriever.add_files(tree)
    assert (added.documents, added.unchanged) == (2, 0)
    assert {skip.path: skip.reason for skip in added.skipped} == {
        ".gitignore": "hidden",
        "debug.log": "ignored by .gitignore",
        "empty.txt": "empty",
        "image.png": "binary",
    }
    assert ids(retriever) == {"src/http.py", "cats.md"}
    assert ids(retriever, where=["lang=python"]) == {"src/http.py"}
    assert ids(retriever, where=["path^=src/"]) == {"src/http.py"}
    (tree / "cats.md").write_text("Cats sleep.\n")
    again = retriever.add_files(tree)
    assert (again.documents, again.unchanged) == (1, 1)


def test_a_single_file_and_jsonl_are_added(tmp_path: Path, tree: Path, encoder: Encoder) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder)
    assert retriever.add_files(tree / "cats.md").documents == 1
    (tmp_path / "rows.jsonl").write_text('{"_id": "r1", "text": "bread"}\n{"_id": "r2", "text": "sky"}\n')
    assert retriever.add_files(tmp_path / "rows.jsonl").documents == 2
    assert ids(retriever) == {"cats.md", "r1", "r2"}


def test_nothing_to_add_is_an_error(tmp_path: Path, encoder: Encoder) -> None:
    retriever = Retriever.create(tmp_path / "index", encoder)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FlatcoatError, match=r"nothing to index in .*: it holds no text"):
        retriever.add_files(tmp_path / "nothing")
    (tmp_path / "nothing" / "a.bin").write_bytes(b"\0")
    with pytest.raises(FlatcoatError, match=r"nothing to index in .*: 1 skipped \(binary\)"):
        retriever.add_files(tmp_path / "nothing")
    with pytest.raises(FlatcoatError, match="does not exist"):
        retriever.add_files(tmp_path / "nowhere")


def test_documents_that_add_documents_are_refused(filled: Retriever) -> None:
    def nested() -> Iterator[Document]:
        yield Document("outer", "added first")
        filled.add([Document("inner", "added by the documents themselves")])

    with pytest.raises(FlatcoatError, match="is being written by the caller of this"):
        filled.add(nested())
    with pytest.raises(FlatcoatError, match="is being written by the caller of this"):
        filled.add([Document("other", "new")], on_progress=lambda added: filled.remove(["sky"]) and None)
    assert filled.add([Document("after", "works again")]).documents == 1
