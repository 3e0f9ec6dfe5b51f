from statistics import fmean

import pytest

from flatcoat.eval.benchmarks import BENCHMARKS
from flatcoat.eval.published import PUBLISHED, find_published


def figures(name: str) -> dict[str, float]:
    return {figure.system: figure.value for figure in find_published(name)}


@pytest.mark.parametrize("kind", ["base DPR", "large DPR", "base ColBERT", "large ColBERT"])
def test_the_data_sets_average_is_the_benchmarks(kind):
    system = f"ModernBERT-{kind}"
    parts = [figures(task)[system] for task in BENCHMARKS["beir"].tasks]
    assert fmean(parts) == pytest.approx(figures("beir")[system], abs=0.0006)


@pytest.mark.parametrize(
    ("spellings", "system", "value"),
    [
        (("nfcorpus", "NFCorpus", "nf-corpus"), "bm25s", 0.321),
        (("scifact", "SciFact"), "all-MiniLM-L6-v2", 0.645),
        (("trec-covid", "TRECCOVID"), "BM25 multifield", 0.656),
        (("fiqa", "FiQA2018"), "ModernBERT-base ColBERT", 0.38),
        (("webis-touche2020", "Touche2020"), "ModernBERT-large DPR", 0.231),
        (("cqadupstack", "CQADupstackRetrieval"), "ModernBERT-large ColBERT", 0.359),
        (("dbpedia-entity", "DBPedia"), "ModernBERT-base DPR", 0.238),
        (("mldr", "MLDR-en", "MultiLongDocRetrieval:en"), "ModernBERT-base DPR, tuned on MLDR", 0.44),
        (("codesearchnet", "COIRCodeSearchNetRetrieval"), "BERT-base DPR", 0.412),
        (("StackOverflowQA", "stackqa"), "ModernBERT-large DPR", 0.839),
        (("GLUE", "glue"), "DeBERTaV3-base", 0.881),
        (("BEIR", "beir"), "LateOn", 0.572),
    ],
)
def test_a_figure_is_found_under_its_usual_names(spellings, system, value):
    for spelling in spellings:
        assert figures(spelling)[system] == value, spelling


@pytest.mark.parametrize(
    "name",
    ["CodeSearchNetRetrieval", "CodeSearchNetCCRetrieval", "MultiLongDocRetrieval:de", "pets", ""],
)
def test_other_data_have_no_figures(name):
    assert find_published(name) == []


def test_every_figure_is_a_fraction_with_a_source_and_stands_once():
    assert all(0 < figure.value < 1 and figure.source for figure in PUBLISHED)
    assert len({figure[:3] for figure in PUBLISHED}) == len(PUBLISHED)
    known = {*BENCHMARKS, "glue", *BENCHMARKS["beir"].tasks}
    assert {figure.dataset for figure in PUBLISHED} <= known
