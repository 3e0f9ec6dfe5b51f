"""What ``flatcoat eval`` prints: a table per data set, the means over a benchmark's questions, notices."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from flatcoat.console import print_table
from flatcoat.eval.systems.system import System

from .metrics import MEASURES, title_of
from .records import Record
from .truncation import Truncation

_CAPTION = "measures x 100, means over the judged queries"


class Place(NamedTuple):
    """What is reported together: a data set (by its revision too), or the data sets of a benchmark."""

    name: str
    split: str
    revision: str = ""


class Measured(NamedTuple):
    """A record, its system, and the groups of queries of its data set."""

    record: Record
    system: System
    groups: Mapping[str, frozenset[str]]

    @property
    def place(self) -> Place:
        """Data sets with groups are reported together, as their benchmark, others by themselves."""
        record = self.record
        if self.groups and record.benchmark:
            return Place(record.benchmark, record.split)
        return Place(record.dataset, record.split, record.revision)


class Mean(NamedTuple):
    """A system's means over the queries of a group (of all where it is empty), whatever their data set."""

    title: str
    split: str
    system: str
    group: str
    queries: int
    measures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON values, the measures among the others."""
        return {name: value for name, value in self._asdict().items() if name != "measures"} | self.measures


def by_place(measured: Iterable[Measured]) -> dict[Place, list[Measured]]:
    """Measurements by the place at which they are reported, in order."""
    places: dict[Place, list[Measured]] = {}
    for one in measured:
        places.setdefault(one.place, []).append(one)
    return places


def group_means(measured: Sequence[Measured]) -> list[Mean]:
    """The means of each system at one place, over all queries and over those of each group."""
    place = measured[0].place
    systems = dict.fromkeys(one.record.system for one in measured)
    groups = ["", *dict.fromkeys(group for one in measured for group in one.groups)]
    means = []
    for system in systems:
        for group in groups:
            scores = [
                values
                for one in measured
                if one.record.system == system
                for query, values in one.record.per_query().items()
                if not group or query in one.groups.get(group, ())
            ]
            if scores:
                measures = {measure: fmean(values[measure] for values in scores) for measure in MEASURES}
                means.append(Mean(place.name, place.split, system, group, len(scores), measures))
    return means


def report_json(measured: Sequence[Measured]) -> dict[str, Any]:
    """``rows``, one per data set and system, and ``means`` of those that are reported together."""
    together = [those for those in by_place(measured).values() if those[0].groups]
    return {
        "rows": [_row(one.record) for one in measured],
        "means": [mean.to_json() for those in together for mean in group_means(those)],
    }


def print_report(measured: Sequence[Measured]) -> None:
    """One table per place; where there are groups, a second one with the main measure of each."""
    for place, those in by_place(measured).items():
        means = group_means(those)
        print_table(
            ["System", *map(title_of, MEASURES), "ms/query"],
            [
                [
                    mean.system,
                    *(_hundredths(mean, measure) for measure in MEASURES),
                    _time(those, mean.system),
                ]
                for mean in means
                if not mean.group
            ],
            title=f"{title_at(place, those)}, {max(mean.queries for mean in means):,} queries",
            caption=_CAPTION,
        )
        if those[0].groups:
            _print_groups(means)


def title_at(place: Place, measured: Iterable[Measured]) -> str:
    """The data set's name and split, or the benchmark's where several were measured."""
    datasets = list(dict.fromkeys(one.record.dataset for one in measured))
    if len(datasets) == 1:
        return f"{datasets[0]} {place.split}"
    return f"{place.name} {place.split}, {len(datasets)} data sets"


def _print_groups(means: Sequence[Mean]) -> None:
    groups = dict.fromkeys(mean.group for mean in means)
    by_system: dict[str, dict[str, Mean]] = {}
    for mean in means:
        by_system.setdefault(mean.system, {})[mean.group] = mean
    sizes = next(iter(by_system.values()))
    main = MEASURES[0]
    print_table(
        [title_of(main), *(group or "all" for group in groups)],
        [
            ["queries", *(f"{sizes[group].queries:,}" for group in groups)],
            *(
                [system, *(_hundredths(row[group], main) for group in groups)]
                for system, row in by_system.items()
            ),
        ],
    )


def _hundredths(mean: Mean, measure: str) -> str:
    return f"{100 * mean.measures[measure]:.1f}"


def _time(measured: Iterable[Measured], system: str) -> str:
    """Search time per query, in ms."""
    costs = [one.record.costs for one in measured if one.record.system == system]
    queries = sum(cost["queries"] for cost in costs)
    return f"{1000 * sum(cost['search'] for cost in costs) / max(queries, 1):.1f}"


def notices(measured: Sequence[Measured]) -> list[str]:
    """What was left out or looks wrong in each data set."""
    records = (one.record for one in measured)
    found = (f"{record.dataset} {record.split}: {notice}" for record in records for notice in record.notices)
    return list(dict.fromkeys(found))


def truncation_notices(measured: Sequence[Measured]) -> list[str]:
    """What each system did not read."""
    found = []
    for place, those in by_place(measured).items():
        for system in dict.fromkeys(one.record.system for one in those):
            cut = _truncation([one.record for one in those if one.record.system == system])
            found += [f"{title_at(place, those)}: {system}: {cut}"] if cut else []
    return found


def _truncation(records: Sequence[Record]) -> str:
    """What a system did not read, in all of these data sets."""
    parts = [Truncation(**record.truncation) for record in records]
    added = Truncation(
        documents=sum(part.documents for part in parts),
        document_length=max(part.document_length for part in parts),
        queries=sum(part.queries for part in parts),
        query_length=max(part.query_length for part in parts),
        passages=sum(part.passages for part in parts),
    )
    documents = sum(int(record.costs["documents"]) for record in records)
    return added.describe(documents, queries=sum(int(record.costs["queries"]) for record in records))


def _row(record: Record) -> dict[str, Any]:
    identity: dict[str, Any] = {"dataset": record.dataset, "split": record.split, "system": record.system}
    return identity | record.measures | {"costs": record.costs, "truncation": record.truncation}
