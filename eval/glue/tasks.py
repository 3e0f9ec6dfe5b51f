"""The eight tasks of GLUE: their columns, labels and measures, and how ModernBERT was fine-tuned on each.

Sources: GLUE (arXiv 1804.07461) and the layouts of its download; ModernBERT (arXiv 2412.13663): tables 5
(development scores) and 6 (hyper-parameters), each score the best of a sweep and of early stopping.
"""

from dataclasses import dataclass
from typing import NamedTuple

from flatcoat.errors import FlatcoatError


class UnknownLabel(FlatcoatError):
    """A label that a task does not have; the reader of a file adds the place."""


class Published(NamedTuple):
    """What the paper fine-tuned with, and its development score x 100."""

    learning_rate: float
    weight_decay: float
    epochs: int
    score: float


@dataclass(frozen=True)
class GlueTask:
    """``title`` is also the task's folder in GLUE's download, ``hub`` the name of its configuration.

    Columns are those of the texts, one or two, then the label's: in GLUE's TSV files (none where they have no
    header) and on the hub. ``labels`` in the order of their numbers; none makes a regression. The first of
    ``measures`` is the one that counts. ``from_mnli``: the paper starts from its checkpoint for MNLI.
    """

    title: str
    hub: str
    columns: tuple[str, ...]
    hub_columns: tuple[str, ...]
    labels: tuple[str, ...]
    measures: tuple[str, ...]
    base: Published
    large: Published
    from_mnli: bool = False

    @property
    def outputs(self) -> int:
        """Logits of a text."""
        return len(self.labels) or 1

    def label(self, value: object) -> float:
        """The number of a label given by name or number, or a regression's value.

        Raises UnknownLabel for anything else.
        """
        text = str(value)
        if text in self.labels:
            return float(self.labels.index(text))
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if number in range(len(self.labels)) if self.labels else 0 <= number <= 5:
            return number
        wanted = " or ".join(self.labels) if self.labels else "a number from 0 to 5"
        raise UnknownLabel(f"the label of {self.title} is {text!r}: {wanted} is wanted")


_PAIR = ("sentence1", "sentence2", "label")
_QUESTIONS = ("question1", "question2")
_ENTAILMENT = ("entailment", "not_entailment")
_YES_NO = ("0", "1")

_COLA = GlueTask(
    "CoLA",
    "cola",
    columns=(),
    hub_columns=("sentence", "label"),
    labels=_YES_NO,
    measures=("matthews", "accuracy"),
    base=Published(8e-5, 1e-6, 5, 65.1),
    large=Published(3e-5, 8e-6, 5, 71.4),
)
_SST2 = GlueTask(
    "SST-2",
    "sst2",
    columns=("sentence", "label"),
    hub_columns=("sentence", "label"),
    labels=_YES_NO,
    measures=("accuracy",),
    base=Published(8e-5, 1e-5, 2, 96.0),
    large=Published(1e-5, 1e-6, 3, 97.1),
)
_MRPC = GlueTask(
    "MRPC",
    "mrpc",
    columns=("#1 String", "#2 String", "Quality"),
    hub_columns=_PAIR,
    labels=_YES_NO,
    measures=("accuracy", "f1"),
    base=Published(5e-5, 5e-6, 10, 92.2),
    large=Published(8e-5, 5e-6, 2, 91.7),
    from_mnli=True,
)
_STSB = GlueTask(
    "STS-B",
    "stsb",
    columns=("sentence1", "sentence2", "score"),
    hub_columns=_PAIR,
    labels=(),
    measures=("spearman", "pearson"),
    base=Published(8e-5, 5e-6, 10, 91.8),
    large=Published(8e-5, 1e-5, 10, 92.8),
    from_mnli=True,
)
_QQP = GlueTask(
    "QQP",
    "qqp",
    columns=(*_QUESTIONS, "is_duplicate"),
    hub_columns=(*_QUESTIONS, "label"),
    labels=_YES_NO,
    measures=("accuracy", "f1"),
    base=Published(5e-5, 5e-6, 10, 92.1),
    large=Published(5e-5, 8e-6, 2, 92.7),
)
_MNLI = GlueTask(
    "MNLI",
    "mnli",
    columns=("sentence1", "sentence2", "gold_label"),
    hub_columns=("premise", "hypothesis", "label"),
    labels=("entailment", "neutral", "contradiction"),
    measures=("accuracy",),
    base=Published(5e-5, 5e-6, 1, 89.1),
    large=Published(3e-5, 1e-5, 1, 90.8),
)
_QNLI = GlueTask(
    "QNLI",
    "qnli",
    columns=("question", "sentence", "label"),
    hub_columns=("question", "sentence", "label"),
    labels=_ENTAILMENT,
    measures=("accuracy",),
    base=Published(8e-5, 5e-6, 2, 93.9),
    large=Published(3e-5, 5e-6, 2, 95.2),
)
_RTE = GlueTask(
    "RTE",
    "rte",
    columns=_PAIR,
    hub_columns=_PAIR,
    labels=_ENTAILMENT,
    measures=("accuracy",),
    base=Published(5e-5, 1e-5, 3, 87.4),
    large=Published(5e-5, 8e-6, 3, 92.1),
    from_mnli=True,
)

TASKS = {task.hub: task for task in (_COLA, _SST2, _MRPC, _STSB, _QQP, _MNLI, _QNLI, _RTE)}
"""By their names on the hub, in the paper's order."""

PAPER_AVERAGE = {"base": 88.4, "large": 90.4}
"""GLUE in the paper's table 1, x 100: the mean over the tasks of the measure that counts."""
