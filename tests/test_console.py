"""Tables and progress, on a terminal and where there is none."""

import time

import pytest

from flatcoat import console
from flatcoat.console import ColorWhen, output, print_table, progress_bar


def test_text_columns_fold_and_figures_do_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["a system of a [long] name", "nfcorpus " * 5, "32.50"], ["BM25", "scifact", "1,000.00"]]
    print_table(["System", "Data set", "Score"], rows, words={"Data set"}, title="Top", caption="below")
    shown = capsys.readouterr().out
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0] == "Top"
    assert lines[-1] == "below"
    assert max(map(len, lines)) <= 40
    assert "[long]" in shown
    assert any(line.endswith("   32.50") for line in lines)
    assert any(line.endswith("1,000.00") for line in lines)


def test_names_that_do_not_fit_beside_the_figures_stand_above_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    rows = [["BM25", "32.50", "7"], [name, "1,000.00", "12"]]
    for width, is_apart in ((40, True), (80, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(["System", "Score", "ms"], rows, title="Top", caption="below")
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert max(map(len, lines)) <= width
        assert (name in lines) == is_apart
        assert (lines[0], lines[-1]) == ("Top", "below")
        assert [line.split()[-2:] for line in lines if "32.50" in line or "1,000.00" in line] == [
            ["32.50", "7"],
            ["1,000.00", "12"],
        ]
        assert len({len(line) for line in lines if line.endswith(("ms", " 7", " 12"))}) == 1, "aligned"


def test_where_nobody_watches_progress_is_a_line_per_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.1)
    with progress_bar() as progress:
        task = progress.add_task("nfcorpus: small", total=None)
        time.sleep(0.15)
        progress.update(task, completed=1_200, total=3_633)
        time.sleep(0.1)
        progress.remove_task(task)
        time.sleep(0.15)
    time.sleep(0.15)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "nfcorpus: small, for 0 min so far"
    assert lines[-1] == "nfcorpus: small 1,200 of 3,633, for 0 min so far"
    assert len(lines) <= 4


def test_a_run_under_a_minute_says_nothing_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress.update(progress.add_task("fast", total=2), completed=2)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize(
    ("color", "no_color", "shown"),
    [
        ("auto", "", "[b] a"),
        ("auto", "1", "[b] a"),
        ("never", "", "[b] a"),
        ("always", "", "\x1b[33m[b] a\x1b[0m"),
        ("always", "1", "\x1b[33m[b] a\x1b[0m"),
    ],
)
def test_colours_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    color: ColorWhen,
    no_color: str,
    shown: str,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    for terminal in ("dumb", "xterm-256color", "unknown"):
        monkeypatch.setenv("TERM", terminal)
        output(color).print("[b] a", style="yellow")
        assert capsys.readouterr().out == f"{shown}\n"


def test_long_lines_are_never_broken_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output().print("cats :cat: " * 100)
    assert capsys.readouterr().out == "cats :cat: " * 100 + "\n"
