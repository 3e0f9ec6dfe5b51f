"""What is measured: benchmarks by name, and the data sets that a name stands for.

Sources: https://arxiv.org/abs/2412.13663 (which benchmarks, and that MLDR is read at 8,192 tokens),
https://github.com/embeddings-benchmark/mteb (tasks and revisions).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from flatcoat.errors import FlatcoatError

from .datasets import LAYOUT, RetrievalDataset, choose_split, load_beir

Load: TypeAlias = Callable[[], RetrievalDataset]


@dataclass(frozen=True)
class Benchmark:
    """Tasks whose mean is one figure: mteb's names, a subset after a colon.

    ``document_length`` is how many tokens of a document are read; None where that is the model's choice.
    """

    tasks: tuple[str, ...]
    document_length: int | None = None

    @property
    def average_of(self) -> dict[str, tuple[str, ...]]:
        """Task -> the data sets whose mean is its score; most tasks are one data set."""
        return {task: _PARTS.get(task, (task,)) for task in self.tasks}

    @property
    def datasets(self) -> list[str]:
        """The data sets of all tasks."""
        return [name for parts in self.average_of.values() for name in parts]

    def by_task(self, values: Mapping[str, float]) -> dict[str, float]:
        """One value a task, from values by data set; a task of which a part is missing is left out."""
        return {
            task: fmean(values[name] for name in parts)
            for task, parts in self.average_of.items()
            if all(name in values for name in parts)
        }


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

    Each is loaded when its turn comes, once, even if several names stand for it. Raises FlatcoatError at
    once for a name, split or subset that is unknown; in its turn for data that are missing or malformed.
    """
    plan: dict[object, Load] = {}
    for name in names:
        folder = Path(name)
        if name not in BENCHMARKS and folder.is_dir():
            chosen = choose_split(folder, split)
            found: dict[object, Load] = {folder.resolve(): partial(load_beir, folder, chosen)}
        elif "/" in name:
            raise FlatcoatError(f"{name} is not a folder: {LAYOUT}")
        else:
            found = _plan_hub_tasks(name, split)
        for key, load in found.items():
            plan.setdefault(key, load)
    return (load() for load in plan.values())


def benchmark_of(dataset: str) -> str:
    """The first benchmark that a data set of mteb's is part of, or ""."""
    return next((name for name, benchmark in BENCHMARKS.items() if dataset in benchmark.datasets), "")


def _plan_hub_tasks(name: str, split: str | None) -> dict[object, Load]:
    from .mteb_tasks import find_hub_tasks, load_hub_task

    try:
        tasks = BENCHMARKS[name].tasks if name in BENCHMARKS else (name,)
        found = [task for part in tasks for task in find_hub_tasks(part, split)]
    except KeyError:
        raise FlatcoatError(f"{name!r} is no folder, benchmark or task of mteb: {_nearest(name)}") from None
    # CoIR's own evaluation drops a query's own id everywhere, mteb's in some tasks only.
    dropped = BENCHMARKS["coir"].tasks
    plan: dict[object, Load] = {}
    for task in found:
        benchmark = name if name in BENCHMARKS else benchmark_of(task.name)
        plan[task] = partial(load_hub_task, task, benchmark, task.task in dropped)
    return plan


def _nearest(name: str) -> str:
    from .mteb_tasks import known_tasks

    known = {task.lower(): task for task in [*known_tasks(), *BENCHMARKS]}
    near = [known[match] for match in get_close_matches(name.lower(), known)] or list(BENCHMARKS)
    return f"nearest are {', '.join(near)}"
