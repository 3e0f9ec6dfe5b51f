"""Patterns in texts: what they match, by whichever rule of case, and that none takes for ever."""

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Passage, normalized
from flatcoat.indexing.filters.text_pattern import TextPattern
from flatcoat.indexing.store.store import Store

TEXTS = [
    "def open(self):",
    "Opened twice",
    "the OTTER\nand def close():",
    "a.b(c)",
    "",
    "Straße",
    "caf\u00e9 x1",
]


def matching(**pattern: Any) -> list[int]:
    span = TextPattern(**pattern).spans()
    return [number for number, text in enumerate(TEXTS) if span(text)]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ({"regex": r"def \w+\("}, [0, 2]),
        ({"regex": r"^def"}, [0]),
        ({"regex": r"^and"}, [2]),  # at every line
        ({"regex": r"otter$"}, [2]),
        ({"regex": "open"}, [0, 1]),
        ({"regex": "Open"}, [1]),  # A capital counts.
        ({"regex": "Open", "case": "ignore"}, [0, 1]),
        ({"regex": "open", "case": "sensitive"}, [0]),
        ({"regex": r"\Ddef \S+"}, [2]),  # that of an escape does not
        ({"regex": r"\p{Lu}tter"}, [2]),
        ({"regex": r"(?P<Name>opened)"}, [1]),
        ({"regex": r"(?-i:otter)"}, []),
        ({"fixed": "otter"}, [2]),
        ({"fixed": "Otter"}, []),
        ({"fixed": "a.b("}, [3]),
        ({"fixed": "cafe\u0301"}, [6]),
        ({"fixed": "def", "regex": "otter"}, [2]),
        ({"fixed": "def", "regex": "zebra"}, []),
        ({"regex": "x*"}, list(range(7))),
    ],
)
def test_a_pattern_matches(pattern: dict[str, Any], matches: list[int]) -> None:
    assert matching(**pattern) == matches


@given(st.text(min_size=1, max_size=4), st.text(max_size=30), st.booleans())
def test_a_fixed_text_is_found_as_python_finds_it(fixed: str, text: str, inside: bool) -> None:
    text = normalized(text + fixed + text if inside else text)
    span = TextPattern(fixed=fixed, case="sensitive").spans()(text)
    start = text.find(normalized(fixed))
    assert span == (None if start < 0 else (start, start + len(normalized(fixed))))


@given(st.text("ab.*+?()[]{}|^$\\dw1", max_size=8), st.text("ab1 \n", max_size=20))
def test_a_regex_is_read_as_python_reads_it(pattern: str, text: str) -> None:
    try:
        expected = re.compile(pattern, re.MULTILINE)
        found = TextPattern(regex=pattern, case="sensitive")
    except (re.error, UsageError, FutureWarning):
        return  # The two differ in what they refuse.
    span, match = found.spans()(text), expected.search(text)
    assert (span is None) == (match is None)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ({"regex": "("}, r"regex '\(' is malformed"),
        ({"regex": "[a"}, "malformed"),
        ({"regex": "a{5,2}"}, "malformed"),
        ({"regex": r"(?P<a>x)(?P=b)"}, "malformed"),
        ({"regex": "*" * 5}, "malformed"),
        ({"regex": ""}, "not empty"),
        ({"fixed": ""}, "not empty"),
        ({"fixed": 3}, "not empty"),
        ({"regex": b"x"}, "not empty"),
        ({"regex": "x", "case": "upper"}, "smart, sensitive, ignore"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        TextPattern(**pattern)
    assert "\n" not in str(error.value)


def test_a_pattern_that_would_take_for_ever_ends() -> None:
    span, began = TextPattern(regex="(a|aa)+$").spans(most_seconds=0.3), time.monotonic()
    with pytest.raises(UsageError, match="fewer repetitions"):
        span("a" * 100 + "b")
    assert time.monotonic() - began < 30


def test_an_ordinary_pattern_is_never_refused() -> None:
    span = TextPattern(regex="a+$").spans(most_seconds=0.01)
    assert [span("a" * 40 + "b") for _ in range(20_000)] == [None] * 20_000


def test_a_store_finds_the_rows_that_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.indexing.store.store._TEXTS_AT_ONCE", 7)
    with Store.create(tmp_path / "i", {}) as store:
        with store.writer() as writer:
            batch = [Passage(f"d{n % 40}", f"text w{n}", metadata={"g": n % 40 % 3}) for n in range(100)]
            writer.add(batch, np.ones((100, 2), np.float32))
        every = store.rows_where(None).tolist()
        texts = [passage.text for passage in store.passages(every)]
        pattern = TextPattern(regex=r"w\d?5$")
        expected = [row for row, text in zip(every, texts, strict=True) if re.search(r"w\d?5$", text)]
        found = store.rows_where(None, text=pattern)
        assert found.tolist() == expected
        assert store.rows_where(None, text=TextPattern(regex=r"w\d?5$")) is found
        some = store.rows_where("g=1").tolist()
        assert store.rows_where("g=1", text=pattern).tolist() == [row for row in expected if row in some]
        with store.writer() as writer:
            writer.remove(["d5"])
        left = [row for row in expected if row in store.rows_where(None)]
        assert len(left) < len(expected)
        assert store.rows_where(None, text=pattern).tolist() == left
        assert store.rows_where(None, text=TextPattern(fixed="zebra")).tolist() == []
