"""What every engine keeps, through the seam that callers use: VectorIndex, from a store or made in memory.

Corpora are so small that each engine finds all of the best by default, so that brute force in NumPy says what
is right: of the decoded vectors where an engine codes them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import Hits, TokenVectors, VectorIndex, Vectors

from .corpus import held

WIDTH = 24
Make = Callable[[list[str], Any, EngineSettings], VectorIndex[str]]


def exactly(ids: list[str], vectors: Vectors, wanted: EngineSettings) -> VectorIndex[str]:
    return ExactIndex.from_vectors(ids, vectors, metric=wanted.metric)


def by_plaid(ids: list[str], vectors: TokenVectors, wanted: EngineSettings) -> VectorIndex[str]:
    return PlaidIndex.from_vectors(ids, vectors, bits=wanted.bits)


def by_faiss(ids: list[str], vectors: np.ndarray, wanted: EngineSettings) -> VectorIndex[str]:
    return FaissIndex.from_vectors(ids, vectors, settings=wanted.faiss())


class Engine(NamedTuple):
    kind: Literal["dense", "token"]
    settings: EngineSettings
    make: Make
    """The index in memory."""

    @property
    def is_cosine(self) -> bool:
        return self.settings.metric == "cosine"


ENGINES = {
    "exact dense": Engine("dense", EngineSettings("exact"), exactly),
    "exact dense cosine": Engine("dense", EngineSettings("exact", metric="cosine"), exactly),
    "exact token": Engine("token", EngineSettings("exact"), exactly),
    **{
        f"plaid {bits} bits": Engine("token", EngineSettings("plaid", bits=bits), by_plaid)
        for bits in (1, 2, 4)
    },
    **{
        f"faiss {factory} {metric}": Engine(
            "dense", EngineSettings("faiss", factory=factory, metric=metric), by_faiss
        )
        for factory in ("Flat", "HNSW16", "IVF,Flat")
        for metric in ("ip", "cosine")
    },
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Graphs that several threads build differ a little."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def texts(engine: Engine, contents: list[int]) -> Vectors:
    """The vectors of texts, equal numbers being equal texts, of 0 to 5 tokens (7, 17 and so on have none)."""
    matrices = []
    for content in contents:
        random = np.random.default_rng(content)
        size = 1 if engine.kind == "dense" else 0 if content % 10 == 7 else int(random.integers(1, 6))
        values = random.standard_normal((size, WIDTH))
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        matrices.append((values * random.uniform(0.5, 1)).astype(np.float32))
    if engine.kind == "token":
        return TokenVectors.from_list(matrices, WIDTH)
    return np.concatenate([np.zeros((0, WIDTH), np.float32), *matrices])


def queries(engine: Engine, count: int, seed: int = 0) -> Vectors:
    """Of 1 to 40 tokens: some fill more than one panel of PLAID's."""
    random = np.random.default_rng(1_000 + seed)
    sizes = random.integers(1, 41, count) if engine.kind == "token" else np.ones(count, int)
    values = random.standard_normal((sizes.sum(), WIDTH)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values, np.append(0, np.cumsum(sizes))) if engine.kind == "token" else values


def alone(asked: Vectors, query: int) -> Vectors:
    return TokenVectors.from_list([asked[query]]) if isinstance(asked, TokenVectors) else asked[[query]]


def in_memory(engine: Engine, contents: list[int]) -> VectorIndex[str]:
    return engine.make([str(row) for row in range(len(contents))], texts(engine, contents), engine.settings)


def answers(found: list[Hits[Any]]) -> list[tuple[list[Any], bytes]]:
    """For comparison to the bit."""
    return [(hits.ids, hits.scores.tobytes()) for hits in found]


def brute_force(engine: Engine, query: np.ndarray, passages: dict[int, np.ndarray]) -> dict[int, float]:
    """The definition: the score of each passage that has a token, by its row, in float64."""

    def prepared(values: np.ndarray) -> np.ndarray:
        values = np.atleast_2d(values).astype(np.float64)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        return values / np.where(lengths == 0, 1, lengths) if engine.is_cosine else values

    query = prepared(query)
    return {
        row: float((query @ prepared(passage).T).max(axis=1).sum())
        for row, passage in passages.items()
        if passage.size and query.size
    }


def assert_best(
    engine: Engine, found: list[Hits[int]], asked: Vectors, passages: dict[int, np.ndarray], k: int
) -> None:
    """The hits are the k best of ``passages``, their scores right, equals by rising row."""
    assert len(found) == len(asked)
    for hits, query in zip(found, asked, strict=True):
        near = 1e-5 + (_rounding(query, passages) if engine.settings.name == "plaid" else 0)
        wanted = brute_force(engine, query, passages)
        assert len(hits.ids) == len(set(hits.ids)) == min(k, len(wanted))
        assert hits.scores.dtype == np.float32
        assert hits.scores == pytest.approx([wanted[row] for row in hits.ids], abs=near)
        assert np.lexsort((np.array(hits.ids), -hits.scores)).tolist() == list(range(len(hits.ids)))
        left_out = [score for row, score in wanted.items() if row not in hits.ids]
        if left_out and hits.ids:
            assert max(left_out) <= hits.scores[-1] + 2 * near


def _rounding(query_QD: np.ndarray, passages: dict[int, np.ndarray]) -> float:
    """How far a score may be off as PLAID keeps the components of each query token in bytes."""
    lengths = (np.abs(passage).sum(axis=-1).max() for passage in passages.values() if passage.size)
    return float(np.abs(query_QD).max(axis=-1, initial=0).sum() / 254 * max(lengths, default=0))


def stored(snapshot: Snapshot) -> dict[int, np.ndarray]:
    """What a snapshot keeps of its vectors, by row."""
    return dict(zip(snapshot.rows.tolist(), held(snapshot), strict=True))


def kept(engine: Engine, index: Any, contents: list[int]) -> dict[int, np.ndarray]:
    """What an index in memory keeps of its vectors, by row."""
    return stored(index._snapshot) if engine.make is by_plaid else dict(enumerate(texts(engine, contents)))


def by_row(found: list[Hits[str]]) -> list[Hits[int]]:
    return [Hits([int(id) for id in hits.ids], hits.scores) for hits in found]


# Search in memory.


@settings(max_examples=25, deadline=None)
@given(
    contents=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    asked=st.integers(1, 6),
    k=st.integers(1, 70),
    allowed=st.none() | st.sets(st.integers(-3, 70)),
)
@pytest.mark.parametrize("name", ENGINES)
def test_an_index_equals_brute_force(
    name: str, contents: list[int], asked: int, k: int, allowed: set[int] | None
) -> None:
    engine = ENGINES[name]
    if engine.make is by_plaid and all(content % 10 == 7 for content in contents):
        contents = [*contents, 1]  # A codec needs a token.
    index = in_memory(engine, contents)
    rows = None if allowed is None else np.array(list(allowed), np.int64)
    passages = kept(engine, index, contents)
    if allowed is not None:
        passages = {row: passage for row, passage in passages.items() if row in allowed}
    asks = queries(engine, asked, seed=len(contents))
    assert_best(engine, by_row(index.search(asks, k, allowed=rows)), asks, passages, k)


def test_a_filter_that_matches_nothing_finds_nothing(engine: Engine) -> None:
    index, asked = in_memory(engine, list(range(6))), queries(engine, 3)
    for rows in ([], [99, -1, 1 << 62]):
        assert answers(index.search(asked, 5, allowed=np.array(rows, np.int64))) == [([], b"")] * 3


@pytest.mark.parametrize("step", [1, 2, 30])
def test_a_filter_acts_as_if_the_rest_did_not_exist(engine: Engine, step: int) -> None:
    contents = [content for content in range(80) if content % 10 != 7]
    index, asked = in_memory(engine, contents), queries(engine, 5)
    rows = np.arange(0, len(contents), step)
    for k in (3, 100):
        found = by_row(index.search(asked, k, allowed=rows))
        passages = {row: kept(engine, index, contents)[row] for row in rows.tolist()}
        assert_best(engine, found, asked, passages, k)
        shuffled = np.random.default_rng(0).permutation(np.append(rows, rows))
        assert answers(by_row(index.search(asked, k, allowed=shuffled))) == answers(found)


def test_equals_keep_the_order_in_which_they_were_added(engine: Engine) -> None:
    index, asked = in_memory(engine, [3] * 50), queries(engine, 4)
    for k in (1, 7, 50, 99):
        for hits in index.search(asked, k):
            assert hits.ids == [str(row) for row in range(min(k, 50))]
            assert len(set(hits.scores.tolist())) == 1
    (hits, *_) = index.search(asked, 3, allowed=np.array([40, 9, 31, 20]))
    assert hits.ids == ["9", "20", "31"]


def test_a_batch_finds_what_single_queries_find(engine: Engine) -> None:
    index, asked = in_memory(engine, list(range(60))), queries(engine, 20)
    singles = [index.search(alone(asked, query), 9)[0] for query in range(20)]
    assert answers(index.search(asked, 9)) == answers(singles)


def test_numbers_of_results(engine: Engine) -> None:
    index, asked = in_memory(engine, list(range(6))), queries(engine, 2)
    for k in (0, -3):
        with pytest.raises(FlatcoatError, match=f"k is {k}: at least 1 is needed"):
            index.search(asked, k)
    for k in (1.5, "3", None):
        with pytest.raises(FlatcoatError, match="a whole number is needed"):
            index.search(asked, k)  # pyright: ignore[reportArgumentType]
    for k in (6, 7, 10**9, 1 << 70, np.int64(7)):
        assert [len(hits.ids) for hits in index.search(asked, int(k))] == [6, 6]


def first_component(value: float, dtype: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(dtype)
        values[0, 0] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_component(np.nan), "NaN, infinity or a number beyond float16"),
        (first_component(-np.inf, np.float16), "NaN, infinity"),
        (first_component(1e38), "beyond float16"),
        (first_component(1e300, np.float64), "beyond float16"),
        (lambda values: values.astype(np.int64), "int64"),
        (lambda values: values.astype(bool), "bool"),
        (lambda values: values.astype(object), "object"),
        (lambda values: values.astype(np.complex64), "complex64"),
        (lambda values: values[:, :-1], "query width 23 != index width 24: encode both with"),
    ],
)
def test_queries_that_cannot_be_searched_for(engine: Engine, change, message: str) -> None:
    values = change(np.ones((2, WIDTH), np.float32))
    asked = TokenVectors(values, np.array([0, 2])) if engine.kind == "token" else values
    with pytest.raises(FlatcoatError, match=message):
        in_memory(engine, list(range(6))).search(asked, 3)


def test_queries_of_another_kind(engine: Engine) -> None:
    index = in_memory(engine, list(range(6)))
    values = np.ones((2, WIDTH), np.float32)
    if engine.kind == "token":
        with pytest.raises(FlatcoatError, match="query vectors are dense, index vectors are token"):
            index.search(values, 3)
    else:
        with pytest.raises(FlatcoatError, match="query vectors are token, index vectors are dense"):
            index.search(TokenVectors(values, np.array([0, 2])), 3)
        with pytest.raises(FlatcoatError, match="two axes"):
            index.search(values[0], 3)
    with pytest.raises(FlatcoatError, match="a numpy array"):
        index.search([[0.0] * WIDTH], 3)  # pyright: ignore[reportArgumentType]


def test_ids_are_one_for_each(engine: Engine) -> None:
    with pytest.raises(FlatcoatError, match="3 ids for 2 vectors: one id per vector is needed"):
        engine.make(["a", "b", "c"], texts(engine, [1, 2]), engine.settings)
    index = engine.make(["b", "a"], texts(engine, [1, 2]), engine.settings)
    assert (len(index), index.width) == (2, WIDTH)
    assert {id for hits in index.search(queries(engine, 3), 5) for id in hits.ids} == {"a", "b"}


def test_queries_that_find_nothing(engine: Engine) -> None:
    index = in_memory(engine, list(range(6)))
    assert index.search(queries(engine, 0), 3) == []
    if engine.kind == "token":
        empty = TokenVectors(np.zeros((0, WIDTH), np.float16), np.array([0, 0, 0]))
        assert [hits.ids for hits in index.search(empty, 3)] == [[], []]
        some = TokenVectors(np.ones((2, WIDTH), np.float32), np.array([0, 0, 2, 2]))
        assert [len(hits.ids) for hits in index.search(some, 3)] == [0, 3, 0]


@pytest.mark.parametrize("name", [name for name, engine in ENGINES.items() if engine.kind == "token"])
def test_passages_without_tokens_are_never_found(name: str) -> None:
    engine, contents = ENGINES[name], [7, 1, 17, 2, 27]
    index, asked = in_memory(engine, contents), queries(engine, 3)
    assert [{*hits.ids} for hits in index.search(asked, 9)] == [{"1", "3"}] * 3
    assert [hits.ids for hits in index.search(asked, 9, allowed=np.array([0, 2, 3]))] == [["3"]] * 3


def test_a_query_of_zeros_finds_the_first_ones(engine: Engine) -> None:
    zeros = np.zeros((1, WIDTH), np.float32)
    asked = TokenVectors(zeros, np.array([0, 1])) if engine.kind == "token" else zeros
    (hits,) = in_memory(engine, list(range(6))).search(asked, 3)
    assert (hits.ids, hits.scores.tolist()) == (["0", "1", "2"], [0, 0, 0])


def test_a_recall_is_met_or_refused(engine: Engine) -> None:
    index, asked = in_memory(engine, list(range(30))), queries(engine, 3)
    if engine.make is by_faiss:
        with pytest.raises(FlatcoatError, match="search without one, or make the index with engine 'exact'"):
            index.search(asked, 3, recall=0.9)
    else:
        assert answers(index.search(asked, 3, recall=1.0)) == answers(index.search(asked, 3))


# In a store, which changes.


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index", {}, engine=engine.settings) as store:
        yield store


def add(store: Store, engine: Engine, contents: dict[int, int]) -> None:
    """Documents by number, each one passage of that content."""
    passages = [Passage(f"d{document}", f"text {content}") for document, content in contents.items()]
    with store.writer() as writer:
        writer.add(passages, texts(engine, list(contents.values())))


def remove(store: Store, documents: range) -> None:
    with store.writer() as writer:
        writer.remove(f"d{document}" for document in documents)


def assert_sound(store: Store, engine: Engine, contents: dict[int, int]) -> list[tuple[list[Any], bytes]]:
    """The index holds these documents, and answers as brute force would; returns its answers."""
    index, snapshot, asked = store.index(), store.snapshot(), queries(engine, 9)
    texts_of = {passage.document_id: passage.text for passage in store.passages(snapshot.rows)}
    assert texts_of == {f"d{document}": f"text {content}" for document, content in contents.items()}
    assert (len(index), index.width) == (len(contents), WIDTH)
    given = []
    for rows in (None, snapshot.rows[::2], snapshot.rows[-2:], np.zeros(0, np.int64)):
        passages = stored(snapshot)
        if rows is not None:
            passages = {row: passages[row] for row in rows.tolist()}
        for k in (1, 8, 500):
            found = index.search(asked, k, allowed=rows)
            assert_best(engine, found, asked, passages, k)
            given += answers(found)
    return given


def test_an_index_without_passages(engine: Engine, store: Store) -> None:
    index = store.index()
    assert (len(index), index.width) == (0, 0)
    assert answers(index.search(queries(engine, 2), 3)) == [([], b"")] * 2
    with pytest.raises(FlatcoatError, match="k is 0"):
        index.search(queries(engine, 2), 0)


def test_an_index_whose_passages_were_all_removed(engine: Engine, store: Store) -> None:
    add(store, engine, {document: document for document in range(50)})
    store.compact()
    remove(store, range(50))
    for _ in range(2):
        assert len(store.index()) == 0
        assert answers(store.index().search(queries(engine, 2), 3)) == [([], b"")] * 2
        store.compact()
    add(store, engine, {3: 1, 4: 2})
    assert_sound(store, engine, {3: 1, 4: 2})


@pytest.mark.parametrize("seed", range(2))
def test_a_store_that_changes_equals_brute_force(
    engine: Engine, store: Store, tmp_path: Path, seed: int
) -> None:
    """Added, removed, replaced, compacted; at each step, and once more to the bit when it is opened again."""
    random = np.random.default_rng(seed)
    contents = {document: int(random.integers(0, 25)) for document in range(90)}
    for first in (0, 30, 60):
        add(store, engine, {document: contents[document] for document in range(first, first + 30)})
    assert_sound(store, engine, contents)
    store.compact()
    assert store.stats().engine == engine.settings.name
    assert_sound(store, engine, contents)
    gone = range(seed, 90, 4)
    remove(store, gone)
    contents = {document: content for document, content in contents.items() if document not in gone}
    changed = {document: int(random.integers(25, 50)) for document in [*range(seed, 20, 4), *range(40, 47)]}
    add(store, engine, changed)
    contents |= changed
    before = assert_sound(store, engine, contents)
    with Store.open(tmp_path / "index") as again:
        assert assert_sound(again, engine, contents) == before
        again.compact(full=False)
        assert_sound(again, engine, contents)
        again.compact()
        after = assert_sound(again, engine, contents)
        assert again.stats().segments == 1
    assert assert_sound(store, engine, contents) == after


def test_several_segments_answer_as_one(engine: Engine, tmp_path: Path) -> None:
    given = []
    for cuts in ([(60, 100)], [(60, 61), (61, 80), (80, 100)]):
        with Store.create(tmp_path / f"{len(cuts)}", {}, engine=engine.settings) as store:
            add(store, engine, {document: document % 40 for document in range(60)})
            store.compact()
            for first, last in cuts:
                add(store, engine, {document: document % 40 for document in range(first, last)})
            assert store.stats().segments == 1 + len(cuts)
            given.append(assert_sound(store, engine, {document: document % 40 for document in range(100)}))
    assert given[0] == given[1]
