"""Engine settings: what is refused, what an index becomes, and that engines agree on what a score is."""

from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.store import engines
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors

from ..corpus import dense, passages, vectors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EngineSettings("hnsw"), "engine is 'hnsw': auto, exact, plaid, faiss are possible"),  # type: ignore[arg-type]
        (EngineSettings("plaid", bits=3), "bits is 3: 1, 2, 4"),
        (EngineSettings("plaid", centroids=0), "centroids is 0: from 1 to 65,536"),
        (EngineSettings("faiss", metric="l2"), "metric is 'l2': ip, cosine"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_checked_when_an_index_is_made(tmp_path: Path, settings, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        Store.create(tmp_path / "index", {}, engine=settings)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("settings", "encode", "message"),
    [
        (EngineSettings("plaid"), dense, "'plaid' does not search dense vectors: .* 'faiss', 'exact' or"),
        (EngineSettings("faiss"), vectors, "'faiss' does not search token vectors: .* 'plaid', 'exact' or"),
        (EngineSettings(metric="cosine"), vectors, "metric 'cosine' is of dense vectors"),
        (EngineSettings("faiss", factory="HNWS"), dense, "factory 'HNWS'"),
        (EngineSettings("auto", factory="PQ3"), dense, "factory 'PQ3' does not suit vectors of width 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_first_vectors(
    tmp_path: Path, settings: EngineSettings, encode, message: str
) -> None:
    batch = passages("a", 2)
    with Store.create(tmp_path / "index", {}, engine=settings) as store:
        with pytest.raises(FlatcoatError, match=message), store.writer() as writer:
            writer.add(batch, encode(batch))
        assert store.stats().passages == 0


def test_settings_are_kept(tmp_path: Path) -> None:
    settings = EngineSettings("plaid", bits=2, centroids=5)
    with Store.create(tmp_path / "index", {}, engine=settings), Store.open(tmp_path / "index") as store:
        assert store.engine == settings
        with store.writer() as writer:
            writer.add(passages("a", 9), vectors(passages("a", 9)))
            writer.compact()
        codec = store.snapshot().codec
        assert codec is not None
        assert (codec.bits, len(codec.centroids_KP)) == (2, 5)


def test_auto_chooses_by_size() -> None:
    for kind, large, engine in (
        ("token", engines.PLAID_FROM, "plaid"),
        ("dense", engines.FAISS_FROM, "faiss"),
    ):
        assert EngineSettings().engine_for(kind, large - 1) == "exact"
        assert EngineSettings().engine_for(kind, large) == engine
    assert EngineSettings("exact").engine_for("token", 10**9) == "exact"


@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_scores_stay_what_they_are_when_an_index_grows(tmp_path: Path, metric) -> None:
    random = np.random.default_rng(0)
    values, queries = random.standard_normal((60, 8)), random.standard_normal((5, 8)).astype(np.float32)
    values = (values * np.arange(1, 61)[:, None] / 30).astype(np.float32)
    with Store.create(
        tmp_path / "index", {}, engine=EngineSettings("faiss", factory="Flat", metric=metric)
    ) as store:
        assert store.index().search(queries, 3)[0].ids == []
        with store.writer() as writer:
            writer.add([passages(str(i))[0] for i in range(60)], values)
        before = store.index().search(queries, 5)
        store.compact()
        after = store.index().search(queries, 5)
        assert store.stats().engine == "faiss"
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scores_QN = queries @ values.T
    for query, (some, others) in enumerate(zip(before, after, strict=True)):
        assert some.ids == others.ids == (1 + np.argsort(-scores_QN[query])[:5]).tolist()
        assert some.scores == pytest.approx(others.scores, abs=1e-3)
        assert others.scores == pytest.approx(np.sort(scores_QN[query])[::-1][:5], abs=5e-3)


def test_exact_and_coded_scores_are_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    values = random.standard_normal((400, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    with Store.create(tmp_path / "index", {}, engine=EngineSettings("plaid")) as store:
        with store.writer() as writer:
            writer.add(passages("a", 40), TokenVectors(values, np.arange(41) * 10))
        query = TokenVectors(values[55:60], np.array([0, 5]))
        (before,) = store.index().search(query, 1)
        store.compact()
        (after,) = store.index().search(query, 1)
    assert before.ids == after.ids == [6]
    assert after.scores == pytest.approx(before.scores, rel=0.02)
