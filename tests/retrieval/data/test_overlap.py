"""Overlap of training text with evaluation sets, against a search for runs of words in the texts."""

import json
import random
import re
from pathlib import Path

import pytest

from flatcoat.errors import NotFoundError
from flatcoat.retrieval.data.overlap import Overlap

WORDS = ["cat", "Dog", "sky", "bread", "br\u00fccke", "river", "light", "steel", "if", "x_1"]


def runs(text: str, length: int = 13) -> set[str]:
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[start : start + length]) for start in range(len(words) - length + 1)}


def test_it_finds_what_a_search_for_runs_of_13_words_finds() -> None:
    generator = random.Random(1)

    def text(length: int, words: list[str] = WORDS[:2]) -> str:
        return " ".join(generator.choices(words, k=length))

    known = [text(length) for length in (30, 14, 13, 12, 0)]
    overlap = Overlap({"known": ([], known)})
    known_runs = {run for one in known for run in runs(one)}
    asked = [text(generator.randrange(60)) for _ in range(3_000)]
    found = [overlap.find(one) == "known" for one in asked]
    assert found == [not known_runs.isdisjoint(runs(one)) for one in asked]
    assert 50 < sum(found) < 2_950


def test_case_punctuation_and_lines_make_no_difference() -> None:
    overlap = Overlap({"code": ([], [" ".join(WORDS * 2)])})
    assert overlap.find("(" + ",\n".join(WORDS * 2).upper() + ")") == "code"
    assert overlap.find(" ".join(reversed(WORDS * 2))) is None


def test_a_query_of_any_length_counts_as_a_whole() -> None:
    overlap = Overlap({"one": (["Cats?"], []), "two": (["dogs"], ["w " * 13])})
    assert [overlap.find(text) for text in ("cats?", "dogs", "dogs bark", "w " * 20, "")] == [
        "one",
        "two",
        None,
        "two",
        None,
    ]


def test_a_beir_folder_counts_with_titles_and_all_queries(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": "d", "title": "a b c d e f g", "text": "h i j k l m n"}]
    (folder / "corpus.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "unjudged"}) + "\n")
    overlap = Overlap.of_beir([folder])
    assert overlap.find("b c d e f g h i j k l m n o") == "set"
    assert overlap.find("unjudged") == "set"
    with pytest.raises(NotFoundError):
        Overlap.of_beir([tmp_path / "none"])
