"""A check beside an earlier one: whether an index answers worse than before by more than chance."""

from typing import Any, NamedTuple

import numpy as np

from flatcoat.eval.significance import bootstrap_interval, holm, randomisation_test

from .record import CheckRecord

ALPHA = 0.05
"""Adjusted p values below it are significant."""


class Measure(NamedTuple):
    """The mean of a measure over queries, and the ends of its 95 % interval."""

    name: str
    mean: float
    low: float
    high: float


class Change(NamedTuple):
    """The mean difference to an earlier check, the ends of its 95 % interval, and Holm's p value."""

    name: str
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def is_worse(self) -> bool:
        """Whether the measure fell by more than chance."""
        return self.difference < 0 and self.p_value < ALPHA


class Comparison(NamedTuple):
    """The changes of all measures, the settings that differ (before, after), and the queries left out."""

    changes: list[Change]
    settings: dict[str, tuple[Any, Any]]
    left_out: int

    @property
    def worse(self) -> list[Change]:
        """The measures that fell by more than chance."""
        return [change for change in self.changes if change.is_worse]


def measures(record: CheckRecord) -> list[Measure]:
    """Mean and interval of every measure of a check."""
    return [
        Measure(name, float(np.mean(values)), *_ends(np.array(values)[:, None]))
        for name, values in record.scores.items()
    ]


def compare(record: CheckRecord, earlier: CheckRecord) -> Comparison:
    """What changed in every measure that both checks have, by the queries of ``record``.

    The earlier check has them all, and perhaps more. By Fisher's randomisation test over queries, with Holm's
    correction for the number of measures.
    """
    before = earlier.only(record.queries)
    columns = {
        name: (np.array(values) - np.array(before.scores[name]))[:, None]
        for name, values in record.scores.items()
        if name in before.scores
    }
    adjusted = holm([float(randomisation_test(column)[0]) for column in columns.values()])
    changes = [
        Change(name, float(column.mean()), *_ends(column), p_value)
        for (name, column), p_value in zip(columns.items(), adjusted, strict=True)
    ]
    names = dict.fromkeys([*earlier.settings, *record.settings])
    pairs = {name: (earlier.settings.get(name), record.settings.get(name)) for name in names}
    differing = {name: (old, new) for name, (old, new) in pairs.items() if old != new}
    return Comparison(changes, differing, len(earlier.queries) - len(record.queries))


def _ends(values_S1: np.ndarray) -> tuple[float, float]:
    low, high = bootstrap_interval(values_S1)[:, 0].tolist()
    return low, high
