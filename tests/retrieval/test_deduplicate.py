import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.retrieval.deduplicate import SHINGLE, SIMILAR, fold_duplicates, group_by

LONG = " ".join(f"word{number}" for number in range(100))


def plain_similarity(one: str, other: str) -> float:
    sets = []
    for text in (one, other):
        words = text.casefold().split()
        sets.append({tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def fold_slowly(texts: list[str]) -> list[list[int]]:
    groups: list[list[int]] = []
    for position, text in enumerate(texts):
        for group in groups:
            if plain_similarity(texts[group[0]], text) >= SIMILAR:
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


def edited(base: str) -> st.SearchStrategy[str]:
    """The text with a few words replaced, put in or taken out."""
    places = st.integers(0, len(base.split()) - 1)
    edits = st.lists(st.tuples(places, st.sampled_from(["", "new", "new word"])), max_size=3)

    def apply(changes: list[tuple[int, str]]) -> str:
        words = base.split()
        for place, word in changes:
            words[place] = word
        return " ".join(words)

    return edits.map(apply)


few_words = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@given(st.lists(st.one_of(edited(LONG), edited(LONG[200:]), few_words), max_size=12))
def test_what_is_folded_is_what_all_pairs_say(texts: list[str]) -> None:
    assert fold_duplicates(texts) == fold_slowly(texts)


@pytest.mark.parametrize(("words", "folded"), [(99, True), (91, True), (90, False), (50, False)])
def test_nine_tenths_of_the_shingles_are_enough(words: int, folded: bool) -> None:
    shorter = " ".join(LONG.split()[:words])  # 96 shingles against words - 4
    assert fold_duplicates([LONG, shorter]) == ([[0, 1]] if folded else [[0], [1]])


def test_texts_without_blanks_fold_by_their_characters() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(200))
    assert fold_duplicates([text, f"{text[:50]}{text[52:]}。", text[:150], text]) == [[0, 1, 3], [2]]
    assert fold_duplicates(["电话一", "电话二", "电话一"]) == [[0, 2], [1]]


def test_exactly_nine_tenths_count() -> None:
    ten_shingles = " ".join(LONG.split()[: 10 + SHINGLE - 1])
    nine_shingles = " ".join(LONG.split()[: 9 + SHINGLE - 1])
    assert plain_similarity(ten_shingles, nine_shingles) == SIMILAR
    assert fold_duplicates([ten_shingles, nine_shingles]) == [[0, 1]]
    assert fold_duplicates([nine_shingles, ten_shingles]) == [[0, 1]]


def test_case_and_blanks_do_not_count() -> None:
    assert fold_duplicates(["A cat\n  purrs", "a CAT purrs ", "a cat purr"]) == [[0, 1], [2]]


def test_texts_without_words_equal_each_other_only() -> None:
    assert fold_duplicates(["", " \n", "a", "!"]) == [[0, 1], [2], [3]]
    assert fold_duplicates([]) == []


def test_the_first_of_each_group_is_the_best() -> None:
    groups = group_by(["b1", "a1", "b2", "c1", "a2", "b3"], lambda name: name[0])
    assert groups == [["b1", "b2", "b3"], ["a1", "a2"], ["c1"]]
