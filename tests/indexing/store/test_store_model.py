"""Any sequence of changes leaves the store equal to a dictionary that went through the same."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.indexing import segments
from flatcoat.indexing.store import compaction, merge, writer
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store

from ..corpus import contents, dense, error, passages, vectors

CODING_LOSES = 0.2
"""Of mean squares at most, where codecs are trained on a handful of vectors, again and again."""

names = st.sampled_from(["a", "b", "c", "d"])
version = st.tuples(st.integers(1, 3), st.integers(0, 9))
change = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(names, version, min_size=1)),
    st.tuples(st.just("remove"), st.sets(names)),
    st.tuples(st.just("commit"), st.none()),
    st.tuples(st.just("compact"), st.booleans()),
)
block = st.tuples(st.lists(change, max_size=6), st.booleans(), st.booleans())


class Abandoned(Exception):
    """Leaves a writer's block without its commit."""


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that a handful of passages fills, and of which there are soon too many."""
    for module in (writer, merge, compaction):
        monkeypatch.setattr(module, "MOST_PASSAGES", 4)
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 4)
    monkeypatch.setattr(compaction, "_MOST_SMALL", 2)


def write(store: Store, changes: list, committed: dict, abandon: bool) -> dict:
    """Apply ``changes`` to the store; returns what a dictionary that starts as ``committed`` then holds."""
    state = dict(committed)
    with suppress(Abandoned), store.writer() as writer:
        for what, value in changes:
            if what == "add":
                batch = [
                    p for name, (count, content) in value.items() for p in passages(name, count, content)
                ]
                hashes = {name: str(content) for name, (_, content) in value.items()}
                writer.add(
                    batch, dense(batch) if store.engine.name == "faiss" else vectors(batch), hashes=hashes
                )
                state |= value
            elif what == "remove":
                assert writer.remove(value) == sum(name in state for name in value)
                state = {name: held for name, held in state.items() if name not in value}
            else:
                writer.commit() if what == "commit" else writer.compact(value)
                committed = dict(state)
        if abandon:
            raise Abandoned
        committed = state
    return committed


def check(store: Store, state: dict) -> None:
    assert contents(store) == {name: passages(name, *version) for name, version in state.items()}
    assert store.document_hashes() == {name: str(content) for name, (_, content) in state.items()}
    rows = store.rows_where([]).tolist()
    assert sorted(store.snapshot().rows) == sorted(store.bm25("part", 99).ids) == rows
    stats = store.stats()
    assert error(store) <= (CODING_LOSES if stats.engine == "plaid" else 0)
    if rows:
        query = dense([passages("a")[0]])
        (hits,) = store.index().search(query if stats.kind == "dense" else vectors(passages("a")), 99)
        assert sorted(hits.ids) == rows
        assert (np.diff(hits.scores) <= 0).all()
    assert store.verify() == []


@pytest.mark.parametrize("engine", ["exact", "plaid", "faiss"])
def test_the_store_equals_a_dictionary(engine) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(block, max_size=4))
    def equals_a_dictionary(blocks: list) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Store.create(Path(folder) / "index", {}, engine=EngineSettings(engine))
            state: dict = {}
            for changes, abandon, reopen in blocks:
                state = write(store, changes, state, abandon)
                if reopen:
                    store.close()
                    store = Store.open(store.path)
                check(store, state)
            store.close()

    equals_a_dictionary()
