"""What a check found, for people and as JSON."""

import json
from collections import Counter
from typing import Any

import typer

from flatcoat.console import counted, print_table

from .comparison import Change, Comparison, Measure, measures
from .record import CheckRecord

_LONGEST = 60  # characters of a setting


def show(record: CheckRecord, comparison: Comparison | None, *, title: str, as_json: bool) -> None:
    """Print a check, and how it compares with an earlier one; notices go to stderr."""
    if as_json:
        typer.echo(json.dumps(_json(record, comparison), indent=2, ensure_ascii=False))
    else:
        _print(record, comparison, title)
    if comparison and comparison.left_out:
        left_out = counted(comparison.left_out, "earlier query", "earlier queries")
        typer.echo(f"{left_out} left out: their documents are gone or have changed", err=True)
    if comparison and comparison.worse:
        names = " and ".join(_title(change.name) for change in comparison.worse)
        typer.echo(f"significantly worse than before: {names}", err=True)


def _json(record: CheckRecord, comparison: Comparison | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "queries": len(record.queries),
        "measures": {
            one.name: {"mean": one.mean, "low": one.low, "high": one.high} for one in measures(record)
        },
        "costs": record.costs,
        "settings": record.settings,
    }
    if comparison:
        values["changes"] = {
            one.name: one._asdict() | {"is_worse": one.is_worse} for one in comparison.changes
        }
        values["changed_settings"] = {name: [*pair] for name, pair in comparison.settings.items()}
        values["queries_left_out"] = comparison.left_out
    return values


def _print(record: CheckRecord, comparison: Comparison | None, title: str) -> None:
    changes = {one.name: one for one in comparison.changes} if comparison else {}
    header = ["Measure", "mean", "95 % interval", *(["change", "95 % interval", "p"] if comparison else [])]
    rows = [
        _cells(one) + (_change_cells(changes.get(one.name)) if comparison else []) for one in measures(record)
    ]
    kinds = Counter(query.kind for query in record.queries)
    asked = ", ".join(counted(count, kind) for kind, count in kinds.items())
    of_file = [*kinds] == ["file"]
    caption = f"x 100, {counted(len(record.queries), 'query', 'queries')}" + ("" if of_file else f": {asked}")
    print_table(header, rows, title=f"{title}, searched by {record.settings['engine']}", caption=caption)
    for name, (before, after) in comparison.settings.items() if comparison else ():
        typer.echo(f"{name.replace('_', ' ')}: {_short(before)} before, {_short(after)} now")


def _cells(one: Measure) -> list[str]:
    return [_title(one.name), f"{100 * one.mean:.1f}", f"{100 * one.low:.1f} to {100 * one.high:.1f}"]


def _change_cells(change: Change | None) -> list[str]:
    if change is None:
        return ["", "", ""]
    ends = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
    return [f"{100 * change.difference:+.1f}", ends, f"{change.p_value:.3f}"]


def _title(name: str) -> str:
    return name.replace("ndcg", "nDCG").replace("recall", "Recall", 1)


def _short(value: Any) -> str:
    return "none" if value is None else str(value)[:_LONGEST]
