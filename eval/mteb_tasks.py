"""mteb's retrieval tasks as data sets, at the revisions that mteb pins.

A task of several subsets (languages, mostly) is one data set per subset, named ``TASK:SUBSET``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from flatcoat.errors import DataError, NotFoundError, UsageError
from flatcoat.hub import dataset_errors, hub_error, offline_unless_reachable
from flatcoat.indexing.documents import Document
from flatcoat.indexing.reading.beir import LAYOUT

from .datasets import RetrievalDataset, survey

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

_BATCH = 1_000  # documents read from the cache together


class HubTask(NamedTuple):
    """One data set to load; ``subset`` is mteb's, "default" where a task has only one.

    >>> HubTask("CodeSearchNetCCRetrieval", "python", "test").name
    'CodeSearchNetCCRetrieval:python'
    """

    task: str
    subset: str
    split: str

    @property
    def name(self) -> str:
        return self.task if self.subset == "default" else f"{self.task}:{self.subset}"


@dataclass(frozen=True)
class HubCorpus:
    """Documents of the hub's cache, mapped from disk: the columns id, text and, where there is one, title."""

    rows: "Dataset"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Document]:
        columns = [name for name in ("id", "text", "title") if name in self.rows.column_names]
        rows: Any = self.rows.select_columns(columns)
        for batch in rows.iter(_BATCH):
            titles = batch.get("title") or [None] * len(batch["id"])
            for id, text, title in zip(batch["id"], batch["text"], titles, strict=True):
                yield Document(str(id), text or "", title or "")


def find_hub_tasks(name: str, split: str | None) -> list[HubTask]:
    """The data sets of a task, of one subset of it (``TASK:SUBSET``), or of the tasks that it sums up.

    ``split`` is by default the only one, or "test". Raises KeyError for a task that mteb does not know,
    NotFoundError for a split or subset that a task lacks, and UsageError for other tasks than text retrieval.
    """
    import mteb
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    task_name, _, subset = name.partition(":")
    task = mteb.get_task(task_name)
    if isinstance(task, AbsTaskAggregate):
        return [found for part in task.tasks for found in find_hub_tasks(part.metadata.name, split)]
    if task.metadata.type != "Retrieval" or task.metadata.modalities != ["text"]:
        kind = f"{task.metadata.type} of {' and '.join(task.metadata.modalities)}"
        raise UsageError(f"{task_name} is {kind}: only Retrieval of text is measured here")
    subsets = list(task.hf_subsets)
    if subset and subset not in subsets:
        raise NotFoundError(f"{task_name} has no subset {subset!r}: choose one of {', '.join(subsets)}")
    chosen = _choose_split(task_name, split, list(task.metadata.eval_splits))
    return [HubTask(task_name, part, chosen) for part in ([subset] if subset else subsets)]


def load_hub_task(task: HubTask, benchmark: str, *, drop_own_ids: bool) -> RetrievalDataset:
    """Load one data set from the hub or its cache; its texts stay on disk.

    ``drop_own_ids`` keeps a query's own id from its results even where mteb does not. Raises NotFoundError
    where the data cannot be loaded, DataError where no query is judged, UsageError for queries of special
    kinds.
    """
    loaded = _load(task)
    data: Any = loaded.dataset[task.subset][task.split]
    _refuse_special(task, data)
    documents = HubCorpus(data["corpus"])
    texts = {str(row["id"]): row["text"] or "" for row in data["queries"]}
    judged = {query: dict(grades) for query, grades in data["relevant_docs"].items() if grades}
    queries = {query: text for query, text in texts.items() if query in judged}
    if not queries:
        raise DataError(f"{task.name}: no query is judged in {task.split!r}, so there is nothing to measure")
    qrels = {query: grades for query, grades in judged.items() if query in queries}
    found = survey(documents, queries, qrels=qrels)
    notices = found.notices(f"{found.missing:,} judgements name documents that are not in the corpus")
    if len(judged) > len(qrels):
        notices.append(f"{len(judged) - len(qrels):,} judged queries have no text: left out")
    dropped = frozenset(queries) if drop_own_ids or loaded.ignore_identical_ids else frozenset()
    return RetrievalDataset(
        name=task.name,
        split=task.split,
        documents=documents,
        queries=queries,
        qrels=qrels,
        notices=notices,
        revision=loaded.metadata.dataset["revision"],
        benchmark=benchmark,
        self_hits=dropped,
    )


def known_tasks() -> list[str]:
    """Names of mteb's retrieval tasks."""
    import mteb

    return [task.metadata.name for task in mteb.get_tasks(task_types=["Retrieval"], modalities=["text"])]


def _choose_split(task: str, split: str | None, known: list[str]) -> str:
    if split is None:
        split = known[0] if len(known) == 1 else "test"
    if split not in known:
        raise NotFoundError(f"{task} has no split {split!r}: choose one of {', '.join(known)}")
    return split


def _refuse_special(task: HubTask, data: Any) -> None:
    """UsageError for queries of special kinds, which would score lower as plain queries than in mteb."""
    plain = all(isinstance(text, str | None) for text in data["queries"]["text"])
    if not plain or "instruction" in data["queries"].column_names or data["top_ranked"]:
        raise UsageError(
            f"{task.name} asks in conversations, with instructions or about candidates of its own: "
            "only plain queries of a whole corpus are measured here"
        )


def _load(task: HubTask) -> "AbsTaskRetrieval":
    """mteb's own task with the one subset and split loaded."""
    import mteb
    from huggingface_hub import constants

    subsets = None if task.subset == "default" else [task.subset]
    loaded: Any = mteb.get_task(task.task, hf_subsets=subsets, eval_splits=[task.split])
    try:
        with offline_unless_reachable():
            loaded.load_data()
            loaded.convert_v1_dataset_format_to_v2(num_proc=None)
    except (*dataset_errors(), KeyError) as error:
        by_hand = f"load it once where there is a network and copy that HF_HOME to {constants.HF_HOME}"
        raise hub_error(task.name, error, by_hand=f"{by_hand}, or name a folder instead: {LAYOUT}") from error
    return loaded
