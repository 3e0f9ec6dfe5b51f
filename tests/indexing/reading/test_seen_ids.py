from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.reading.seen_ids import SeenIds


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)))
def test_a_set_of_texts(ids: list[str]) -> None:
    seen, expected = SeenIds(), set()
    for id in ids:
        assert (id in seen) == (id in expected)
        assert seen.add(id) == (id not in expected)
        expected.add(id)
