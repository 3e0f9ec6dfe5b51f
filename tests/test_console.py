"""Tables on a terminal."""

import pytest

from flatcoat.console import print_table


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
