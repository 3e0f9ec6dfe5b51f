"""Records: what is measured is written whole, read back, and not measured twice."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from flatcoat import FlatcoatError
from flatcoat.eval import runner as measuring
from flatcoat.eval.datasets import RetrievalDataset, load_beir
from flatcoat.eval.metrics import evaluate
from flatcoat.eval.records import RECORD, Record, key_of, read_records
from flatcoat.eval.runner import measure
from flatcoat.eval.systems.selection import CachedSystem, SystemSelection, labels, parse_engine
from flatcoat.eval.systems.system import Bm25System
from flatcoat.eval.trec_files import read_run
from flatcoat.indexing.documents import Document


class Counting(Bm25System):
    """BM25 that counts how often it is asked."""

    asked = 0

    def search(self, *arguments, **options):
        Counting.asked += 1
        return super().search(*arguments, **options)


@pytest.fixture(autouse=True)
def reset() -> None:
    Counting.asked = 0


@pytest.fixture
def pets(write_beir) -> RetrievalDataset:
    return load_beir(write_beir())


def test_a_record_holds_what_was_measured(pets: RetrievalDataset, tmp_path: Path) -> None:
    record = measure(Bm25System(), pets, k=10, results=tmp_path)
    assert read_records([tmp_path]) == [record]
    assert (record.system, record.dataset, record.split, record.queries) == ("BM25", "pets", "test", 2)
    assert record.revision == pets.revision
    run = read_run(record.folder / "run.trec")
    assert evaluate(run, pets.qrels).mean == pytest.approx(record.measures)
    assert set(record.per_query()) == {"q1", "q2"}
    assert record.costs["documents"] == 4
    assert record.notices == pets.notices
    assert not (record.folder / "index").exists()


def test_mteb_reads_its_own_shape(pets: RetrievalDataset, tmp_path: Path) -> None:
    from mteb.results import TaskResult

    record = measure(Bm25System(), replace(pets, name="MultiLongDocRetrieval:en"), k=10, results=tmp_path)
    result = TaskResult.from_disk(record.folder / "mteb.json")
    assert result.task_name == "MultiLongDocRetrieval"
    assert result.get_score(splits=["test"], languages=["eng"]) == pytest.approx(record.measures["ndcg@10"])
    assert result.scores["test"][0]["hf_subset"] == "en"


def test_what_is_there_is_not_measured_again(pets: RetrievalDataset, tmp_path: Path) -> None:
    first = measure(Counting(), pets, k=10, results=tmp_path)
    assert measure(Counting(), pets, k=10, results=tmp_path) == first
    assert Counting.asked == 1
    assert measure(Counting(), pets, k=5, results=tmp_path).folder != first.folder
    assert Counting.asked == 2


def test_a_run_that_was_cut_off_is_measured_again(
    pets: RetrievalDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(measuring, "write_per_query", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            measure(Counting(), pets, k=10, results=tmp_path)
    with pytest.raises(FlatcoatError, match=r"no record\.json below"):
        read_records([tmp_path])
    measure(Counting(), pets, k=10, results=tmp_path)
    assert (len(read_records([tmp_path])), Counting.asked) == (1, 2)


def test_an_id_that_trec_cannot_hold_costs_the_run_file_alone(pets: RetrievalDataset, tmp_path: Path) -> None:
    spaced = replace(pets, documents=[Document("a cat", "Cats purr when they are content.")])
    record = measure(Bm25System(), spaced, k=10, results=tmp_path)
    assert "no run.trec: the document id 'a cat'" in record.notices[-1]
    assert not (record.folder / "run.trec").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"system": "a"}'])
def test_a_malformed_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(FlatcoatError, match=r"record\.json"):
        read_records([tmp_path])


def test_a_record_with_a_value_of_another_kind_is_named(pets: RetrievalDataset, tmp_path: Path) -> None:
    file = measure(Bm25System(), pets, k=10, results=tmp_path).folder / RECORD
    file.write_text(json.dumps(json.loads(file.read_text()) | {"measures": {"map": "good"}}))
    with pytest.raises(FlatcoatError, match=r"record\.json: measures.map: .*number"):
        read_records([tmp_path])


def test_keys_differ_where_results_may() -> None:
    keys = {key_of({"bits": bits}, k) for bits in (2, 4) for k in (10, 100)}
    assert len(keys) == 4
    assert key_of({"a": 1, "b": 2}, 10) == key_of({"b": 2, "a": 1}, 10)


def test_a_record_is_found_below_several_folders_once(pets: RetrievalDataset, tmp_path: Path) -> None:
    measure(Bm25System(), pets, k=10, results=tmp_path)
    found = read_records([tmp_path, tmp_path / ".", *tmp_path.iterdir()])
    assert len(found) == 1
    assert isinstance(found[0], Record)


def test_one_search_serves_a_system_and_what_is_made_of_it(pets: RetrievalDataset) -> None:
    cached = CachedSystem(Counting())
    runs = [cached.search(pets, 10).run for _ in range(3)]
    assert Counting.asked == 1
    assert runs[0] == runs[2]
    cached.search(replace(pets, name="others"), 10)
    assert Counting.asked == 2


def test_systems_in_the_order_of_the_table(loaded) -> None:
    selection = SystemSelection(
        models=("org/words",), engines=("exact", "plaid:2"), modes=("hybrid", "bm25", "vectors")
    )
    names = [system.name for system in selection.systems()]
    searches = [f"org/words search ({mode})" for mode in ("hybrid", "bm25", "vectors")]
    assert names == ["BM25", "org/words", "org/words (plaid:2)", *searches]
    with pytest.raises(FlatcoatError, match="no mode 'fused': vectors, bm25, hybrid are known"):
        list(replace(selection, modes=("fused",)).systems())


def test_a_model_is_named_by_as_much_of_its_path_as_tells_it_apart(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first/final", "second/final", "other/first/final", "alone")]
    for folder in folders:
        folder.mkdir(parents=True)
    assert labels([str(folders[3]), "org/model", None]) == ["alone", "org/model", ""]
    assert labels([str(folder) for folder in folders[:2]]) == ["first/final", "second/final"]
    deeper = labels([str(folders[0]), f"{folders[2]}/"])
    assert deeper == [f"{tmp_path.name}/first/final", "other/first/final"]


def test_engines_by_name() -> None:
    assert parse_engine("plaid:2").bits == 2
    assert parse_engine("faiss:IVF,SQ8").factory == "IVF,SQ8"
    assert [parse_engine(name).name for name in ("exact", "auto", "faiss")] == ["exact", "auto", "faiss"]
    for wrong in ("hnsw", "plaid:two", "exact:1", ""):
        with pytest.raises(FlatcoatError, match="no index"):
            parse_engine(wrong)
    with pytest.raises(FlatcoatError, match="bits is 3"):
        parse_engine("plaid:3")


def test_data_sets_of_one_name_keep_their_records_beside_each_other(
    pets: RetrievalDataset, tmp_path: Path
) -> None:
    variants = [
        pets,
        replace(pets, revision="other"),
        replace(pets, split="dev"),
        replace(pets, name="Pets"),
        replace(pets, name="pets!"),
        replace(pets, name="pets?"),
        replace(pets, name="p" * 300),
        replace(pets, name="p" * 300 + "q"),
        replace(pets, name="p.dev", split="test"),
        replace(pets, name="p", split="dev.test"),
    ]
    records = [measure(Counting(), variant, k=10, results=tmp_path / "results") for variant in variants]
    assert Counting.asked == len(variants)
    # also where a file system does not tell cases apart
    assert len({str(record.folder).casefold() for record in records}) == len(variants)
    assert read_records([tmp_path]) == sorted(records, key=lambda record: record.folder)
    assert [
        measure(Counting(), variant, k=10, results=tmp_path / "results") for variant in variants
    ] == records
    assert Counting.asked == len(variants)


def test_systems_whose_names_are_alike_keep_their_records_beside_each_other(
    pets: RetrievalDataset, tmp_path: Path
) -> None:
    names = ["a b", "a-b", "A-B", "a/b", "-a-b", "a" * 300, "a" * 301]
    records = [measure(Bm25System(name), pets, k=10, results=tmp_path) for name in names]
    assert [record.system for record in records] == names
    assert len({str(record.folder).casefold() for record in records}) == len(names)


def test_two_measurements_at_once_make_one_record(pets: RetrievalDataset, tmp_path: Path) -> None:
    def searched(*arguments, **options):
        Counting.asked += 1
        time.sleep(0.2)
        return Bm25System.search(*arguments, **options)

    with ThreadPoolExecutor(4) as pool, pytest.MonkeyPatch.context() as patched:
        patched.setattr(Counting, "search", searched)
        found = list(pool.map(lambda _: measure(Counting(), pets, k=10, results=tmp_path), range(4)))
    assert Counting.asked == 1
    assert found == read_records([tmp_path]) * 4
