"""The questions that come with the repository: their number and kinds, and what they share with the paths."""

import re
from collections import Counter

import pytest

from flatcoat.eval.code_questions.dataset import Question, packages, questions

WORD = re.compile(r"[A-Za-z0-9]+")
STOP_WORDS = frozenset(
    WORD.findall(
        "the and for are was were has have had not its with from that this those these what which where when "
        "who whom whose how why does did done can could will would should shall may might must into onto out "
        "off per via but nor yet any all one two own you your our their they them there here than then too "
        "very just only also get gets got let lets use uses used way"
    )
)
SUFFIXES = WORD.findall(
    "izations ization ations ation ments ment ings ing ities ity ions ion ers ors er or ies ied ely ly ed es "
    "s e y"
)


def words(text: str) -> set[str]:
    """Words of three letters or more, and the parts of camelCase ones."""
    found = []
    for chunk in WORD.findall(text):
        parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", chunk)
        found += [chunk, *parts.split()]
    return {word.lower() for word in found if len(word) >= 3 and not word.isdigit()}


def stem(word: str) -> str:
    ending = next((one for one in SUFFIXES if word.endswith(one) and len(word) - len(one) >= 3), "")
    return word.removesuffix(ending)


def are_alike(one: str, other: str) -> bool:
    """The same stem, one the beginning of the other, or five letters in common at the beginning."""
    short, long = sorted((one, other), key=len)
    return stem(one) == stem(other) or long.startswith(short) or (one[:5] == other[:5] and len(short) >= 5)


def shares_a_word(question: Question) -> bool:
    asked = words(question.text) - STOP_WORDS
    return any(are_alike(word, part) for path in question.targets for part in words(path) for word in asked)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_each_half_has_the_languages_the_kinds_and_questions_without_a_word_of_the_path(split: str) -> None:
    half = {package.name: package for package in packages() if package.split == split}
    asked = [question for question in questions() if question.package in half]
    assert len(half) == 12
    assert len({package.language for package in half.values()}) >= 10
    assert len(asked) >= 190
    assert min(Counter(question.kind for question in asked).values()) >= 50
    assert set(Counter(question.kind for question in asked)) == {"symbol", "function", "place"}
    assert sum(question.path_free for question in asked) >= len(asked) / 3
    assert set(Counter(question.package for question in asked)) == set(half)


def test_a_question_is_path_free_where_it_shares_no_word_with_a_path() -> None:
    wrong = [question.id for question in questions() if question.path_free == shares_a_word(question)]
    assert wrong == []


def test_every_question_has_its_own_id_and_text_and_one_main_place_at_least() -> None:
    asked = questions()
    assert len({question.id for question in asked}) == len(asked)
    assert len({(question.package, question.text.lower()) for question in asked}) == len(asked)
    assert all(2 in question.targets.values() for question in asked)
    assert all(grade in (1, 2) for question in asked for grade in question.targets.values())
