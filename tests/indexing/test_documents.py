"""What an index takes as a document, and how it keeps text."""

import datetime
from enum import Enum
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import Document, FlatcoatError
from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.documents import checked, normalized, whole_text


class Colour(str, Enum):  # noqa: UP042, its str() is another text
    RED = "red"


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ("plain", "plain"),
        ("re\u0301sume\u0301", "r\u00e9sum\u00e9"),
        ("Vie\u0323\u0302t", "Vi\u1ec7t"),
        ("walrus \ud83e", "walrus \ufffd\ufffd\ufffd"),
        ("\ud83e\uddad", "\U0001f9ad"),
        ("\ufeffmark", "\ufeffmark"),
        ("\U0001f9ad e\u0301", "\U0001f9ad \u00e9"),
    ],
)
def test_one_form_of_every_text(came: str, kept: str) -> None:
    assert normalized(came) == kept
    assert normalized(kept) == kept


@pytest.mark.parametrize(
    ("id", "kept"),
    [
        ("a", "a"),
        (7, "7"),
        (np.int64(7), "7"),
        (np.uint8(0), "0"),
        (np.str_("a"), "a"),
        (Colour.RED, "red"),
        (10**30, "1" + "0" * 30),
        (np.array(3), "3"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_ids_are_texts_and_whole_numbers_their_digits(id: Any, kept: str) -> None:
    found = checked(Document(id, "text")).id
    assert found == kept
    assert type(found) is str


@pytest.mark.parametrize(
    "id", [None, "", True, np.bool_(True), 1.5, 1.0, np.float32(2), b"a", ("a",), ["a"], "a\0b", np.arange(3)]
)
def test_other_ids_are_refused(id: Any) -> None:
    with pytest.raises(FlatcoatError, match=r"document id .*: a text that is not empty, or a whole number"):
        checked(Document(id, "text"))


@pytest.mark.parametrize("part", ["text", "title"])
@pytest.mark.parametrize("value", [None, 1, b"bytes", ["text"]])
def test_other_texts_are_refused(part: str, value: Any) -> None:
    with pytest.raises(FlatcoatError, match=f"the {part} of document 'a' is {type(value).__name__}"):
        checked(Document("a", **({"text": "x"} | {part: value})))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("text", "text"),
        (True, True),
        (np.bool_(False), False),
        (np.int32(3), 3),
        (np.float32(0.5), 0.5),
        (2**63 - 1, 2**63 - 1),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (Colour.RED, "red"),
        ("e\u0301\ud83e", "\u00e9\ufffd\ufffd\ufffd"),
    ],
)
def test_metadata_are_scalars(value: Any, kept: object) -> None:
    found = checked(Document("a", "text", metadata={"field": value})).metadata["field"]
    assert found == kept
    assert type(found) is type(kept)


def test_lists_of_values_are_kept() -> None:
    metadata = {"tags": ("a", "e\u0301"), "days": [datetime.date(2024, 1, 2), np.int64(3)], "none": []}
    stored = checked(Document("a", "text", metadata=metadata)).metadata  # type: ignore[arg-type]
    assert stored == {"tags": ["a", "\u00e9"], "days": ["2024-01-02", 3], "none": []}


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"x",
        [None],
        [[1]],
        {"a": 1},
        float("nan"),
        float("inf"),
        np.float32("nan"),
        2**63,
        1j,
        object(),
        np.arange(2),
        np.datetime64("NaT"),
        datetime.timedelta(1),
    ],
)
def test_other_metadata_are_refused(value: Any) -> None:
    with pytest.raises(FlatcoatError, match=r"metadata 'field' of 'a' is .*: a text, finite number"):
        checked(Document("a", "text", metadata={"field": value}))


def test_fields_of_metadata_are_texts_that_differ() -> None:
    with pytest.raises(FlatcoatError, match="metadata field int 1 of document 'a': its name must be a text"):
        checked(Document("a", "text", metadata={1: "a", "b": 2}))  # type: ignore[dict-item]
    with pytest.raises(FlatcoatError, match="comes twice"):
        checked(Document("a", "text", metadata={"e\u0301": 1, "\u00e9": 2}))


@pytest.mark.parametrize("came", ["text", {"id": "a"}, None, ("a", "text")])
def test_what_is_no_document_is_refused(came: Any) -> None:
    with pytest.raises(FlatcoatError, match="a Document is needed: Document"):
        checked(came)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text() | st.integers(), inner, max_size=2),
    max_leaves=4,
)


@given(st.tuples(anything, anything, anything, anything, anything))
def test_any_document_is_kept_the_same_or_refused(parts: tuple[Any, ...]) -> None:
    try:
        once = checked(Document(*parts))
    except FlatcoatError:
        return
    assert checked(once) == once
    f"{once}".encode()


@pytest.mark.parametrize("overlap", [0, 4])
def test_passages_put_together_give_the_text(overlap: int) -> None:
    random = Random(1)
    for _ in range(300):
        words = ["cat", "sat.", "Mat", "# Head", "on", "\n", "\n\n", "end. New", "x" * 9]
        # Numbered: where a text repeats itself no one can tell an overlap from it.
        several = random.choices(words, k=random.randrange(1, 150))
        text = " ".join(f"{word}{number}" for number, word in enumerate(several))
        text = "\n".join(line.strip() for line in text.split("\n")).rstrip()
        passages = chunk(Document("a", text), count_words, max_tokens=9, overlap=overlap)
        pieces = [(passage.lines[0], passage.text) for passage in passages]
        assert whole_text(pieces, overlap=bool(overlap)).rstrip() == text


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]
