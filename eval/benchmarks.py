"""Benchmarks by name, and the data sets of a benchmark, an mteb task or a BEIR folder.

Sources: https://arxiv.org/abs/2412.13663 (the benchmarks, and MLDR's 8,192 tokens per document),
https://github.com/embeddings-benchmark/mteb (tasks and revisions).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from statistics import fmean

from flatcoat.errors import NotFoundError
from flatcoat.indexing.reading.beir import LAYOUT, BeirFolder

from .datasets import Load, RetrievalDataset, load_beir

_FORUMS = (
    "Android",
    "English",
    "Gaming",
    "Gis",
    "Mathematica",
    "Physics",
    "Programmers",
    "Stats",
    "Tex",
    "Unix",
    "Webmasters",
    "Wordpress",
)
_BEIR = (
    "TRECCOVID",
    "NFCorpus",
    "NQ",
    "HotpotQA",
    "FiQA2018",
    "ArguAna",
    "Touche2020",
    "CQADupstackRetrieval",
    "QuoraRetrieval",
    "DBPedia",
    "SCIDOCS",
    "FEVER",
    "ClimateFEVER",
    "SciFact",
    "MSMARCO",
)
_NANOBEIR = (
    "NanoArguAnaRetrieval",
    "NanoClimateFeverRetrieval",
    "NanoDBPediaRetrieval",
    "NanoFEVERRetrieval",
    "NanoFiQA2018Retrieval",
    "NanoHotpotQARetrieval",
    "NanoMSMARCORetrieval",
    "NanoNFCorpusRetrieval",
    "NanoNQRetrieval",
    "NanoQuoraRetrieval",
    "NanoSCIDOCSRetrieval",
    "NanoSciFactRetrieval",
    "NanoTouche2020Retrieval",
)
_COIR = (
    "AppsRetrieval",
    "CodeFeedbackMT",
    "CodeFeedbackST",
    "CodeSearchNetCCRetrieval",
    "CodeTransOceanContest",
    "CodeTransOceanDL",
    "CosQA",
    "COIRCodeSearchNetRetrieval",
    "StackOverflowQA",
    "SyntheticText2SQL",
)
_LANGUAGES = ("python", "javascript", "go", "ruby", "java", "php")
_PARTS = {
    "CQADupstackRetrieval": tuple(f"CQADupstack{forum}Retrieval" for forum in _FORUMS),
    "COIRCodeSearchNetRetrieval": tuple(f"COIRCodeSearchNetRetrieval:{part}" for part in _LANGUAGES),
    "CodeSearchNetCCRetrieval": tuple(f"CodeSearchNetCCRetrieval:{part}" for part in _LANGUAGES),
}


@dataclass(frozen=True)
class Benchmark:
    """Tasks whose scores are averaged: mteb's names, a subset after a colon.

    ``document_length`` is the number of tokens read per document; None: the model's.

    >>> Benchmark(("NFCorpus", "SciFact")).by_task({"SciFact": 0.7, "pets": 0.5})
    {'SciFact': 0.7}
    """

    tasks: tuple[str, ...]
    document_length: int | None = None

    @property
    def average_of(self) -> dict[str, tuple[str, ...]]:
        """Task -> the data sets whose mean is the task's score, for most tasks one."""
        return {task: _PARTS.get(task, (task,)) for task in self.tasks}

    @property
    def datasets(self) -> list[str]:
        """The data sets of all tasks, in order."""
        return [name for parts in self.average_of.values() for name in parts]

    def by_task(self, values: Mapping[str, float]) -> dict[str, float]:
        """One value per task, from one per data set; tasks without all of their data sets are left out."""
        return {
            task: fmean(values[name] for name in parts)
            for task, parts in self.average_of.items()
            if all(name in values for name in parts)
        }


BENCHMARKS: dict[str, Benchmark] = {
    "beir": Benchmark(_BEIR),
    "mldr": Benchmark(("MultiLongDocRetrieval:en",), document_length=8192),
    "codesearchnet": Benchmark(("COIRCodeSearchNetRetrieval",)),
    "stackqa": Benchmark(("StackOverflowQA",)),
    "nanobeir": Benchmark(_NANOBEIR),
    "coir": Benchmark(_COIR),
}


def load_tasks(names: Sequence[str], split: str | None = None) -> Iterator[RetrievalDataset]:
    """The data sets of benchmarks, of mteb's tasks (or one subset, ``TASK:SUBSET``) and of BEIR folders.

    Of code-questions each package is a data set, ``code-questions:PACKAGE`` one of them.

    A data set is loaded when the iterator reaches it, and once even if several names include it. Raises
    NotFoundError at once for an unknown name, split or subset; FlatcoatError on the way for data that are
    missing or malformed.
    """
    from .code_questions.dataset import is_code_questions, plan_code_questions

    plan: dict[object, Load] = {}
    for name in names:
        folder = Path(name)
        if is_code_questions(name):
            loads = plan_code_questions(name, split)
        elif name not in BENCHMARKS and folder.is_dir():
            chosen = BeirFolder(folder).choose_split(split)
            loads = {folder.resolve(): partial(load_beir, folder, chosen)}
        elif "/" in name:
            raise NotFoundError(f"{name} is not a folder: {LAYOUT}")
        else:
            loads = _plan_hub_tasks(name, split)
        for key, load in loads.items():
            plan.setdefault(key, load)
    return (load() for load in plan.values())


def benchmark_of(dataset: str) -> str:
    """The first benchmark with this data set of mteb's, or ""."""
    return next((name for name, benchmark in BENCHMARKS.items() if dataset in benchmark.datasets), "")


def _plan_hub_tasks(name: str, split: str | None) -> dict[object, Load]:
    from .mteb_tasks import find_hub_tasks, load_hub_task

    try:
        tasks = BENCHMARKS[name].tasks if name in BENCHMARKS else (name,)
        hub_tasks = [task for part in tasks for task in find_hub_tasks(part, split)]
    except KeyError:
        raise NotFoundError(f"{name!r} is no folder, benchmark or task of mteb: {_nearest(name)}") from None
    # CoIR's evaluation drops the query's id from its results everywhere, mteb's in some tasks only.
    without_self_hits = BENCHMARKS["coir"].tasks
    plan: dict[object, Load] = {}
    for task in hub_tasks:
        benchmark = name if name in BENCHMARKS else benchmark_of(task.name)
        plan[task] = partial(load_hub_task, task, benchmark, drop_own_ids=task.task in without_self_hits)
    return plan


def _nearest(name: str) -> str:
    from .code_questions.dataset import NAME
    from .mteb_tasks import known_tasks

    benchmarks = [*BENCHMARKS, NAME]
    known = {task.lower(): task for task in [*known_tasks(), *benchmarks]}
    near = [known[match] for match in get_close_matches(name.lower(), known)] or benchmarks
    return f"nearest are {', '.join(near)}"
