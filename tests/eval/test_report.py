"""What ``flatcoat eval`` reports of data sets that belong together."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.eval.report import Measured, group_means, print_report, report_json, truncation_notices
from flatcoat.eval.runner import measure
from flatcoat.eval.systems.system import Bm25System, EncoderSystem
from flatcoat.indexing.documents import Document

BIRDS = ("wren", "owl", "robin")


def dataset(name: str, *, found: int, lost: int) -> RetrievalDataset:
    """Questions that BM25 answers, of the kind "easy", and questions that nothing answers, "hard"."""
    queries = {f"e{number}": BIRDS[number % 3] for number in range(found)}
    queries |= {f"h{number}": "quartz" for number in range(lost)}
    documents = [Document(bird, f"the {bird} sings") for bird in BIRDS]
    qrels = {query: {text if text in BIRDS else "wren": 1} for query, text in queries.items()}
    groups = {
        "easy": frozenset(f"e{n}" for n in range(found)),
        "hard": frozenset(f"h{n}" for n in range(lost)),
    }
    return RetrievalDataset(
        f"quiz:{name}", "dev", documents, queries, qrels, benchmark="quiz", groups=groups, revision=name
    )


@pytest.fixture
def measured(encoder, tmp_path: Path) -> list[Measured]:
    encoder.contract = replace(encoder.contract, document_length=3)
    return [
        Measured(measure(system, one, k=10, results=tmp_path), system, one.groups)
        for one in (dataset("one", found=3, lost=1), dataset("two", found=2, lost=0))
        for system in (Bm25System(), EncoderSystem(encoder, label="model"))
    ]


def test_means_are_over_questions_and_by_group(measured) -> None:
    means = {(mean.system, mean.group): mean for mean in group_means(measured)}
    assert [(key, mean.queries) for key, mean in means.items()] == [
        ((system, group), queries)
        for system in ("BM25", "model")
        for group, queries in (("", 6), ("easy", 5), ("hard", 1))
    ]
    assert means["BM25", "easy"].measures["ndcg@10"] == 1
    assert means["BM25", "hard"].measures["ndcg@10"] == 0
    scores = [row["map"] for one in measured[::2] for row in one.record.per_query().values()]
    assert means["BM25", ""].measures["map"] == pytest.approx(fmean(scores))


def test_data_sets_of_a_benchmark_are_one_table_with_its_groups(measured, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_report(measured)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "quiz dev, 2 data sets, 6 queries"
    assert any(line.startswith("BM25 83.3 83.3 83.3 83.3") for line in lines)
    groups = lines[lines.index("nDCG@10 all easy hard") :]
    assert groups[2:4] == ["queries 6 5 1", "BM25 83.3 100.0 0.0"]


def test_a_data_set_by_itself_is_named(measured, capsys) -> None:
    print_report(measured[:2])
    assert capsys.readouterr().out.splitlines()[0].strip() == "quiz:one dev, 4 queries"


def test_json_has_rows_by_data_set_and_means_by_benchmark(measured) -> None:
    report = report_json(measured)
    assert [row["dataset"] for row in report["rows"]] == ["quiz:one", "quiz:one", "quiz:two", "quiz:two"]
    first = report["means"][0]
    assert (first["title"], first["system"], first["group"], first["queries"]) == ("quiz", "BM25", "", 6)
    assert first["ndcg@10"] == pytest.approx(5 / 6)


def test_what_a_system_did_not_read_is_added_up(measured) -> None:
    assert truncation_notices(measured) == [
        "quiz dev, 2 data sets: model: 6 of 6 documents cut at 3 tokens",
    ]
