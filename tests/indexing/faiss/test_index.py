"""FaissIndex against exact search: every kind of index, filters, and a store that moves on."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing import exact as exact_module
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.faiss import index as faiss_index
from flatcoat.indexing.faiss import rows as dense_rows
from flatcoat.indexing.faiss.build import write_faiss
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.faiss.search import FaissSearch
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import Hits

from ..test_exact import tokens

COUNT, WIDTH, QUERIES = 3_000, 32, 40


def clustered(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Vectors around 60 centres, of lengths that differ."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((60, WIDTH))
    return (centres[random.integers(0, 60, count)] + 0.6 * random.standard_normal((count, WIDTH))).astype(
        "f4"
    )


VECTORS, ASKED = clustered(), clustered(QUERIES, seed=1)
IDS = [str(row) for row in range(COUNT)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """k-means of a few vectors mostly waits for the other thread, and graphs come out the same."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@cache
def index(factory: str) -> FaissIndex[str]:
    return FaissIndex.from_vectors(IDS, VECTORS, settings=FaissSettings(factory))


@cache
def exact(k: int) -> list[Hits[str]]:
    return ExactIndex.from_vectors(IDS, VECTORS).search(ASKED, k)


def recall(found: list[Hits[str]], k: int = 10) -> float:
    return float(np.mean([len({*a.ids} & {*b.ids}) / k for a, b in zip(found, exact(k), strict=True)]))


def assert_scores_are_inner_products(found: list[Hits[str]]) -> None:
    for query, hits in zip(ASKED, found, strict=True):
        rows = [int(id) for id in hits.ids]
        np.testing.assert_allclose(hits.scores, VECTORS[rows] @ query, rtol=1e-4, atol=1e-4)
        assert len(set(rows)) == len(rows)
        assert np.all(np.diff(hits.scores) <= 0)


def ask_faiss(patch: pytest.MonkeyPatch) -> None:
    """However few a filter leaves, FAISS looks for them."""
    patch.setattr(faiss_index, "_FEW", 0)
    patch.setattr(FaissSearch, "exact_up_to", lambda self, effort: 0)


@pytest.mark.parametrize("k", [1, 10, COUNT + 5])
def test_flat_equals_exact(k: int) -> None:
    found = index("Flat").search(ASKED, k)
    assert recall(found, min(k, COUNT)) == 1
    assert_scores_are_inner_products(found)


@pytest.mark.parametrize(
    ("factory", "least"),
    [
        ("HNSW32", 0.99),
        ("HNSW32_SQ8", 0.99),
        ("IVF16,Flat", 0.99),
        ("IVF16,SQ8", 0.99),
        ("IVF_HNSW16,SQ8", 0.98),
        ("SQ8", 0.999),
        ("PQ8x6", 0.99),
        ("PQ8x4fs", 0.98),
        ("OPQ2_16,IVF8,PQ8x4fs", 0.97),
        ("PCA16,IVF16,Flat", 0.97),
        ("IVF16,SQ8,RFlat", 0.99),
        ("IVF16,RQ2x4", 0.94),
        ("BFlat", 0.96),
        ("BHNSW32", 0.96),
        ("BIVF", 0.95),
    ],
)
def test_recall_of_each_kind(factory: str, least: float, capfd: pytest.CaptureFixture[str]) -> None:
    """And trained in silence, though on fewer vectors than FAISS likes."""
    found = index(factory).search(ASKED, 10)
    assert recall(found) >= least
    assert all(len(hits.ids) == 10 for hits in found)
    assert_scores_are_inner_products(found)
    many = index(factory).search(ASKED, COUNT + 5)
    assert all(len(hits.ids) == COUNT for hits in many)
    assert_scores_are_inner_products(many)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("factory", "option", "low", "high"),
    [
        ("IVF16,Flat", "n_probe", 1, 16),
        ("PCA16,IVF16,Flat", "n_probe", 1, 16),
        ("IVF16,SQ8,RFlat", "n_probe", 1, 16),
        ("IVF16,RQ2x4", "n_probe", 1, 16),
        ("BIVF", "n_probe", 1, 60),
        ("HNSW4", "ef_search", 1, 300),
        ("PCA16,HNSW4", "ef_search", 1, 300),
        ("BHNSW4", "ef_search", 1, 300),
        ("PQ8x4fs", "rescore", 1, 50),
        ("BFlat", "rescore", 1, 50),
    ],
)
def test_more_effort_finds_more(factory: str, option: str, low: int, high: int) -> None:
    def found(effort: int) -> float:
        return recall(index(factory).search(ASKED, 10, **{option: effort}))

    assert found(high) > found(low) + 0.02


def test_scores_of_faiss_itself() -> None:
    """Without rescoring they are off by what a byte cannot hold, and no more."""
    (plain, *_), (rescored, *_) = (index("SQ8").search(ASKED, 10, rescore=rescore) for rescore in (0, 4))
    assert plain.scores.tolist() != rescored.scores.tolist()
    np.testing.assert_allclose(plain.scores, rescored.scores, rtol=0.02)


# Of these, efforts that leave nothing out are exact; PQ and RQ take no selector.
THOROUGH = {
    "Flat": {},
    "IVF16,Flat": {"n_probe": 16},
    "PCA16,IVF16,SQ8": {"n_probe": 16, "rescore": COUNT},
    "PQ8x4fs": {"rescore": COUNT},
    "IVF16,RQ2x4": {"n_probe": 16, "rescore": COUNT},
    "BFlat": {"rescore": COUNT},
    "BIVF": {"n_probe": 100, "rescore": COUNT},
}


@pytest.mark.parametrize("factory", THOROUGH)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0, 0.001, 0.01, 0.2, 1]), k=st.integers(1, 12))
def test_filters_equal_exact_search_of_what_is_allowed(factory: str, seed: int, share: float, k: int) -> None:
    random = np.random.default_rng(seed)
    allowed = np.append(np.flatnonzero(random.random(COUNT) < share), [COUNT + 3, 1 << 40])
    expected = ExactIndex.from_vectors(IDS, VECTORS).search(ASKED[:4], k, allowed=allowed)
    with pytest.MonkeyPatch.context() as patch:
        ask_faiss(patch)
        found = index(factory).search(ASKED[:4], k, allowed=allowed, **THOROUGH[factory])
    assert [hits.ids for hits in found] == [hits.ids for hits in expected]


@pytest.mark.parametrize(
    "factory", ["HNSW16", "BHNSW32", "IVF,Flat", "IVF16,SQ8", "PQ8x4fs", "BFlat", "BIVF"]
)
@pytest.mark.parametrize("count", [5, 40, 400])
def test_a_filter_leaves_recall_as_it_is(factory: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With default effort, and of a corner of the space that is far from most queries."""
    ask_faiss(monkeypatch)
    far = np.argsort(VECTORS @ ASKED[0])[:count]
    expected = ExactIndex.from_vectors(IDS, VECTORS).search(ASKED, 10, allowed=far)
    found = index(factory).search(ASKED, 10, allowed=far)
    assert all(len(hits.ids) == min(10, count) for hits in found)
    shared = [len({*a.ids} & {*b.ids}) / len(b.ids) for a, b in zip(found, expected, strict=True)]
    assert np.mean(shared) >= 0.9


def test_few_allowed_are_scored_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaissSearch, "search", lambda *_, **__: pytest.fail("FAISS was asked"))
    expected = ExactIndex.from_vectors(IDS, VECTORS).search(ASKED, 7, allowed=np.arange(100, 300))
    found = index("BHNSW32").search(ASKED, 7, allowed=np.arange(100, 300))
    assert [hits.ids for hits in found] == [hits.ids for hits in expected]


def test_lists_that_hold_too_few_are_not_the_end() -> None:
    found = index("IVF16,Flat").search(ASKED, 1_000, n_probe=1)
    assert [hits.ids for hits in found] == [hits.ids for hits in exact(1_000)]


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,SQ8", "BFlat"])
def test_cosine_of_vectors_of_any_length(factory: str) -> None:
    random = np.random.default_rng(4)
    vectors = VECTORS * random.choice([1e-3, 1.0, 1e3], (COUNT, 1)).astype("f4")
    vectors[7] = 0
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    unit[7] = 0
    unit_asked = ASKED / np.linalg.norm(ASKED, axis=1, keepdims=True)
    found = FaissIndex.from_vectors(IDS, vectors, settings=FaissSettings(factory, "cosine")).search(
        ASKED * 50, 10
    )
    expected = ExactIndex.from_vectors(IDS, unit).search(unit_asked, 10)
    assert np.mean([len({*a.ids} & {*b.ids}) for a, b in zip(found, expected, strict=True)]) >= 9
    for query, hits in zip(unit_asked, found, strict=True):
        np.testing.assert_allclose(hits.scores, unit[[int(id) for id in hits.ids]] @ query, atol=1e-5)
    (nothing,) = index("Flat").search(np.zeros((1, WIDTH), np.float32), 3)
    assert nothing.scores.tolist() == [0, 0, 0]


def test_unit_length_of_what_float32_cannot_square() -> None:
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32)
    np.testing.assert_allclose(exact_module.unit_length(vectors), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


# What a store does while a FAISS file stays as it is.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "my.index", {"model": "m"}) as store:
        add(store, 0, 1_200)
        add(store, 1_200, 2_500)
        yield store


def add(store: Store, first: int, last: int, version: int = 0) -> None:
    passages = [Passage(f"d{row}", f"version {version} of {row}") for row in range(first, last)]
    with store.writer() as writer:
        writer.add(passages, VECTORS[first:last] * (1 - 2 * version))


def assert_like_exact(index: FaissIndex[int], snapshot: Snapshot, least: float) -> None:
    for allowed in (None, snapshot.rows[::3], snapshot.rows[-40:], np.zeros(0, np.int64)):
        expected = ExactIndex.from_snapshot(snapshot).search(ASKED, 10, allowed=allowed)
        found = index.search(ASKED, 10, allowed=allowed)
        assert [len(hits.ids) for hits in found] == [len(hits.ids) for hits in expected]
        shared = [
            len({*a.ids} & {*b.ids}) / len(b.ids) for a, b in zip(found, expected, strict=True) if b.ids
        ]
        assert np.mean(shared or [1]) >= least
        for a, b in zip(found, expected, strict=True):
            scores = dict(zip(b.ids, b.scores, strict=True))
            np.testing.assert_allclose(
                [score for id, score in zip(a.ids, a.scores, strict=True) if id in scores],
                [scores[id] for id in a.ids if id in scores],
                rtol=1e-4,
                atol=1e-4,
            )


@pytest.mark.parametrize("kept", [1 << 27, 0])
@pytest.mark.parametrize(
    ("factory", "least"),
    [("Flat", 1), ("HNSW16", 0.98), ("IVF,SQ8", 0.95), ("PQ8x4fs", 0.9), ("BHNSW32", 0.95)],
)
def test_a_store_moves_on(
    store: Store, factory: str, least: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_index, "_KEPT", kept)
    wanted, path = FaissSettings(factory), store.path / "here.faiss"
    write_faiss(path, store.snapshot(), settings=wanted)
    fresh = FaissIndex.from_snapshot(store.snapshot(), path, settings=wanted)
    assert_like_exact(fresh, store.snapshot(), least)
    assert (len(fresh), fresh.width) == (2_500, WIDTH)
    assert (fresh.tail_fraction, fresh.removed_fraction) == (0, 0)

    add(store, 2_500, 2_800)
    with store.writer() as writer:
        writer.remove(f"d{row}" for row in range(0, 2_500, 5))
    add(store, 1, 101, version=1)
    snapshot = store.snapshot()
    moved = FaissIndex.from_snapshot(snapshot, path, settings=wanted)
    assert_like_exact(moved, snapshot, least)
    assert len(moved) == len(snapshot) == 2_500 - 500 + 300 + 20
    assert moved.tail_fraction == pytest.approx(400 / len(moved))
    assert moved.removed_fraction == pytest.approx((500 + 80) / 2_500)


def test_everything_was_removed(store: Store) -> None:
    path = store.path / "here.faiss"
    write_faiss(path, store.snapshot(), settings=FaissSettings())
    with store.writer() as writer:
        writer.remove(f"d{row}" for row in range(2_500))
    index = FaissIndex.from_snapshot(store.snapshot(), path, settings=FaissSettings())
    assert [hits.ids for hits in index.search(ASKED, 5)] == [[]] * QUERIES
    add(store, 0, 3)
    index = FaissIndex.from_snapshot(store.snapshot(), path, settings=FaissSettings())
    assert_like_exact(index, store.snapshot(), 1)


def test_the_file_is_mapped_and_outlives_its_name(store: Store) -> None:
    path = store.path / "here.faiss"
    write_faiss(path, store.snapshot(), settings=FaissSettings("IVF,SQ8"))
    index = FaissIndex.from_snapshot(store.snapshot(), path, settings=FaissSettings("IVF,SQ8"))
    assert str(path) in Path("/proc/self/maps").read_text()
    path.unlink()
    assert_like_exact(index, store.snapshot(), 0.95)


def test_blocks_of_vectors_make_the_same_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, blocks = store.path / "whole.faiss", store.path / "blocks.faiss"
    write_faiss(whole, store.snapshot(), settings=FaissSettings("SQ8"))
    monkeypatch.setattr(dense_rows, "_BLOCK", 100 * WIDTH)
    write_faiss(blocks, store.snapshot(), settings=FaissSettings("SQ8"))
    assert whole.read_bytes() == blocks.read_bytes()
    with pytest.raises(FileExistsError):
        write_faiss(whole, store.snapshot(), settings=FaissSettings("SQ8"))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 40),
    k=st.integers(1, 8),
    block=st.sampled_from([1, 7, 99]),
)
def test_rows_across_segments_equal_a_plain_loop(seed: int, count: int, k: int, block: int) -> None:
    random = np.random.default_rng(seed)
    segments = tuple(random.integers(-3, 4, (size, 4)).astype(np.float16) for size in (5, 0, 12, 3))
    places = [
        (s, p) for s, segment in enumerate(segments) for p in range(len(segment)) if random.random() < 0.8
    ]
    table = np.array(places, np.int64).reshape(-1, 2)
    rows = dense_rows.DenseRows(Snapshot(segments, np.arange(len(table)), table[:, 0], table[:, 1]), False)
    positions = np.unique(random.integers(0, len(table), count)) if len(table) else np.zeros(0, np.int64)
    plain = np.array([segments[places[i][0]][places[i][1]] for i in positions]).reshape(-1, 4)
    assert np.array_equal(rows[positions], plain)
    query = random.integers(-3, 4, (1, 4)).astype(np.float32)
    ranked = sorted(
        zip((plain @ query[0]).tolist(), positions.tolist(), strict=True), key=lambda x: (-x[0], x[1])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_rows, "_BLOCK", block * 4)
        (hits,) = rows.nearest(query, k, positions=positions)
    assert list(zip(hits.scores.tolist(), hits.ids, strict=True)) == ranked[:k]


# What is refused.


@pytest.mark.parametrize(
    ("factory", "width", "message"),
    [
        ("HNSV32", 32, "'HNSV32' does not suit .*could not parse.* choose for example HNSW32"),
        ("", 32, "could not parse"),
        ("BFlut", 32, "'BFlut'"),
        ("IVF16,PQ7", 32, "'IVF16,PQ7' does not suit vectors of width 32"),
        ("BFlat", 36, "'BFlat' does not suit vectors of width 36"),
        ("LSH", 32, "L2"),
        ("HNSW32_PQ8", 32, "Euclidean"),
        ("IDMap,Flat", 32, "leave IDMap out"),
    ],
)
def test_bad_factories(factory: str, width: int, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        FaissSettings(factory).validate(width)
    with pytest.raises(FlatcoatError, match=message):
        FaissIndex.from_vectors(["a"], np.ones((1, width), np.float32), settings=FaissSettings(factory))


def test_bad_metric() -> None:
    with pytest.raises(FlatcoatError, match="metric is 'l2': ip or cosine"):
        FaissSettings("Flat", "l2").validate(8)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("factory", ["IVF64,Flat", "PQ8np", "BIVF64"])
def test_too_few_vectors(factory: str) -> None:
    with pytest.raises(FlatcoatError, match=f"cannot make '{factory}' of 50 vectors .*50.* choose fewer"):
        FaissIndex.from_vectors(IDS[:50], VECTORS[:50], settings=FaissSettings(factory))


@pytest.mark.parametrize("factory", ["IVF,Flat", "IVF,SQ8", "BIVF"])
@pytest.mark.parametrize("count", [1, 20, 260])
def test_few_vectors_get_few_lists(factory: str, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    small = FaissIndex.from_vectors(IDS[:count], VECTORS[:count], settings=FaissSettings(factory))
    assert len(small.search(ASKED, 1)[0].ids) == 1
    assert capfd.readouterr() == ("", "")


def test_an_empty_index() -> None:
    index = FaissIndex.from_vectors([], np.zeros((0, 8), np.float32), settings=FaissSettings("IVF,SQ8"))
    assert (len(index), index.width, index.tail_fraction, index.removed_fraction) == (0, 8, 0, 1)
    assert [hits.ids for hits in index.search(np.eye(8, dtype=np.float32), 3)] == [[]] * 8


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="add passages first"):
        write_faiss(tmp_path / "x", Snapshot((), *np.zeros((3, 0), np.int64)), settings=FaissSettings())


def test_numbers_and_vectors_are_checked() -> None:
    for option in ("n_probe", "ef_search"):
        with pytest.raises(FlatcoatError, match=f"{option} is 0"):
            index("Flat").search(ASKED, 1, **{option: 0})
    with pytest.raises(FlatcoatError, match="rescore is 0: at least 1"):
        index("BFlat").search(ASKED, 1, rescore=0)
    with pytest.raises(FlatcoatError, match="NaN"):
        FaissIndex.from_vectors(["a"], np.full((1, 8), np.nan, np.float32), settings=FaissSettings())


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,SQ8", "BFlat"])
def test_a_file_that_is_missing_or_cut(factory: str, tmp_path: Path) -> None:
    rows = np.arange(400)
    snapshot = Snapshot((VECTORS[:400],), rows, np.zeros_like(rows), rows)
    path, cut = tmp_path / "whole", tmp_path / "cut"
    write_faiss(path, snapshot, settings=FaissSettings(factory))
    data = path.read_bytes()
    for length in (0, 1, 15, 16, 30, len(data) // 2, len(data) - 17, len(data) - 16, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(FlatcoatError, match="cut short"):
            FaissIndex.from_snapshot(snapshot, cut, settings=FaissSettings(factory))
    with pytest.raises(FlatcoatError, match="nowhere cannot be opened"):
        FaissIndex.from_snapshot(snapshot, tmp_path / "nowhere", settings=FaissSettings(factory))
    other = "Flat" if factory.startswith("B") else "BFlat"
    with pytest.raises(FlatcoatError, match=f"cannot be read as factory '{other}'"):
        FaissIndex.from_snapshot(snapshot, path, settings=FaissSettings(other))


def test_vectors_of_another_shape(tmp_path: Path) -> None:
    row = np.zeros(1, np.int64)
    write_faiss(tmp_path / "x", Snapshot((VECTORS[:1],), row, row, row), settings=FaissSettings())
    narrow = Snapshot((VECTORS[:1, :8],), row, row, row)
    with pytest.raises(FlatcoatError, match="has width 32, the vectors 8"):
        FaissIndex.from_snapshot(narrow, tmp_path / "x", settings=FaissSettings())
    with pytest.raises(FlatcoatError, match="token vectors"):
        write_faiss(tmp_path / "y", Snapshot((tokens(0, [2]),), row, row, row), settings=FaissSettings())
