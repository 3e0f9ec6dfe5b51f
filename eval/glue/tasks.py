"""The eight tasks of GLUE: columns, labels, measures, and ModernBERT's published fine-tuning.

Sources: GLUE (arXiv 1804.07461: measures in section 3) and the layouts of its download; ModernBERT
(arXiv 2412.13663): tables 5 (development scores) and 6 (hyper-parameters), each score the best of a sweep and
of early stopping.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatcoat.errors import DataError

Values = NDArray[np.float64]
"""Labels, predicted or true: a class's number or a regression's value for each example [N]."""


class UnknownLabel(DataError):
    """A label outside a task's labels; the reader of a file adds the place."""


class PublishedRun(NamedTuple):
    """The paper's hyper-parameters, and its development score x 100."""

    learning_rate: float
    weight_decay: float
    epochs: int
    score: float


@dataclass(frozen=True)
class GlueTask:
    """``title`` names the task's folder in GLUE's download, ``hub`` its configuration on the hub.

    ``columns`` (of GLUE's TSV files; empty without a header) and ``hub_columns`` name one or two texts, then
    the label. ``labels`` are in the order of their numbers; none makes a regression. The first of
    ``measures`` is the main one. ``from_mnli``: the paper starts from its checkpoint for MNLI.

    >>> TASKS["rte"].label("not_entailment")
    1.0
    """

    title: str
    hub: str
    columns: tuple[str, ...]
    hub_columns: tuple[str, ...]
    labels: tuple[str, ...]
    measures: tuple[str, ...]
    base: PublishedRun
    large: PublishedRun
    from_mnli: bool = False

    @property
    def outputs(self) -> int:
        """Logits per text."""
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
        expected = " or ".join(self.labels) if self.labels else "a number from 0 to 5"
        raise UnknownLabel(f"the label of {self.title} is {text!r}: {expected} is wanted")


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
    base=PublishedRun(8e-5, 1e-6, 5, 65.1),
    large=PublishedRun(3e-5, 8e-6, 5, 71.4),
)
_SST2 = GlueTask(
    "SST-2",
    "sst2",
    columns=("sentence", "label"),
    hub_columns=("sentence", "label"),
    labels=_YES_NO,
    measures=("accuracy",),
    base=PublishedRun(8e-5, 1e-5, 2, 96.0),
    large=PublishedRun(1e-5, 1e-6, 3, 97.1),
)
_MRPC = GlueTask(
    "MRPC",
    "mrpc",
    columns=("#1 String", "#2 String", "Quality"),
    hub_columns=_PAIR,
    labels=_YES_NO,
    measures=("accuracy", "f1"),
    base=PublishedRun(5e-5, 5e-6, 10, 92.2),
    large=PublishedRun(8e-5, 5e-6, 2, 91.7),
    from_mnli=True,
)
_STSB = GlueTask(
    "STS-B",
    "stsb",
    columns=("sentence1", "sentence2", "score"),
    hub_columns=_PAIR,
    labels=(),
    measures=("spearman", "pearson"),
    base=PublishedRun(8e-5, 5e-6, 10, 91.8),
    large=PublishedRun(8e-5, 1e-5, 10, 92.8),
    from_mnli=True,
)
_QQP = GlueTask(
    "QQP",
    "qqp",
    columns=(*_QUESTIONS, "is_duplicate"),
    hub_columns=(*_QUESTIONS, "label"),
    labels=_YES_NO,
    measures=("accuracy", "f1"),
    base=PublishedRun(5e-5, 5e-6, 10, 92.1),
    large=PublishedRun(5e-5, 8e-6, 2, 92.7),
)
_MNLI = GlueTask(
    "MNLI",
    "mnli",
    columns=("sentence1", "sentence2", "gold_label"),
    hub_columns=("premise", "hypothesis", "label"),
    labels=("entailment", "neutral", "contradiction"),
    measures=("accuracy",),
    base=PublishedRun(5e-5, 5e-6, 1, 89.1),
    large=PublishedRun(3e-5, 1e-5, 1, 90.8),
)
_QNLI = GlueTask(
    "QNLI",
    "qnli",
    columns=("question", "sentence", "label"),
    hub_columns=("question", "sentence", "label"),
    labels=_ENTAILMENT,
    measures=("accuracy",),
    base=PublishedRun(8e-5, 5e-6, 2, 93.9),
    large=PublishedRun(3e-5, 5e-6, 2, 95.2),
)
_RTE = GlueTask(
    "RTE",
    "rte",
    columns=_PAIR,
    hub_columns=_PAIR,
    labels=_ENTAILMENT,
    measures=("accuracy",),
    base=PublishedRun(5e-5, 1e-5, 3, 87.4),
    large=PublishedRun(5e-5, 8e-6, 3, 92.1),
    from_mnli=True,
)

TASKS = {task.hub: task for task in (_COLA, _SST2, _MRPC, _STSB, _QQP, _MNLI, _QNLI, _RTE)}
"""By name on the hub, in the paper's order."""

PAPER_AVERAGE = {"base": 88.4, "large": 90.4}
"""GLUE in the paper's table 1, x 100: the mean over the tasks of their main measures."""


def score(predicted_N: Values, labels_N: Values, *, measures: Sequence[str]) -> dict[str, float]:
    """Measures of predictions against labels, as fractions of 1.

    Where a correlation is undefined, one side being constant, it is 0; so is F1 without any label 1.

    >>> labels = np.array([0.0, 1.0, 1.0, 1.0])
    >>> score(np.ones(4), labels, measures=["accuracy", "f1", "spearman"])
    {'accuracy': 0.75, 'f1': 0.8571428571428571, 'spearman': 0.0}
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    constant = np.ptp(predicted_N) == 0 or np.ptp(labels_N) == 0

    def correlation(function: Callable[..., Any]) -> float:
        return 0.0 if constant else function(predicted_N, labels_N).statistic

    functions: dict[str, Callable[[], float]] = {
        "accuracy": lambda: accuracy_score(labels_N, predicted_N),
        "f1": lambda: f1_score(labels_N, predicted_N, zero_division=0),  # pyright: ignore[reportArgumentType]
        "matthews": lambda: 0.0 if constant else matthews_corrcoef(labels_N, predicted_N),
        "pearson": lambda: correlation(pearsonr),
        "spearman": lambda: correlation(spearmanr),
    }
    return {name: float(functions[name]()) for name in measures}
