"""Any sequence of changes leaves the store equal to a dictionary that went through the same."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.indexing.store import Store

from .corpus import passages, vectors

names = st.sampled_from(["a", "b", "c", "d"])
version = st.tuples(st.integers(1, 3), st.integers(0, 9))
change = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(names, version, min_size=1)),
    st.tuples(st.just("remove"), st.sets(names)),
    st.tuples(st.just("commit"), st.none()),
)
block = st.tuples(st.lists(change, max_size=5), st.booleans(), st.booleans())


class Abandoned(Exception):
    """Leaves a writer's block without its commit."""


def write(store: Store, changes: list, committed: dict, abandon: bool) -> dict:
    """Apply ``changes`` to the store; returns what a dictionary that starts as ``committed`` then holds."""
    state = dict(committed)
    with suppress(Abandoned), store.writer() as writer:
        for what, value in changes:
            if what == "add":
                batch = [
                    p for name, (count, content) in value.items() for p in passages(name, count, content)
                ]
                writer.add(
                    batch, vectors(batch), {name: str(content) for name, (_, content) in value.items()}
                )
                state |= value
            elif what == "remove":
                assert writer.remove(value) == sum(name in state for name in value)
                state = {name: held for name, held in state.items() if name not in value}
            else:
                writer.commit()
                committed = dict(state)
        if abandon:
            raise Abandoned
        committed = state
    return committed


def check(store: Store, state: dict) -> None:
    expected = {name: passages(name, count, content) for name, (count, content) in state.items()}
    snapshot = store.snapshot()
    held: dict = {}
    for i, passage in enumerate(store.passages(snapshot.rows)):
        vector = snapshot.segments[snapshot.segment_of[i]][snapshot.positions[i]]
        assert vector.tolist() == vectors([passage])[0].tolist()
        held.setdefault(passage.document_id, []).append(passage)
    assert held == expected
    assert store.document_hashes() == {name: str(content) for name, (_, content) in state.items()}
    assert set(store.bm25("part", 99).ids) == set(snapshot.rows.tolist())
    assert store.verify() == []
    files = {path.name for path in (store.path / "segments").iterdir()}
    assert len(files) == 2 * store.stats().segments


@settings(max_examples=40, deadline=None)
@given(st.lists(block, max_size=4))
def test_the_store_equals_a_dictionary(blocks: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "index", {})
        state: dict = {}
        for changes, abandon, reopen in blocks:
            state = write(store, changes, state, abandon)
            if reopen:
                store.close()
                store = Store.open(store.path)
            check(store, state)
        store.close()
