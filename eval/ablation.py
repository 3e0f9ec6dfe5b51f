"""What each ranking signal of flatcoat's search is worth: alone, and by what is lost without it.

One index per model and data set serves all combinations of signals.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from flatcoat.console import print_table
from flatcoat.eval.systems.search import SearchIndex, SearchSystem
from flatcoat.retrieval.ranking import SIGNALS
from flatcoat.retrieval.results import Mode

from .metrics import MEASURES, title_of
from .report import Measured, Place
from .significance import bootstrap_interval, paired_differences

_MEASURE = MEASURES[0]
_NONE, _ALL = "no signals", "all signals"


class Variant(NamedTuple):
    """A combination of signals; ``base`` is the name of the one that it is compared with, or empty."""

    name: str
    signals: tuple[str, ...]
    base: str = ""


class Effect(NamedTuple):
    """nDCG@10 of a variant over the queries of a group (of all where it is empty).

    ``difference`` is to the variant's base (0 where it has none); ``low`` and ``high`` are the ends of its
    95 % interval over queries.
    """

    title: str
    split: str
    model: str
    mode: Mode
    signals: str
    group: str
    queries: int
    value: float
    difference: float
    low: float
    high: float


def variants(signals: Sequence[str] = SIGNALS) -> list[Variant]:
    """No signals and all of them, each alone (compared with none), all but each (compared with all).

    >>> [variant.name for variant in variants(["path", "tests"])]
    ['no signals', 'all signals', 'only path', 'only tests', 'without path', 'without tests']
    """
    alone = [Variant(f"only {signal}", (signal,), _NONE) for signal in signals]
    left_out = [
        Variant(f"without {signal}", tuple(other for other in signals if other != signal), _ALL)
        for signal in signals
    ]
    return [Variant(_NONE, ()), Variant(_ALL, tuple(signals), _NONE), *alone, *left_out]


def ablated_systems(index: SearchIndex, modes: Sequence[Mode], *, label: str = "") -> Iterator[SearchSystem]:
    """The search of an index with each variant's signals, in each mode."""
    for mode in modes:
        for variant in variants():
            yield SearchSystem(index, mode, variant.signals, label)


def effects(measured: Sequence[Measured]) -> list[Effect]:
    """The effect of each of the ``ablated_systems``: over all queries of a place, then over each group's."""
    runs: dict[_Search, dict[str, list[Measured]]] = {}
    for one in measured:
        assert isinstance(one.system, SearchSystem)
        search = _Search(one.place, one.system.model, one.system.mode)
        runs.setdefault(search, {}).setdefault(_variant(one.system.signals or ()).name, []).append(one)
    return [
        _effect(search, name, group, by_variant)
        for search, by_variant in runs.items()
        for group in ["", *dict.fromkeys(name for one in by_variant[_NONE] for name in one.groups)]
        for name in by_variant
    ]


class _Search(NamedTuple):
    """What variants are compared within."""

    place: Place
    model: str
    mode: Mode


def _variant(signals: Collection[str]) -> Variant:
    return next(variant for variant in variants() if variant.signals == tuple(signals))


def _effect(search: _Search, name: str, group: str, measured: Mapping[str, Sequence[Measured]]) -> Effect:
    base = next(variant.base for variant in variants() if variant.name == name) or name
    scores = _scores(measured[name], group)
    differences_S1 = paired_differences(scores, _scores(measured[base], group))[:, None]
    low, high = bootstrap_interval(differences_S1)[:, 0].tolist()
    return Effect(
        title=search.place.name,
        split=search.place.split,
        model=search.model,
        mode=search.mode,
        signals=name,
        group=group,
        queries=len(scores),
        value=fmean(scores.values()),
        difference=float(differences_S1.mean()),
        low=low,
        high=high,
    )


def _scores(measured: Sequence[Measured], group: str) -> dict[str, float]:
    """The main measure by data set and query."""
    return {
        f"{one.record.dataset} {query}": values[_MEASURE]
        for one in measured
        for query, values in one.record.per_query().items()
        if not group or query in one.groups[group]
    }


def effects_json(found: Sequence[Effect]) -> dict[str, Any]:
    """``ablation``, one object per effect, values between 0 and 1."""
    return {"ablation": [effect._asdict() for effect in found]}


def print_effects(found: Sequence[Effect]) -> None:
    """One table per place and model, over all queries."""
    tables: dict[tuple[str, str, str], list[Effect]] = {}
    for effect in found:
        if not effect.group:
            tables.setdefault((effect.title, effect.split, effect.model), []).append(effect)
    for (title, split, model), those in tables.items():
        modes = list(dict.fromkeys(effect.mode for effect in those))
        rows: dict[str, list[str]] = {}
        for effect in those:  # all variants of one mode, then of the next
            rows.setdefault(effect.signals, [effect.signals]).extend(_cells(effect))
        print_table(
            [title_of(_MEASURE), *(column for mode in modes for column in (mode, "difference"))],
            list(rows.values()),
            title=f"{title} {split}, {those[0].queries:,} queries, {model} search",
            caption="x 100, 95 % intervals over queries; 'only' and 'all' are compared\n"
            "with no signals, 'without' with all signals",
        )


def _cells(effect: Effect) -> tuple[str, str]:
    low, high = (f"{100 * end:+.1f}" for end in (effect.low, effect.high))
    difference = f"{100 * effect.difference:+.1f} [{low}, {high}]"
    return f"{100 * effect.value:.1f}", "" if effect.signals == _NONE else difference
