"""Published figures of other systems, shown beside measured ones.

Tables are as printed, measures x 100; a dash in print is None here.
"""

from typing import NamedTuple

_PAPER = "Warner et al. 2024, arXiv:2412.13663"
_TABLE_1 = f"{_PAPER}, table 1"
_PER_DATASET = f"{_PAPER}, results by data set"
_CARDS = "model cards, mean of BEIR's 15"
_NDCG = "ndcg@10"


# Columns of table 1: the tuning of the model, the benchmark, the measure.
_COLUMNS = (
    ("DPR", "beir", _NDCG),
    ("DPR, not tuned on MLDR", "mldr", _NDCG),
    ("DPR, tuned on MLDR", "mldr", _NDCG),
    ("ColBERT", "beir", _NDCG),
    ("ColBERT, not tuned on MLDR", "mldr", _NDCG),
    ("", "glue", "average"),
    ("DPR", "codesearchnet", _NDCG),
    ("DPR", "stackqa", _NDCG),
)
_BACKBONES = {
    "BERT-base": (38.9, 23.9, 32.2, 49.0, 28.1, 84.7, 41.2, 59.5),
    "RoBERTa-base": (37.7, 22.9, 32.8, 48.7, 28.2, 86.4, 44.3, 59.6),
    "DeBERTaV3-base": (20.2, 5.4, 13.4, 47.1, 21.9, 88.1, 17.5, 18.6),
    "NomicBERT": (41.0, 26.7, 30.3, 49.9, 61.3, 84.0, 41.6, 61.4),
    "GTE-en-MLM-base": (41.4, 34.3, 44.4, 48.2, 69.3, 85.6, 44.9, 71.4),
    "ModernBERT-base": (41.6, 27.4, 44.0, 51.3, 80.2, 88.4, 56.4, 73.6),
    "ModernBERT-large": (44.0, 34.3, 48.6, 52.4, 80.4, 90.4, 59.5, 83.9),
}

# Judging by its values, MSMARCO in the DPR columns is not on the dev queries, unlike in the ColBERT columns.
_TUNED = (
    "ModernBERT-base DPR",
    "ModernBERT-large DPR",
    "ModernBERT-base ColBERT",
    "ModernBERT-large ColBERT",
)
_BY_TUNED = {
    "NFCorpus": (23.7, 26.2, 35.2, 36.0),
    "SciFact": (57.0, 60.4, 73.0, 73.2),
    "TRECCOVID": (72.1, 74.1, 80.5, 81.3),
    "FiQA2018": (28.8, 33.1, 38.0, 40.3),
    "ArguAna": (35.7, 38.2, 49.1, 50.3),
    "ClimateFEVER": (23.6, 20.5, 22.2, 22.3),
    "DBPedia": (23.8, 25.1, 42.0, 44.1),
    "FEVER": (59.9, 62.7, 85.8, 85.8),
    "HotpotQA": (46.1, 49.2, 70.4, 72.5),
    "MSMARCO": (61.6, 64.9, 45.4, 46.0),
    "NQ": (39.5, 45.5, 57.1, 59.9),
    "QuoraRetrieval": (85.9, 86.5, 86.3, 86.1),
    "SCIDOCS": (12.5, 13.8, 16.0, 16.9),
    "Touche2020": (20.8, 23.1, 33.9, 34.6),
    "CQADupstackRetrieval": (33.1, 36.5, 35.1, 35.9),
}

_BASELINES = {
    "BM25 flat": "pyserini's reproductions",
    "BM25 multifield": "pyserini's reproductions",
    "bm25s": "github.com/xhluca/bm25s, mteb's results",
    "all-MiniLM-L6-v2": "mteb's results",
}
_BY_BASELINE = {
    "NFCorpus": (32.2, 32.5, 32.1, 31.6),
    "SciFact": (67.9, 66.5, 68.7, 64.5),
    "ArguAna": (39.7, 41.4, 49.3, 50.2),
    "FiQA2018": (23.6, 23.6, 25.1, 36.9),
    "SCIDOCS": (14.9, 15.8, 15.8, 21.6),
    "TRECCOVID": (59.5, 65.6, 62.3, 47.2),
    "stackqa": (None, None, 70.3, 84.0),
    "mldr": (None, None, None, 23.1),
}

_STRONGER = {
    "gte-modernbert-base": 55.3,
    "GTE-ModernColBERT": 54.8,
    "ColBERT-Zero": 55.4,
    "LateOn": 57.2,
}

# Other names of the same data, in letters and digits alone.
_ALSO = {
    "fiqa": "FiQA2018",
    "quora": "QuoraRetrieval",
    "dbpediaentity": "DBPedia",
    "touche": "Touche2020",
    "webistouche2020": "Touche2020",
    "cqadupstack": "CQADupstackRetrieval",
    "multilongdocretrievalen": "mldr",
    "mldren": "mldr",
    "coircodesearchnetretrieval": "codesearchnet",
    "stackoverflowqa": "stackqa",
}


class Published(NamedTuple):
    """One figure. ``dataset`` is mteb's name of a data set, or a benchmark; ``value`` a fraction of 1."""

    system: str
    dataset: str
    measure: str
    value: float
    source: str


def _tabulate() -> tuple[Published, ...]:
    figures: list[Published] = []

    def add(system: str, dataset: str, value: float | None, source: str, measure: str = _NDCG) -> None:
        if value is not None:
            figures.append(Published(system, dataset, measure, round(value / 100, 4), source))

    for backbone, values in _BACKBONES.items():
        for (tuning, benchmark, measure), value in zip(_COLUMNS, values, strict=True):
            add(f"{backbone} {tuning}".strip(), benchmark, value, _TABLE_1, measure)
    for dataset, values in _BY_TUNED.items():
        for system, value in zip(_TUNED, values, strict=True):
            doubt = "; not the dev queries, by its size" if dataset == "MSMARCO" and "DPR" in system else ""
            add(system, dataset, value, _PER_DATASET + doubt)
    for dataset, values in _BY_BASELINE.items():
        for (system, source), value in zip(_BASELINES.items(), values, strict=True):
            add(system, dataset, value, source)
    for system, value in _STRONGER.items():
        add(system, "beir", value, _CARDS)
    return tuple(figures)


PUBLISHED = _tabulate()


def find_published(name: str) -> list[Published]:
    """The published figures for a data set or benchmark, under any of its usual spellings.

    Folders "nfcorpus" and "trec-covid" are mteb's "NFCorpus" and "TRECCOVID". The paper's CodeSearchNet is
    mteb's COIRCodeSearchNetRetrieval, not its CodeSearchNetRetrieval.

    >>> max(find_published("trec-covid"), key=lambda figure: figure.value).system
    'ModernBERT-large ColBERT'
    """
    plain = _plain(name)
    dataset = _plain(_ALSO.get(plain, plain))
    return [figure for figure in PUBLISHED if _plain(figure.dataset) == dataset]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
