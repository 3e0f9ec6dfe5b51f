"""How results look, on a terminal of 80 columns and in a pipe: place, best lines, notes."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from flatcoat.console import progress_bar
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.display import Layout, Place, matching_files, print_results, show_result
from flatcoat.retrieval.ranking import SIGNALS
from flatcoat.retrieval.results import Match, Result
from flatcoat.retrieval.retriever import Retriever
from flatcoat.retrieval.snippets import PIECES

PIPE, TERMINAL = Layout(), Layout(width=80)


def result_of(text: str, first: int = 1, **fields: Any) -> Result:
    lines = (first, first + text.count("\n"))
    values = {"rank": 3, "score": 0.5, "document_id": "a/b.py", "title": "a/b.py", "metadata": {}}
    return Result(**values | {"lines": lines, "text": text} | fields)


def plain(result: Result, query: str = "q", layout: Layout = PIPE) -> list[str]:
    return show_result(result, query, layout).plain.split("\n")


def highlights(text: Text) -> list[str]:
    return [text.plain[span.start : span.end] for span in text.spans if "yellow" in str(span.style)]


def test_a_short_passage_is_shown_whole() -> None:
    assert plain(result_of("one\ntwo", 7)) == [
        "  3  0.50  a/b.py:7  (lines 7-8)",
        "    7: one",
        "    8  two",
    ]


def test_what_filters_list_has_no_score() -> None:
    assert plain(result_of("one", 7, score=0.0))[0] == "  3  a/b.py:7  (lines 7-7)"
    assert plain(result_of("one", 7, score=0.0, scores={"bm25": 0.0}))[0].startswith("  3  0.00  a/b.py:7")


def test_the_snippet_starts_at_the_best_lines() -> None:
    text = "\n".join(f"line {number}" for number in range(20)).replace("line 9", "the blue sky")
    shown = show_result(result_of(text, 100), "why is the blue sky blue?")
    header, *snippet = shown.plain.split("\n")
    assert header == "  3  0.50  a/b.py:109  (lines 100-119)"
    assert snippet == ["  109: the blue sky", *(f"  {100 + n}  line {n}" for n in range(10, 9 + PIECES))]
    assert highlights(shown) == ["blue", "sky"]


def test_best_lines_that_were_found_before_are_shown() -> None:
    text = "cats\npurr\nat\nnight"
    span = text.index("at\n"), len(text)
    assert plain(result_of(text, best_span=span), "cats", Layout(context=0)) == [
        "  3  0.50  a/b.py:3  (lines 1-4)",
        "    3: at",
        "    4: night",
    ]


def test_lines_of_context() -> None:
    text = "\n".join(f"line {number}" for number in range(1, 10)).replace("line 5", "cats")
    for context, lines in ((0, [5]), (2, [3, 4, 5, 6, 7]), (99, range(1, 10))):
        shown = plain(result_of(text), "cats", Layout(context=context))[1:]
        assert [int(line[:5]) for line in shown] == list(lines)
        assert [line[5] for line in shown] == [":" if line == 5 else " " for line in lines]


def test_a_least_number_of_lines_is_filled_behind_the_best_or_else_before() -> None:
    lines = [f"line {number}" for number in range(1, 10)]
    for best, shown in ((1, [1, 2, 3, 4]), (5, [4, 5, 6, 7]), (9, [6, 7, 8, 9])):
        text = "\n".join(lines).replace(f"line {best}", "cats")
        rows = plain(result_of(text), "cats", Layout(context=1, least=4))[1:]
        assert [int(row[:5]) for row in rows] == shown
    assert len(plain(result_of("cats\npurr"), "cats", Layout(context=1, least=4))) == 3


CODE = "\n".join(["@wraps", "def find(x):", *(f"    step_{n}(x)" for n in range(20)), "    return cats"])


@pytest.mark.parametrize(("section", "lang"), [("Store.find", "python"), ("add, find", "rust")])
def test_the_definition_around_the_best_lines_is_shown_above(section: str, lang: str) -> None:
    found = result_of(CODE, section=section, metadata={"lang": lang})
    assert plain(found, "cats", Layout(context=1))[1:] == [
        "    2  def find(x):",
        "    …",
        "   22      step_19(x)",
        "   23:     return cats",
    ]
    near = plain(found, "step 2", Layout(context=1))[1:]
    assert near == [
        f"{number:>5}{':' if number == 5 else ' '} {line}" for number, line in lines_of(CODE, 2, 6)
    ]


def lines_of(text: str, first: int, last: int) -> list[tuple[int, str]]:
    return list(enumerate(text.split("\n"), start=1))[first - 1 : last]


def test_prose_and_a_definition_that_is_shown_anyway_have_no_line_above() -> None:
    prose = result_of(CODE, section="Store.find", metadata={"lang": "markdown"})
    assert [line[:6] for line in plain(prose, "cats", Layout(context=1))[1:]] == ["   22 ", "   23:"]
    shown = result_of(CODE, section="find", metadata={"lang": "python"}, best_span=(7, 19))
    assert [line[:6] for line in plain(shown, "cats", Layout(context=0))[1:]] == ["    2:"]
    two = "def add(x):\n    x\n    x\n    x\ndef find(x):\n    cats"
    second = result_of(two, section="add, find", metadata={"lang": "python"})
    assert [line[:6] for line in plain(second, "find", Layout(context=0))[1:]] == ["    5:"]


def test_a_long_line_is_shown_where_it_matches() -> None:
    text = f"{'x ' * 500}the blue sky {'y ' * 500}"
    shown = show_result(result_of(text), "blue sky")
    header, line = shown.plain.split("\n")
    assert header == "  3  0.50  a/b.py:1  (lines 1-1)"
    assert line.startswith("    1: …") and line.endswith("y…")
    assert "the blue sky" in line and len(line) < 600
    assert highlights(shown) == ["blue", "sky"]


def test_a_terminal_breaks_lines_behind_their_number_and_a_pipe_none() -> None:
    text = f"    if {' or '.join(f'condition_{number}' for number in range(6))}:\n        cats"
    assert len(plain(result_of(text), "cats")) == 3
    _, *rows = plain(result_of(text), "cats", TERMINAL)
    assert [row[:7] for row in rows] == ["    1  ", "       ", "    2: "]
    assert max(map(len, rows)) <= 80
    assert " ".join(" ".join(row[7:] for row in rows).split()) == " ".join(text.split())
    narrow = plain(result_of("東京" * 20), "q", Layout(width=20))[1:]
    assert [row[7:] for row in narrow] == ["東京" * 3] * 6 + ["東京" * 2]


def test_a_narrow_terminal_cuts_the_section_and_never_the_place() -> None:
    result = result_of("cats", 12, section="Guide > Installation on a machine without a network > Cats")
    assert plain(result)[0].endswith(
        "  Guide > Installation on a machine without a network > Cats  (lines 12-12)"
    )
    header = plain(result, layout=TERMINAL)[0]
    assert header == "  3  0.50  a/b.py:12  …tion on a machine without a network > Cats  (lines 12-12)"
    assert len(header) == 80
    assert plain(result, layout=Layout(width=10))[0] == "  3  0.50  a/b.py:12"


def test_places_are_files_and_links() -> None:
    places = {"a/b.py": Place("code/a/b.py", "file:///code/a/b.py"), "b.md": Place("/docs/b.md")}
    result = result_of("cats", duplicates=("b.md:9", "c.md:1"))
    shown = show_result(result, "cats", Layout(places=places))
    header, _, also = shown.plain.split("\n")
    assert header == "  3  0.50  code/a/b.py:1  (lines 1-1)"
    assert also == "       also in /docs/b.md:9, c.md:1"
    (link,) = [span for span in shown.spans if getattr(span.style, "link", None)]
    assert (shown.plain[link.start : link.end], link.style.link) == ("code/a/b.py:1", "file:///code/a/b.py")  # type: ignore[union-attr]


def test_duplicates_and_other_passages_are_named() -> None:
    places = tuple(f"{name}.md:1" for name in "bcdef")
    assert plain(result_of("cats", duplicates=places, more=2))[2:] == [
        "       also in b.md:1, c.md:1, d.md:1 and 2 more",
        "       2 more passages of it",
    ]
    assert plain(result_of("cats", duplicates=places[:1], more=1))[2:] == [
        "       also in b.md:1",
        "       1 more passage of it",
    ]


MATCHES = [
    Match("[CLS]", None, (0, 4), 1.0),
    Match("wh", (0, 2), (0, 2), 0.25),
    Match("y", (2, 3), (10, 12), 0.5),
    Match("cats", (4, 8), (0, 4), 1.5),
    Match("night", (9, 14), (13, 18), 0.75),
    Match("purr", (15, 19), None, 0.125),
]


def test_scores_and_the_words_that_matched_are_said_below() -> None:
    result = result_of("cats purr at knights", explanation=MATCHES, scores={"bm25": 12.5, "fused": 1.0})
    assert plain(result, "why cats night purr")[2:] == [
        "       bm25 12.50  fused 1.00",
        "       cats 1.50, night -> knights 0.75, purr -> (title or section) 0.12",
    ]


def test_a_query_of_stop_words_says_which_matched() -> None:
    assert plain(result_of("at", explanation=[Match("why", (0, 3), (0, 2), 0.5)]), "why")[-1:] == [
        "       why -> at 0.50"
    ]


def test_scores_stand_in_columns_and_signals_where_they_changed_something(store: Store) -> None:
    one = result_of("cats", explanation=[], scores={"bm25": 2.5, "fused": 0.25, "ranked": 0.25})
    scores = {
        "vectors": 10.0,
        "fused": 1.0,
        "definition": 0.5,
        "spread": -0.25,
        "ranked": 1.25,
        "rerank": 3.0,
    }
    other = result_of("cats", explanation=[], scores=scores)
    file = StringIO()
    print_results(Console(file=file, soft_wrap=True), [one, other], "q", store=store)
    assert [line for line in file.getvalue().splitlines() if "fused" in line] == [
        "       vectors     -  bm25 2.50  fused 0.25  ranked 0.25  rerank    -",
        "       vectors 10.00  bm25    -  fused 1.00  definition +0.50  spread -0.25",
    ]
    assert "       ranked 1.25  rerank 3.00" in file.getvalue()
    assert plain(one)[2:] == ["       bm25 2.50  fused 0.25  ranked 0.25"]


def test_notes_are_few_lines_of_80_columns() -> None:
    words = [f"word{number}" for number in range(40)]
    query = " ".join(words)
    places = [(query.index(word), query.index(word) + len(word)) for word in words]
    matches = [Match(word, place, (0, 4), 0.5) for word, place in zip(words, places, strict=True)]
    scores = dict.fromkeys(["vectors", "bm25", "fused", *SIGNALS, "ranked", "rerank"], 0.125)
    shown = plain(result_of("cats", explanation=matches, scores=scores), query)[2:]
    assert len(shown) == 5
    assert max(map(len, shown)) <= 80
    assert shown[-1].endswith(" more")
    named = sum(line.count(" -> ") for line in shown)
    assert int(shown[-1].split()[-2]) == 40 - named


def test_control_characters_do_not_reach_the_terminal() -> None:
    result = result_of("a\x1b[31m\r\x07 cats\r\npurr \x9b2J", document_id="a\nb.md", section="c\x1bd")
    assert plain(result, "cats") == [
        "  3  0.50  a b.md:1  c d  (lines 1-2)",
        "    1: a [31m   cats ",
        "    2  purr  2J",
    ]


def test_a_passage_without_text_shows_its_title() -> None:
    shown = show_result(result_of("", title="Walrus season", best_span=(0, 0)), "walrus")
    assert shown.plain.split("\n") == ["  3  0.50  a/b.py:1  (lines 1-1)", "    1: Walrus season"]
    assert highlights(shown) == ["Walrus"]


class Terminal(StringIO):
    """A file that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Files and rows; ``gone.md`` exists no longer."""
    (tmp_path / "docs" / "a b").mkdir(parents=True)
    (tmp_path / "docs" / "a b" / "cats.md").write_text("cats purr")
    (tmp_path / "one.md").write_text("dogs bark")
    (tmp_path / "rows.jsonl").write_text("")
    store = Store.create(tmp_path / "index", {})
    names = [["a b/cats.md", "gone.md"], ["one.md"], ["7"], ["8"]]
    with store.writer() as writer:
        roots = [tmp_path / "docs", tmp_path / "one.md", tmp_path / "rows.jsonl", "-"]
        writer.enter_sources(roots[:1])  # Alone, it gets no prefix.
        for source, ids in zip(writer.enter_sources(roots), names, strict=True):
            passages = [Passage(f"{source.prefix}{id}", id) for id in ids]
            writer.add(passages, np.eye(len(ids), 4, dtype=np.float32), source=source.key)
        writer.add([Passage("own", "own")], np.eye(1, 4, dtype=np.float32))
    return store


IDS = ["gone.md", "7", "one.md", "stdin/8", "own", "a b/cats.md", "nowhere", "7"]


def test_files_of_results_are_those_that_exist_each_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [result_of("x", document_id=id) for id in IDS]
    monkeypatch.chdir(tmp_path / "docs")
    assert matching_files(results, store) == [
        str(tmp_path / "rows.jsonl"),
        str(tmp_path / "one.md"),
        "a b/cats.md",
    ]
    assert matching_files([], store) == []


def test_a_name_that_is_escaped_leads_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["back\\slash.md", "tab\tname.md", "in\\n/\u2028.md"]
    for name in names:
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(name)
    retriever = Retriever.create(tmp_path / "index", None)
    retriever.add_files(tmp_path / "docs")
    ids = retriever.store.document_ids()
    files = retriever.store.files_of(list(ids))
    assert {file.path for file in files.values()} == {tmp_path / "docs" / name for name in names}
    assert all(retriever.store.document_in(file.path) == id for id, file in files.items())


def test_a_document_is_known_by_its_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "docs")
    assert store.document_in("a b/cats.md") == "a b/cats.md"
    assert store.document_in(tmp_path / "docs" / "gone.md") == "gone.md"
    assert store.document_in("../one.md") == "one.md"
    for other in ("one.md", "a b", "..", "", "7", "../rows.jsonl", "../rows.jsonl/7", "../docs"):
        assert store.document_in(other) is None, other


@pytest.mark.parametrize("is_terminal", [True, False])
def test_links_and_breaks_are_for_terminals_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Terminal() if is_terminal else StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="standard", soft_wrap=True)
    results = [result_of("cats " * 30, document_id=id, duplicates=("one.md:3",)) for id in IDS[:-1]]
    print_results(console, results, "dogs", store=store)
    shown = file.getvalue()
    plain = re.sub(r"\x1b\[[\d;]*m|\x1b\]8;.*?\x1b\\", "", shown).splitlines()
    heads = [line.split("  ")[-2] for line in plain if "0.50" in line]
    assert heads == [
        f"{place}:1" for place in ("gone.md", "7", "one.md", "stdin/8", "own", "docs/a b/cats.md", "nowhere")
    ]
    assert sum(line == "       also in one.md:3" for line in plain) == len(results)
    links = re.findall(r"\x1b\]8;id=\d+;(.+?)\x1b\\", shown)
    files = [tmp_path / "one.md", tmp_path / "docs" / "a b" / "cats.md"]
    assert links == ([file.as_uri() for file in files] if is_terminal else [])
    assert (max(map(len, plain)) <= 80) == is_terminal


def test_nobody_watching_means_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress.add_task("working", total=None)
    assert capsys.readouterr() == ("", "")
