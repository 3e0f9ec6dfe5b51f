"""mteb's own tasks, their data replaced by small local files: mteb's loaders run, the network does not."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets
import mteb
import pytest
from huggingface_hub import constants

from flatcoat import FlatcoatError
from flatcoat.eval.benchmarks import BENCHMARKS, benchmark_of, load_tasks
from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.eval.mteb_tasks import HubCorpus

Rows = Sequence[Mapping[str, object]]
Place = Callable[..., Path]

CORPUS: Rows = [
    {"_id": "d1", "title": "Cats", "text": "Cats purr."},
    {"_id": "d2", "title": None, "text": "Dogs bark."},
    {"_id": "q2", "title": "", "text": " "},
]
QUERIES: Rows = [{"_id": f"q{i}", "text": f"question {i}", "partition": "test"} for i in range(1, 4)]
QRELS: Rows = [
    {"query-id": "q1", "corpus-id": "d1", "score": 1},
    {"query-id": "q2", "corpus-id": "d2", "score": 2},
    {"query-id": "q2", "corpus-id": "gone", "score": 1},
    {"query-id": "silent", "corpus-id": "d1", "score": 1},
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Put small files where a task of mteb's looks for its data; a prefix a subset, "" for the only one."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(
        task: str,
        prefixes: Sequence[str] = ("",),
        qrels_split: str = "test",
        corpus: Rows = CORPUS,
        queries: Rows = QUERIES,
        qrels: Rows = QRELS,
    ) -> Path:
        folder = tmp_path / "hub" / task
        folder.mkdir(parents=True)
        card = ["---", "configs:"]
        for prefix in prefixes:
            parts = {"corpus": ("corpus", corpus), "queries": ("queries", queries)}
            parts["qrels" if prefix else "default"] = (qrels_split, qrels)
            for part, (split, rows) in parts.items():
                file = folder / f"{prefix}{part}.jsonl"
                file.write_text("".join(json.dumps(row) + "\n" for row in rows))
                card += [f"- config_name: {prefix}{part}", "  data_files:"]
                card += [f"  - split: {split}", f"    path: {file.name}"]
        (folder / "README.md").write_text("\n".join([*card, "---", ""]))
        monkeypatch.setitem(mteb.get_task(task).metadata.dataset, "path", str(folder))
        return folder

    return write


def load(*names: str, split: str | None = None) -> list[RetrievalDataset]:
    return list(load_tasks(names, split))


def test_a_task_of_mteb_is_loaded_by_mteb(place):
    place("NFCorpus")
    (dataset,) = load("NFCorpus")
    assert (dataset.name, dataset.split, dataset.benchmark) == ("NFCorpus", "test", "beir")
    assert dataset.revision == mteb.get_task("NFCorpus").metadata.dataset["revision"]
    expected = [("d1", "Cats", "Cats purr."), ("d2", "", "Dogs bark."), ("q2", "", " ")]
    for _ in range(2):
        assert [(one.id, one.title, one.text) for one in dataset.documents] == expected
    assert len(dataset.documents) == 3
    assert isinstance(dataset.documents, HubCorpus)
    assert dataset.documents.rows.cache_files, "the texts stay on disk"
    assert dataset.queries == {"q1": "question 1", "q2": "question 2"}
    assert dataset.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2, "gone": 1}}
    assert dataset.self_hits == frozenset()
    assert dataset.notices == [
        "1 documents have an empty text: kept",
        "1 judgements name documents that are not in the corpus: kept, counted as not found",
        "1 judged queries have no text: left out",
    ]


def test_a_corpus_without_titles_has_empty_ones(place):
    place("SciFact", corpus=[{"_id": 7, "text": "x"}], qrels=[{"query-id": "q1", "corpus-id": 7, "score": 1}])
    (dataset,) = load("SciFact")
    assert [(one.id, one.title) for one in dataset.documents] == [("7", "")]
    assert dataset.qrels == {"q1": {"7": 1}}


def test_own_ids_are_dropped_as_the_benchmark_does(place):
    for task in ("ArguAna", "SCIDOCS", "CosQA"):
        place(task)
    arguana, scidocs, cosqa = load("ArguAna", "SCIDOCS", "CosQA")
    assert arguana.self_hits == cosqa.self_hits == {"q1", "q2"}
    assert scidocs.self_hits == frozenset()
    assert cosqa.benchmark == "coir"


def test_mldr_is_its_english_part(place):
    place("MultiLongDocRetrieval", ["en-", "de-"])
    (dataset,) = load("mldr")
    assert (dataset.name, dataset.benchmark) == ("MultiLongDocRetrieval:en", "mldr")
    assert len(dataset.documents) == 3
    (german,) = load("MultiLongDocRetrieval:de")
    assert (german.name, german.benchmark) == ("MultiLongDocRetrieval:de", "")


def test_codesearchnet_is_a_data_set_a_language(place):
    languages = ["python", "javascript", "go", "ruby", "java", "php"]
    place("COIRCodeSearchNetRetrieval", [f"{language}-" for language in languages])
    found = load("codesearchnet", "COIRCodeSearchNetRetrieval:go")
    assert [dataset.name for dataset in found] == [f"COIRCodeSearchNetRetrieval:{one}" for one in languages]
    for dataset in found:
        assert dataset.benchmark == "codesearchnet"
        assert [one.title for one in dataset.documents] == ["Cats", "", ""]
        assert dataset.queries.keys() == dataset.qrels.keys() == dataset.self_hits == {"q1", "q2"}


def test_cqadupstack_is_twelve_and_counts_as_one(place):
    parts = BENCHMARKS["beir"].average_of["CQADupstackRetrieval"]
    assert len(parts) == 12
    for task in parts:
        place(task)
    found = load("CQADupstackRetrieval")
    assert [(dataset.name, dataset.benchmark) for dataset in found] == [(part, "beir") for part in parts]
    values = dict.fromkeys(parts, 0.5) | {parts[0]: 0.74, "NFCorpus": 0.3, "stranger": 1.0}
    assert BENCHMARKS["beir"].by_task(values) == pytest.approx(
        {"CQADupstackRetrieval": 0.52, "NFCorpus": 0.3}
    )
    del values[parts[5]]
    assert BENCHMARKS["beir"].by_task(values) == {"NFCorpus": 0.3}


def test_folders_come_between_and_everything_once(place, write_beir):
    place("NFCorpus")
    folder = str(write_beir())
    found = load(folder, "NFCorpus", f"{folder}/", "NFCorpus")
    assert [(dataset.name, dataset.benchmark) for dataset in found] == [("pets", ""), ("NFCorpus", "beir")]


def test_a_data_set_is_loaded_when_its_turn_comes(place, write_beir):
    found = load_tasks([str(write_beir()), "NFCorpus"])
    assert next(found).name == "pets"
    with pytest.raises(FlatcoatError, match="NFCorpus cannot be read from the Hugging Face hub"):
        next(found)


def test_the_table_is_mtebs():
    for name, other in {"beir": "BEIR", "nanobeir": "NanoBEIR", "coir": "CoIR"}.items():
        benchmark = mteb.get_benchmark(other)
        assert set(BENCHMARKS[name].tasks) == {task.metadata.name for task in benchmark.tasks}
    for benchmark in BENCHMARKS.values():
        for task, parts in benchmark.average_of.items():
            known = mteb.get_task(task.partition(":")[0])
            if ":" in task:
                assert parts == (task,) and task.partition(":")[2] in known.hf_subsets
            elif known.metadata.type == "Retrieval" and not hasattr(known, "tasks"):
                names = [f"{task}:{one}" for one in known.hf_subsets]
                assert list(parts) == ([task] if names == [f"{task}:default"] else names)
            else:
                assert list(parts) == [part.metadata.name for part in known.tasks]
    assert [benchmark_of(one) for one in ("MSMARCO", "StackOverflowQA", "AppsRetrieval", "pets")] == [
        "beir",
        "stackqa",
        "coir",
        "",
    ]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("biers", None, "'biers' is no folder, benchmark or task of mteb: nearest are beir"),
        ("nfcorpus", None, "nearest are NFCorpus"),
        ("./nowhere", None, "nowhere is not a folder: a BEIR folder holds"),
        ("MSMARCO", "test", "MSMARCO has no split 'test': choose one of dev"),
        ("StackOverflowQA:go", None, "StackOverflowQA has no subset 'go': choose one of default"),
        ("STS22", None, "STS22 is STS of text: only Retrieval of text is measured here"),
    ],
)
def test_what_is_unknown_is_said_before_anything_is_loaded(write_beir, name, split, message):
    with pytest.raises(FlatcoatError, match=message):
        load_tasks([str(write_beir()), name], split)


def test_a_folders_split_is_looked_for_before_anything_is_loaded(write_beir):
    with pytest.raises(FlatcoatError, match="has no split 'dev': choose one of test"):
        load_tasks([str(write_beir())], "dev")


@pytest.mark.parametrize(("split", "chosen"), [(None, "dev"), ("dev", "dev")])
def test_the_split_is_the_one_that_mteb_measures(place, split, chosen):
    place("MSMARCO", qrels_split="dev")
    (dataset,) = load("MSMARCO", split=split)
    assert dataset.split == chosen


def test_data_that_nobody_judged_are_refused(place):
    place("NFCorpus", qrels=[{"query-id": "other", "corpus-id": "d1", "score": 1}])
    with pytest.raises(FlatcoatError, match="NFCorpus: no query is judged in 'test'"):
        load("NFCorpus")


@pytest.mark.parametrize("row", [{"text": "q", "instruction": "be brief"}, {"text": [{"role": "user"}]}])
def test_queries_that_are_not_plain_texts_are_refused(place, row):
    place("NFCorpus", queries=[{"_id": "q1", **row}])
    with pytest.raises(FlatcoatError, match="NFCorpus asks in conversations, with instructions or"):
        load("NFCorpus")


def test_a_hub_out_of_reach_is_said_at_once_and_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.perf_counter()
    with pytest.raises(
        FlatcoatError, match=r"NFCorpus cannot .* copy that HF_HOME .* a BEIR folder"
    ) as caught:
        load("NFCorpus")
    assert time.perf_counter() - started < 6
    assert "\n" not in str(caught.value)
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
