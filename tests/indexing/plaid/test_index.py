"""PLAID against exact search: of its own decoded vectors to rounding, of the originals to a stated recall."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.plaid import index as plaid
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.vectors import CodedTokens, Hits, TokenVectors

PASSAGES = 700


def texts(count: int, tokens: int, seed: int, width: int = 64) -> TokenVectors:
    """Unit token vectors around 40 centres; a text has a few of them, and one in ten texts has no tokens."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, width))
    matrices = []
    for text in range(count):
        size = 0 if text % 10 == 7 else int(random.integers(1, 2 * tokens))
        values = centres[random.choice(random.choice(40, 5), size)] + random.standard_normal((size, width))
        matrices.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9))
    return TokenVectors.from_list([matrix.astype(np.float32) for matrix in matrices], width)


def ids(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


VECTORS = texts(PASSAGES, 30, 0)
QUERIES = texts(24, 16, 5)
EXACT = ExactIndex.from_vectors(ids(PASSAGES), VECTORS)


@pytest.fixture(scope="module")
def index() -> PlaidIndex[str]:
    return PlaidIndex.from_vectors(ids(PASSAGES), VECTORS)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> PlaidIndex[str]:
    """As a large collection is searched: by inverted lists, in two segments."""
    monkeypatch.setattr(plaid, "_SCANNED_TOKENS", 0)
    monkeypatch.setattr(plaid, "LISTS_FROM_TOKENS", 0)
    monkeypatch.setattr(plaid, "MOST_PASSAGES", 400)
    monkeypatch.setattr(plaid, "_LISTED", 3)
    return PlaidIndex.from_vectors(ids(PASSAGES), VECTORS)


def recall(found: list[Hits[str]], wanted: list[Hits[str]]) -> float:
    pairs = [(set(a.ids), set(b.ids)) for a, b in zip(found, wanted, strict=True) if b.ids]
    return float(np.mean([len(a & b) / len(b) for a, b in pairs]))


def decoded(index: PlaidIndex[str]) -> TokenVectors:
    snapshot = index._snapshot
    parts = [index._codec.decode(segment.tokens) for segment in snapshot.segments]
    return TokenVectors.from_list([matrix for part in parts for matrix in part])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_all_candidates_are_scored_as_their_decoded_vectors(bits: int) -> None:
    index = PlaidIndex.from_vectors(ids(PASSAGES), VECTORS, bits=bits)
    exact = ExactIndex.from_vectors(ids(PASSAGES), decoded(index))
    for query in QUERIES:
        (hits,) = index.search(one(query), PASSAGES, n_candidates=PASSAGES)
        (wanted,) = exact.search(one(query), PASSAGES)
        scores = dict(zip(wanted.ids, wanted.scores, strict=True))
        assert set(hits.ids) == set(wanted.ids)
        assert np.all(np.diff(hits.scores) <= 0)
        assert hits.scores == pytest.approx([scores[id] for id in hits.ids], abs=0.002 * len(query) + 1e-6)


@pytest.mark.parametrize(("bits", "wanted"), [(4, 0.95), (2, 0.85)])
def test_recall_of_the_original_vectors(bits: int, wanted: float) -> None:
    index = PlaidIndex.from_vectors(ids(PASSAGES), VECTORS, bits=bits)
    assert recall(index.search(QUERIES, 10), EXACT.search(QUERIES, 10)) > wanted


def test_lists_find_what_a_scan_finds(index: PlaidIndex[str], listed: PlaidIndex[str]) -> None:
    assert len(listed._parts) == 2
    found = listed.search(QUERIES, 10, n_candidates=60)
    assert recall(found, index.search(QUERIES, 10, n_candidates=60)) > 0.9
    assert recall(found, EXACT.search(QUERIES, 10)) > 0.9


def test_more_probes_and_candidates_find_more(listed: PlaidIndex[str]) -> None:
    exact = EXACT.search(QUERIES, 10)
    hasty = listed.search(QUERIES, 10, n_probe=1, n_candidates=10)
    assert recall(hasty, exact) < recall(listed.search(QUERIES, 10, n_probe=8, n_candidates=100), exact)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, PASSAGES - 1), max_size=40), st.integers(0, 23))
def test_a_filter_acts_as_if_the_rest_did_not_exist(
    index: PlaidIndex[str], rows: set[int], query: int
) -> None:
    allowed = np.array(sorted(rows), np.int64)
    (hits,) = index.search(one(QUERIES[query]), 50, allowed=allowed)
    (wanted,) = EXACT.search(one(QUERIES[query]), 50, allowed=allowed)
    assert set(hits.ids) == set(wanted.ids)


def test_a_filter_under_lists(listed: PlaidIndex[str]) -> None:
    allowed = np.arange(0, PASSAGES, 3)
    found = listed.search(QUERIES, 10, allowed=allowed, n_candidates=60)
    assert all(int(id[1:]) % 3 == 0 for hits in found for id in hits.ids)
    assert recall(found, EXACT.search(QUERIES, 10, allowed=allowed)) > 0.9


def test_threads_may_share_an_index(index: PlaidIndex[str]) -> None:
    wanted = [hits.ids for hits in index.search(QUERIES, 5)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: index.search(one(QUERIES[i % 24]), 5)[0].ids, range(96)))
    assert found == wanted * 4


def test_a_long_query(index: PlaidIndex[str]) -> None:
    long = texts(5, 150, 9)
    assert long.offsets[1] > 64
    assert recall(index.search(long, 10), EXACT.search(long, 10)) > 0.9


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_texts_are_all_found(count: int) -> None:
    few = texts(count, 4, 3)
    (hits,) = PlaidIndex.from_vectors(ids(count), few).search(one(QUERIES[0]), 100)
    assert set(hits.ids) == {f"p{i}" for i in range(count) if len(few[i])}


def test_numbers_of_candidates_are_checked(index: PlaidIndex[str]) -> None:
    for option in ("n_candidates", "n_probe"):
        for value in (0, -1):
            with pytest.raises(FlatcoatError, match=f"{option} is {value}: at least 1 is needed"):
                index.search(one(QUERIES[0]), 5, **{option: value})


def test_bytes_are_those_of_the_codes(index: PlaidIndex[str]) -> None:
    tokens = len(VECTORS.values_TD)
    assert index.bytes == tokens * (32 + 2 + 2) + 8 * (PASSAGES + 1) + len(index._codec.centroids_KP) * 64


@pytest.mark.parametrize("damaged", ["codes", "offsets", "lists", "list_offsets"])
def test_a_damaged_segment_is_refused(listed: PlaidIndex[str], damaged: str) -> None:
    segment = listed._snapshot.segments[0]
    tokens, lists, ends = segment.tokens, segment.lists.copy(), segment.list_offsets.copy()
    arrays = {
        "codes": tokens.codes_T.copy(),
        "offsets": tokens.offsets.copy(),
        "lists": lists,
        "list_offsets": ends,
    }
    arrays[damaged][3] = np.iinfo(arrays[damaged].dtype).max
    coded = CodedTokens(arrays["codes"], tokens.residuals_TB, tokens.scales_T2, arrays["offsets"])
    snapshot = replace(listed._snapshot, segments=(CodedSegment(coded, lists, ends),))
    with pytest.raises(FlatcoatError, match="damaged: verify the index"):
        PlaidIndex.from_snapshot(snapshot)


def one(query: np.ndarray) -> TokenVectors:
    return TokenVectors.from_list([query])
