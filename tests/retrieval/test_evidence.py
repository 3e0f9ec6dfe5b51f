"""The evidence of results: real lines, in order, within the budget, the telling ones first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import Document, Retriever, UsageError
from flatcoat.retrieval.encoders.load import SHIPPED_NAME
from flatcoat.retrieval.evidence import SHARE, as_prompt, telling_pieces, within_budget
from flatcoat.retrieval.snippets import Evidence, text_pieces, words_of_query

LINES = [
    "The harbour was quiet in the morning.",
    "A bridge of steel crosses the river.",
    "",
    "It was built in 1937, and is 1280 metres long.",
    "Bread rises as yeast turns sugar into gas.",
]


@pytest.fixture(scope="module", params=["late", "dense"])
def retriever(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make_dense: Callable[..., Path]
) -> Any:
    model = SHIPPED_NAME if request.param == "late" else make_dense()
    retriever = Retriever.create(tmp_path_factory.mktemp("evidence") / "index", model)
    retriever.add([Document(f"{n}.txt", "\n".join([f"Heading {n}", *LINES, *LINES[:n]])) for n in range(5)])
    yield retriever
    retriever.close()


@pytest.mark.parametrize("mode", ["hybrid", "bm25", "vectors"])
@pytest.mark.parametrize("budget", [1, 10, 40, 150, 100_000])
def test_evidence_is_lines_of_the_document_within_the_budget(retriever: Any, mode: Any, budget: int) -> None:
    results = retriever.search("when was the steel bridge built", 5, mode=mode, budget=budget)
    for result in results:
        document = result.text.split("\n")
        assert result.evidence is not None
        for (first, last), text in result.evidence:
            assert text == "\n".join(document[first - result.lines[0] : last - result.lines[0] + 1])
        numbers = [line for excerpt in result.evidence for line in excerpt.lines]
        assert numbers == sorted(numbers)
    prompt = as_prompt(results)
    if prompt:
        (tokens,) = retriever.query_encoder.token_counts([prompt])
        assert tokens <= budget + 3
    if budget == 100_000:
        assert all(result.evidence for result in results)
    if budget == 1:
        assert prompt == ""


def test_the_lines_that_answer_come_first(retriever: Any) -> None:
    best, *_ = retriever.search("steel bridge crosses river", 1, mode="bm25", budget=1000)
    assert [excerpt.text for excerpt in best.evidence] == [LINES[1]]
    assert as_prompt([best]) == f"{best.document_id}:{best.evidence[0].lines[0]}\n{LINES[1]}"


def test_without_a_budget_there_is_none(retriever: Any) -> None:
    assert [one.evidence for one in retriever.search("bridge", 2)] == [None, None]
    assert retriever.search("bridge", 1)[0].to_json()["evidence"] is None
    with_one = retriever.search("bridge", 1, budget=100)[0].to_json()
    assert with_one["evidence"][0].keys() == {"lines", "text"}


@pytest.mark.parametrize("budget", [0, -1, 1.5, "many", True])
def test_a_budget_is_a_number_of_tokens(retriever: Any, budget: Any) -> None:
    with pytest.raises(UsageError, match="budget is"):
        retriever.search("bridge", budget=budget)


def test_lines_with_blanks_between_are_one_excerpt() -> None:
    text = "\n".join(LINES)
    telling = telling_pieces(text, words_of_query(text, "steel bridge 1937 metres"), 10)
    (excerpt,) = telling.excerpts(2)
    assert excerpt.lines == (11, 13)
    assert excerpt.text == "\n".join(LINES[1:4])


@given(data=st.data())
def test_no_fewer_pieces_chosen_so_would_do(data: st.DataObject) -> None:
    """The chosen pieces hold their share of the score, and all but the last of them do not."""
    count = data.draw(st.integers(1, 12))
    text = "\n".join(f"line {number}" for number in range(count))
    scores = data.draw(
        st.lists(st.lists(st.floats(0, 1), min_size=count, max_size=count), min_size=1, max_size=5)
    )
    pieces = list(text_pieces(text))
    scores_QU = np.array(scores, np.float32)
    telling = telling_pieces(text, Evidence(pieces, scores_QU))
    whole = scores_QU.max(axis=1).sum()
    usual = np.median(scores_QU.sum(axis=0))

    def held(chosen: Any) -> float:
        return float(scores_QU[:, [pieces.index(piece) for piece in chosen]].max(axis=1).sum())

    if whole > 0:
        assert len(set(telling.pieces)) == len(telling.pieces)
        assert held(telling.pieces) >= usual + SHARE * (whole - usual) - 1e-4
        if len(telling.pieces) > 1:
            assert held(telling.pieces[:-1]) < usual + SHARE * (whole - usual) + 1e-4


def test_the_budget_is_spent_on_the_best_first() -> None:
    text = "\n".join(LINES)
    telling = telling_pieces(text, words_of_query(text, "bread rises"))

    def count(texts: Any) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    excerpts = within_budget(["a:1", "b:1"], [telling, telling], budget=10, count_tokens=count)
    assert [len(one) for one in excerpts] == [1, 0]


def test_a_document_of_a_title_alone_has_no_lines(tmp_path: Path) -> None:
    retriever = Retriever.create(tmp_path / "index")
    retriever.add([Document("t", "", title="The steel bridge")])
    (result,) = retriever.search("steel bridge", budget=100)
    assert (result.evidence, as_prompt([result])) == ((), "")
    retriever.close()
