import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flatcoat.eval.compare.comparison import Comparison
from flatcoat.eval.compare.html import render_html
from flatcoat.eval.compare.plots import Pair, Point, plot_cost, plot_queries
from flatcoat.eval.compare.rows import Contrast, Row, Table
from flatcoat.eval.compare.style import colour_class
from flatcoat.eval.compare.summaries import IndexLoss
from flatcoat.eval.compare.tables import format_bytes, signed
from flatcoat.eval.costs import Costs
from flatcoat.eval.records import Record

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects tags, and checks that they close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def row(label: str, values: list[float], search: float, contrast: Contrast | None = None) -> Row:
    costs = Costs(
        encode=0.0,
        build=0.0,
        search=search,
        queries=len(values),
        index_bytes=1000,
        peak_bytes=0,
        documents=1,
        vectors=1,
    )
    mean = sum(values) / len(values)
    record = Record(
        system=label,
        key="k",
        dataset=EVIL,
        split="test",
        benchmark="",
        revision="",
        k=100,
        settings={EVIL: EVIL},
        measures={"ndcg@10": mean},
        costs={},
        truncation={},
        versions={},
        queries=2,
        notices=[],
        finished="",
        folder=Path(),
    )
    scores = {EVIL: values[0]} | {f"q{place}": value for place, value in enumerate(values[1:])}
    return Row(label=label, record=record, scores=scores, mean=mean, costs=costs, contrast=contrast)


@pytest.fixture
def page() -> Page:
    baseline = row("BM25", [0.5, 0.2, 0.4], 0.001)
    contrast = Contrast(difference=0.05, p_t=1.0, p_randomisation=1.0, p_holm=1.0, wins=1, ties=1, losses=1)
    other = row(EVIL, [0.75, 0.1, 0.4], 0.0, contrast)
    rows = [other, baseline]
    table = Table(dataset=EVIL, split="test", revision="", k=100, rows=rows, baseline=baseline)
    loss = IndexLoss(
        dataset=EVIL,
        split="test",
        exact=EVIL,
        index=EVIL,
        loss=0.01,
        p_t=0.5,
        p_randomisation=0.5,
        speedup=None,
    )
    settings = {line.label: line.record for line in table.rows}
    comparison = Comparison(
        measure="ndcg@10",
        baseline="BM25",
        tables=[table],
        means=[],
        losses=[loss],
        published={},
        settings=settings,
        notices=[EVIL],
    )
    return Page(render_html(comparison))


def test_nothing_in_a_name_or_an_id_becomes_markup(page):
    assert "script" not in page.tags
    assert EVIL in page.words  # as text, and shown as it is
    assert f"{EVIL}: 50.0 → 75.0" in page.words  # the query's id, on hovering


def test_the_page_needs_nothing_else(page):
    assert not page.attributes & {"src", "href", "onclick", "onload"}
    assert not re.search(r"url\(|@import|https?:", "".join(page.words))
    assert page.tags.count("svg") == 3
    assert "prefers-color-scheme: dark" in "".join(page.words)


def test_queries_that_moved_are_listed_once_each(page):
    text = " ".join("".join(page.words).split())
    gains, losses = text.split("Gain most")[1].split("Lose most")
    assert "50 → 75" in gains
    assert "q0" not in gains
    assert losses.startswith("q0 20 → 10")
    assert EVIL not in losses.split("Lost to the index")[0]


def test_winners_lie_above_the_diagonal():
    plot = plot_queries([Pair("up", 20, 60), Pair("down", 60, 20), Pair("level", 40, 40)], "x", y_title="y")
    places = {
        kind: (float(x), float(y))
        for kind, x, y in re.findall(r'<circle class="(\w+)" cx="(\S+)" cy="(\S+)"', plot)
    }
    assert places["win"][0] < places["tie"][0] < places["loss"][0]
    assert places["win"][1] < places["tie"][1] < places["loss"][1]


@pytest.mark.parametrize("costs", [[3.0], [1e-3, 1e6], [5, 5, 5.01], [0.2, 0.9, 118]])
def test_points_and_their_numbers_stay_in_the_plot_and_apart(costs):
    points = [Point(number, cost, 30.0, "t") for number, cost in enumerate(costs, start=1)]
    plot = plot_cost(points, "ms", y_title="nDCG@10", format_cost=str)
    dots = [tuple(map(float, pair)) for pair in re.findall(r'class="dot" cx="(\S+)" cy="(\S+)"', plot)]
    labels = [tuple(map(float, pair)) for pair in re.findall(r'class="number" x="(\S+)" y="(\S+)"', plot)]
    assert len(dots) == len(labels) == len(set(labels)) == len(costs)
    assert all(48 <= x <= 400 and 14 <= y <= 236 for x, y in dots)
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    ticks_and_quality = plot.count('class="tick"')
    assert ticks_and_quality >= 3


def test_colours_begin_again_after_eight():
    assert [colour_class(number) for number in (1, 8, 9)] == ["s1", "s8", "s1"]


def test_figures_in_words():
    assert [format_bytes(count) for count in (0, 999, 1000, 71_283_968, 2.5e12)] == [
        "0 B", "999 B", "1 kB", "71.3 MB", "2.5 TB",
    ]  # fmt: skip
    assert [signed(value) for value in (0.0004, -0.0004, 0.012, -0.012)] == ["0.0", "0.0", "+1.2", "−1.2"]
