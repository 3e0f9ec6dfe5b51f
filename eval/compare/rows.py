"""The tables of a comparison: one data set under one condition, one row per system."""

from dataclasses import dataclass, replace
from math import nan
from statistics import fmean

import numpy as np

from flatcoat.errors import DataError, UsageError
from flatcoat.eval.costs import Costs
from flatcoat.eval.records import RECORD, Record

_ROUNDING = 1e-6  # difference between a record's mean and the mean of its queries


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A system against the baseline, query by query.

    ``difference`` is of means; ``p_t`` and ``p_randomisation`` belong to single tests; ``p_holm`` is the
    latter corrected for the number of systems in the table.
    """

    difference: float
    p_t: float
    p_randomisation: float
    p_holm: float
    wins: int
    ties: int
    losses: int

    @staticmethod
    def of(differences: np.ndarray, *, p_t: float, p_randomisation: float, p_holm: float) -> "Contrast":
        """The contrast with these differences [S queries] and p values."""
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        ties = len(differences) - wins - losses
        return Contrast(
            difference=float(differences.mean()),
            p_t=p_t,
            p_randomisation=p_randomisation,
            p_holm=p_holm,
            wins=wins,
            ties=ties,
            losses=losses,
        )

    @property
    def mark(self) -> str:
        """† for a corrected p value below 0.05, ‡ below 0.01."""
        return "‡" if self.p_holm < 0.01 else "†" if self.p_holm < 0.05 else ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system on a data set: ``scores`` is query id -> value of the measure, ``mean`` their mean."""

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
        """Search time per query."""
        return 1000 * self.costs.search / self.costs.queries


@dataclass(frozen=True, kw_only=True)
class Table:
    """Systems that may be compared, best first. ``baseline`` is None where it is missing or alone."""

    dataset: str
    split: str
    revision: str
    k: int
    rows: list[Row]
    baseline: Row | None = None

    @property
    def title(self) -> str:
        """Data set and split."""
        return f"{self.dataset} {self.split}"

    @property
    def condition(self) -> str:
        """Whatever the rows of this table, and no others, have in common."""
        revision = self.revision or "unknown"
        return f"{len(self.rows[0].scores):,} queries, k {self.k}, revision {revision[:16]}"


def read_row(record: Record, label: str, *, measure: str) -> Row:
    """The row of a record.

    Raises UsageError where the record lacks the measure, DataError where its files are malformed or
    contradict each other.
    """
    file = record.folder / RECORD
    if measure not in record.measures:
        raise UsageError(f"{file} has no {measure!r}: choose one of {', '.join(record.measures)}")
    try:
        costs = Costs(**record.costs)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise DataError(f"{file} has other costs than {', '.join(Costs._fields)}: {error}") from None
    # A missing value makes the mean NaN, which equals no mean.
    scores = {query: values.get(measure, nan) for query, values in record.per_query().items()}
    mean = fmean(scores.values()) if scores else nan
    if len(scores) != record.queries or not abs(mean - record.measures[measure]) < _ROUNDING:
        raise DataError(
            f"{file} says {record.measures[measure]:.6f} {measure} over {record.queries} queries, "
            f"per_query.tsv {mean:.6f} over {len(scores)}: measure again"
        )
    return Row(label=label, record=record, scores=scores, mean=mean, costs=costs)
