"""The tables of a comparison: one data set under one condition, a row a system."""

from dataclasses import dataclass, replace
from math import nan
from statistics import fmean

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.eval.costs import Costs
from flatcoat.eval.records import RECORD, Record

_ROUNDING = 1e-6  # between the mean in a record and that of its queries


@dataclass(frozen=True)
class Contrast:
    """A system against the baseline, query by query.

    ``difference`` is of means; ``p_t`` and ``p_randomisation`` are of single tests; ``p_holm`` is the latter
    corrected for the systems of the table.
    """

    difference: float
    p_t: float
    p_randomisation: float
    p_holm: float
    wins: int
    ties: int
    losses: int

    @staticmethod
    def of(differences: np.ndarray, p_t: float, p_randomisation: float, p_holm: float) -> "Contrast":
        """From the differences [Q] and the outcome of the tests."""
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        ties = len(differences) - wins - losses
        return Contrast(float(differences.mean()), p_t, p_randomisation, p_holm, wins, ties, losses)

    @property
    def mark(self) -> str:
        """† below 0.05, ‡ below 0.01, both corrected."""
        return "‡" if self.p_holm < 0.01 else "†" if self.p_holm < 0.05 else ""


@dataclass(frozen=True)
class Row:
    """A system on a data set: ``scores`` are query id -> value of the measure, ``mean`` is theirs."""

    label: str
    record: Record
    scores: dict[str, float]
    mean: float
    costs: Costs
    contrast: Contrast | None = None

    def against(self, contrast: Contrast) -> "Row":
        """The row with its contrast."""
        return replace(self, contrast=contrast)

    @property
    def milliseconds(self) -> float:
        """Search time a query."""
        return 1000 * self.costs.search / self.costs.queries


@dataclass(frozen=True)
class Table:
    """Systems that may be compared, best first. ``baseline`` is None where it is missing or alone."""

    dataset: str
    split: str
    revision: str
    k: int
    rows: list[Row]
    baseline: Row | None

    @property
    def title(self) -> str:
        return f"{self.dataset} {self.split}"

    @property
    def condition(self) -> str:
        """What the rows have in common, and only they."""
        revision = self.revision or "unknown"
        return f"{len(self.rows[0].scores):,} queries, k {self.k}, revision {revision[:16]}"


def read_row(record: Record, label: str, measure: str) -> Row:
    """The row of a record; FlatcoatError where its files do not hold what they should, or not the same."""
    file = record.folder / RECORD
    if measure not in record.measures:
        raise FlatcoatError(f"{file} has no {measure!r}: choose one of {', '.join(record.measures)}")
    try:
        costs = Costs(**record.costs)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise FlatcoatError(f"{file} has other costs than {', '.join(Costs._fields)}: {error}") from None
    # what is missing becomes a mean that agrees with none
    scores = {query: values.get(measure, nan) for query, values in record.per_query().items()}
    mean = fmean(scores.values()) if scores else nan
    if len(scores) != record.queries or not abs(mean - record.measures[measure]) < _ROUNDING:
        raise FlatcoatError(
            f"{file} says {record.measures[measure]:.6f} {measure} over {record.queries} queries, "
            f"per_query.tsv {mean:.6f} over {len(scores)}: measure again"
        )
    return Row(label, record, scores, mean, costs)
