"""A recall that is asked for is found, by the least work that finds it."""

from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.calibration import Step, cheapest
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.engines import EngineSettings
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.store import Store
from flatcoat.indexing.types import TokenVectors

STEPS = (Step(4, 16, 0.7, 1.0), Step(4, 64, 0.9, 2.0), Step(16, 64, 0.95, 1.5))


def test_the_fastest_of_those_that_find_enough() -> None:
    assert cheapest(STEPS, 0.5) == STEPS[0]
    assert cheapest(STEPS, 0.9) == STEPS[2]
    with pytest.raises(FlatcoatError, match=r"recall 0.99 is out of reach: .* 0.950"):
        cheapest(STEPS, 0.99)
    with pytest.raises(FlatcoatError, match="never calibrated: compact it"):
        cheapest((), 0.9)


def vectors(count: int) -> TokenVectors:
    random = np.random.default_rng(0)
    words = random.standard_normal((300, 32))
    sizes = random.integers(5, 25, count)
    values = words[(300 * random.random(sizes.sum()) ** 2).astype(int)]
    values += 0.7 * random.standard_normal(values.shape)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values.astype(np.float32), np.concatenate([[0], np.cumsum(sizes)]))


def test_a_compacted_index_meets_the_recall_it_is_asked_for(tmp_path: Path) -> None:
    texts = vectors(1_500)
    passages = [Passage(f"d{i}", f"text {i}") for i in range(len(texts))]
    with Store.create(tmp_path / "index", {}, EngineSettings("plaid")) as store:
        with store.writer() as writer:
            writer.add(passages, texts)
        store.compact()
        steps = store.snapshot().calibration
        index = store.index()
    assert [step.recall for step in steps] == sorted(step.recall for step in steps)
    assert [step.cost for step in steps] == sorted(step.cost for step in steps)
    queries = TokenVectors.from_list([texts[i][:6] for i in range(0, 1_500, 25)])
    exact = ExactIndex.from_vectors([str(i) for i in range(1_500)], texts).search(queries, 10)
    rows = store_rows(index)
    for recall in (steps[0].recall, steps[-1].recall):
        found = index.search(queries, 10, recall=recall)
        shares = [
            len({rows[row] for row in a.ids} & {int(id) for id in b.ids}) / 10
            for a, b in zip(found, exact, strict=True)
        ]
        assert np.mean(shares) > recall - 0.1
    with pytest.raises(FlatcoatError, match="out of reach"):
        index.search(queries, 10, recall=1.1)


def store_rows(index) -> dict[int, int]:
    """The text that each row holds: they were added in order."""
    return {row: place for place, row in enumerate(sorted(index._snapshot.rows.tolist()))}
