"""The product's search as a system: what is measured is what ``Retriever`` and ``flatcoat index`` give."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from flatcoat import ConflictError, Retriever
from flatcoat.eval.datasets import FolderCorpus, RetrievalDataset, load_beir
from flatcoat.eval.systems.cached_encoder import CachedEncoder
from flatcoat.eval.systems.search import SHOWN, ExistingIndex, SearchIndex, SearchSystem
from flatcoat.indexing.documents import Document
from flatcoat.indexing.store.engines import EngineSettings

SONG = "the wren sings at dawn from the top of the old hedge beside the lane " * 3
MODES = ("hybrid", "bm25", "vectors")


def dataset_of(documents: list[Document], *queries: str) -> RetrievalDataset:
    asked = {f"q{number}": text for number, text in enumerate(queries)}
    return RetrievalDataset("birds", "test", documents, asked, {query: {"a": 1} for query in asked})


@pytest.fixture
def index(encoder):
    encoder.contract = replace(encoder.contract, document_length=24)
    index = SearchIndex(encoder, engine=EngineSettings("exact"))
    yield index
    index.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Code and prose, some of it longer than a passage."""
    functions = "\n\n".join(
        f"def build_{bird}_nest(twigs):\n    return sorted(twigs)" for bird in ("wren", "owl")
    )
    texts = {
        "nest.py": functions,
        "docs/song.md": f"# Song\n\n{SONG}\n\n# Food\n\nInsects and seeds.\n",
        "hedge.txt": SONG,
    }
    texts |= {f"birds/bird{number}.txt": f"bird number {number} eats seeds" for number in range(30)}
    for name, text in texts.items():
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "files"


@pytest.mark.parametrize("mode", MODES)
def test_a_run_is_what_a_user_gets_of_an_indexed_folder(index, folder: Path, tmp_path: Path, mode) -> None:
    queries = ["where does the wren sing", "build_owl_nest", "which bird eats seeds"]
    dataset = replace(dataset_of([], *queries), documents=FolderCorpus(folder, exclude=("hedge.txt",)))
    run = SearchSystem(index, mode).search(dataset, 100).run
    retriever = Retriever.create(tmp_path / "index", index.encoder, index="exact")
    retriever.add_files(folder, exclude=["hedge.txt"])
    measured = index.of(dataset.documents).retriever
    for query in queries:
        results = [one.search(query, 100, mode=mode) for one in (measured, retriever)]
        assert results[0] == results[1], "passages, titles, metadata and scores are the same"
    for id, query in dataset.queries.items():
        shown = [result.document_id for result in retriever.search(query, SHOWN, mode=mode, group=True)]
        assert list(run[id])[:SHOWN] == shown
        deeper = [result.document_id for result in retriever.search(query, 100, mode=mode, group=True)]
        assert set(run[id]) == {*shown, *deeper}
        assert list(run[id].values()) == sorted(run[id].values(), reverse=True)


def test_documents_are_cut_into_passages_and_queries_that_are_cut_are_counted(index, folder: Path) -> None:
    dataset = replace(dataset_of([], "bird " * 600, "seeds"), documents=FolderCorpus(folder))
    measured = SearchSystem(index).search(dataset, 10)
    passages = index.of(dataset.documents).retriever.info().passages
    assert passages > len(dataset.documents) == 33
    assert measured.truncation.describe(33, 2) == (
        f"33 documents in {passages} passages of at most 24 tokens, 1 of 2 queries cut at 512 tokens"
    )
    assert SearchSystem(index, "bm25").search(dataset, 10).truncation.queries == 0
    assert measured.costs.documents == 33 and measured.costs.queries == 2
    assert measured.costs.encode > 0 and measured.costs.build > 0 and measured.costs.search > 0
    assert measured.costs.index_bytes > 0 and measured.costs.vectors > 0


def test_a_near_duplicate_stands_right_behind_the_result_that_stands_for_it(index) -> None:
    documents = [
        Document("a", "wrens sing at dawn in the old hedge"),
        Document("b", "wrens sing at dusk"),
        Document("c", "WRENS sing at dawn in the old hedge"),
    ]
    dataset = dataset_of(documents, "wrens sing at dawn in the old hedge")
    for mode in MODES:
        run = SearchSystem(index, mode).search(dataset, 10).run["q0"]
        assert list(run)[2] == "b" and {*list(run)[:2]} == {"a", "c"}
        assert len(SearchSystem(index, mode).search(dataset, 2).run["q0"]) == 2


def test_one_index_serves_all_modes_and_goes_with_the_next_corpus(
    encoder, tmp_path: Path, monkeypatch
) -> None:
    encoded: list[str] = []
    encode = encoder.encode_documents
    monkeypatch.setattr(encoder, "encode_documents", lambda texts: encoded.extend(texts) or encode(texts))
    index = SearchIndex(CachedEncoder(encoder, tmp_path / "vectors"))
    first = dataset_of([Document("a", "wrens sing"), Document("b", "owls hoot")], "wrens")
    for mode in MODES:
        assert next(iter(SearchSystem(index, mode).search(first, 10).run["q0"])) == "a"
    assert len(encoded) == 2
    place = index.of(first.documents).retriever.store.path
    assert place.is_relative_to(tmp_path / "vectors")
    second = dataset_of([Document("a", "wrens sing"), Document("d", "ducks swim")], "ducks")
    assert next(iter(SearchSystem(index).search(second, 10).run["q0"])) == "d"
    assert len(encoded) == 3, "a text of the first corpus is not encoded again"
    assert not place.exists()
    index.close()
    assert not list((tmp_path / "vectors").glob("index-*"))


def test_bm25_needs_no_vectors_and_a_mode_that_does_adds_them(index, folder: Path) -> None:
    dataset = replace(dataset_of([], "which bird eats seeds"), documents=FolderCorpus(folder))
    first = SearchSystem(index, "bm25").search(dataset, 10)
    assert (first.costs.vectors, index.encoder.seconds) == (0, 0)
    hybrid = SearchSystem(index, "hybrid").search(dataset, 10)
    built = index.of(dataset.documents)
    stats = built.retriever.info()
    assert stats.passages_with_vectors == stats.passages
    assert hybrid.costs.vectors == built.costs.vectors == stats.vectors > 0
    assert built.costs.index_bytes == stats.bytes
    assert SearchSystem(index, "bm25").search(dataset, 10).run == first.run


def test_a_query_is_not_its_own_result_a_blank_one_finds_nothing_and_ids_stay_as_they_are(index) -> None:
    composed = "re\u0301sume\u0301"
    assert unicodedata.normalize("NFC", composed) != composed
    documents = [Document("q0", "wrens sing"), Document(composed, "wrens hop"), Document("e", "")]
    dataset = replace(dataset_of(documents, "wrens sing", " "), self_hits=frozenset(["q0"]))
    run = SearchSystem(index).search(dataset, 1).run
    assert list(run["q0"]) == [composed]
    assert run["q1"] == {}


def test_names_and_descriptions_tell_systems_apart(index) -> None:
    systems = [
        SearchSystem(index),
        SearchSystem(index, "bm25"),
        SearchSystem(index, "bm25", ()),
        SearchSystem(index, "bm25", ("path",)),
        SearchSystem(SearchIndex(index.encoder), "bm25"),
    ]
    described = [json.dumps(system.describe(), sort_keys=True) for system in systems]
    assert len(set(described)) == len(systems)
    name = index.encoder.name
    assert [system.name for system in systems[:4]] == [
        f"{name} search (hybrid)",
        f"{name} search (bm25)",
        f"{name} search (bm25, signals: none)",
        f"{name} search (bm25, signals: path)",
    ]
    assert SearchSystem(index, label="mine").name == "mine search (hybrid)"


def test_it_reads_beir_folders(index, write_beir) -> None:
    dataset = load_beir(write_beir())
    run = SearchSystem(index).search(dataset, 10).run
    assert next(iter(run["q1"])) == "cats"
    assert run.keys() == dataset.queries.keys()


@pytest.mark.parametrize("mode", MODES)
def test_a_collection_of_shards_is_measured_as_an_index_is(index, encoder, tmp_path: Path, mode) -> None:
    documents = [Document(f"a{n:02d}", f"bird number {n} sings in hedge {n % 7}") for n in range(40)]
    dataset = dataset_of(documents, "which bird sings in hedge 3", "bird 17")
    collection = Retriever.create(tmp_path / "wiki", encoder, index="exact", shards=3)
    collection.add(documents)
    existing = ExistingIndex(encoder, str(tmp_path / "wiki"))
    assert (
        SearchSystem(existing, mode).search(dataset, 20).run
        == SearchSystem(index, mode).search(dataset, 20).run
    )
    assert (
        SearchSystem(existing, mode).describe()["generation"] == existing.of(documents).retriever.generation
    )
    with pytest.raises(ConflictError, match="index it first"):
        existing.of(documents * 3)
    existing.close()
    assert Retriever.open(tmp_path / "wiki", encoder).info().documents == 40
