"""Dev sets of whole groups: which groups, and what is written."""

from collections import Counter
from pathlib import Path

from flatcoat.eval.datasets import load_beir
from flatcoat.retrieval.data.held_back import (
    GroupedPair,
    HeldBack,
    at_most_per_group,
    held_back_groups,
    write_dev_set,
)

PAIRS = [
    GroupedPair(f"Query {number}", f"Document {number} of group {number % 7}", f"group-{number % 7}")
    for number in range(70)
]


def test_groups_are_held_back_until_the_dev_set_is_full() -> None:
    sizes = Counter(pair.group for pair in PAIRS)
    for documents in (1, 10, 11, 35, 1_000):
        groups = held_back_groups(PAIRS, HeldBack(documents=documents))
        counts = [sizes[group] for group in groups]
        assert sum(counts) >= min(documents, 70)
        assert sum(counts) - 10 < documents
    # Pairs of a group beyond the limit do not fill it.
    assert len(held_back_groups(PAIRS, HeldBack(documents=12, per_group=3))) == 4


def test_large_groups_stay_and_the_order_of_pairs_does_not_matter() -> None:
    large = [GroupedPair(f"q{number}", f"d{number}", "large") for number in range(30)]
    size = HeldBack(documents=40, largest=20)
    groups = held_back_groups([*large, *PAIRS], size)
    assert "large" not in groups
    assert groups == held_back_groups([*reversed(PAIRS), *large], size)


def test_a_limit_per_group_keeps_the_same_pairs_in_any_order() -> None:
    kept = list(at_most_per_group(PAIRS, 4))
    assert Counter(pair.group for pair in kept) == {f"group-{number}": 4 for number in range(7)}
    assert kept == list(at_most_per_group(reversed(PAIRS), 4))
    assert sorted(at_most_per_group(PAIRS, None), key=str) == sorted(PAIRS, key=str)


def test_a_dev_set_is_a_beir_folder_with_every_answer(tmp_path: Path) -> None:
    again = [
        GroupedPair("QUERY 3", "another answer", "group-3"),
        GroupedPair("one more query", "document 3  of group 3", "group-3"),
    ]
    counts = write_dev_set([*PAIRS, *again], tmp_path / "dev", HeldBack(queries=80, documents=80))
    dataset = load_beir(tmp_path / "dev", "dev")
    assert counts == (len(dataset.queries), len(list(dataset.documents))) == (71, 71)
    ids = {text: id for id, text in dataset.queries.items()}
    texts = {document.id: document.text for document in dataset.documents}
    answers = {
        query: {texts[id].casefold() for id in dataset.qrels[ids[query]]} for query in ("one more query",)
    }
    assert [{" ".join(text.split()) for text in found} for found in answers.values()] == [
        {"document 3 of group 3"}
    ]
    (third,) = (id for text, id in ids.items() if text.casefold() == "query 3")
    assert len(dataset.qrels[third]) == 2


def test_a_dev_set_keeps_to_its_size(tmp_path: Path) -> None:
    size = HeldBack(queries=5, documents=20, per_group=4)
    assert write_dev_set(PAIRS, tmp_path / "dev", size) == (5, 20)
    dataset = load_beir(tmp_path / "dev", "dev")
    assert set(dataset.qrels) == set(dataset.queries)
