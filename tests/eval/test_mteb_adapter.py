"""mteb's own runner over our searchers, on data that the test makes."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from flatcoat import FlatcoatError
from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.eval.metrics import evaluate
from flatcoat.eval.mteb_adapter import Searcher, SystemSearcher
from flatcoat.eval.systems.system import Bm25System, EncoderSystem
from flatcoat.indexing.documents import Document
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.retrieval.encoders.load import load_encoder

mteb = pytest.importorskip("mteb")

WORDS = "sun moon star wind rain snow leaf root bark seed bird nest wing song dawn dusk".split()  # noqa: SIM905
MEASURES = {"ndcg@10": "ndcg_at_10", "recall@100": "recall_at_100", "mrr@10": "mrr_at_10"}


def make_data(twins: bool):
    """120 documents of which half are copies of others, and 12 queries, which stand in the corpus too."""
    generator = np.random.default_rng(3)
    texts = [" ".join(generator.choice(WORDS, size=5)) for _ in range(54)]
    documents = [Document(f"d{i}", texts[i % 54], WORDS[i % 16] if i < 54 else "") for i in range(108)]
    queries = {f"q{i}": " ".join(texts[i].split()[:2]) for i in range(12)}
    if twins:
        documents += [Document(id, text) for id, text in queries.items()]
    qrels = {f"q{i}": {f"d{i}": 2, f"d{i + 54}": 1, "nowhere": 1} for i in range(12)}
    return documents, queries, qrels


def make_task(documents, queries, qrels, drops_own_ids: bool):
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Local(AbsTaskRetrieval):
        ignore_identical_ids = drops_own_ids
        metadata = TaskMetadata(
            name="Local",
            description="made by a test",
            dataset={"path": "nowhere/local", "revision": "1"},
            type="Retrieval",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *args, **kwargs) -> None:
            rows = [{"id": d.id, "title": d.title or None, "text": d.text} for d in documents]
            split = {
                "corpus": Dataset.from_list(rows),
                "queries": Dataset.from_list([{"id": id, "text": text} for id, text in queries.items()]),
                "relevant_docs": {query: dict(grades) for query, grades in qrels.items()},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Local()


def run_mteb(searcher, task, cache=None) -> dict[str, float]:
    result = mteb.evaluate(searcher, task, cache=cache, show_progress_bar=False, co2_tracker=False)
    return result.task_results[0].scores["test"][0]


@pytest.mark.parametrize("drops_own_ids", [True, False])
@pytest.mark.parametrize("system", ["exact", "index", "bm25"])
def test_mteb_gives_our_measures(encoder, system, drops_own_ids):
    documents, queries, qrels = make_data(twins=True)
    dropped = frozenset(queries) if drops_own_ids else frozenset()
    dataset = RetrievalDataset("Local", "test", documents, queries, qrels, self_hits=dropped)
    systems = {
        "exact": EncoderSystem(encoder),
        "index": EncoderSystem(encoder, EngineSettings("auto")),
        "bm25": Bm25System(),
    }
    run = systems[system].search(dataset, 1000).run
    ours = evaluate(run, qrels, measures=list(MEASURES)).mean
    task = make_task(documents, queries, qrels, drops_own_ids)
    theirs = run_mteb(SystemSearcher(systems[system]), task)
    assert {name: theirs[key] for name, key in MEASURES.items()} == pytest.approx(ours, abs=1e-5)
    assert 0.1 < ours["ndcg@10"] < 1


def test_the_shipped_model_gives_our_measures():
    encoder = load_encoder()
    documents, queries, qrels = make_data(twins=False)
    dataset = RetrievalDataset("Local", "test", documents, queries, qrels)
    run = EncoderSystem(encoder).search(dataset, 1000).run
    theirs = run_mteb(Searcher(encoder), make_task(documents, queries, qrels, False))
    ours = evaluate(run, qrels, measures=list(MEASURES)).mean
    assert {name: theirs[key] for name, key in MEASURES.items()} == pytest.approx(ours, abs=1e-5)


def test_two_models_never_share_a_score_in_mtebs_cache(encoder, tmp_path, monkeypatch):
    documents, queries, qrels = make_data(twins=False)
    cache = mteb.ResultCache(tmp_path)
    task = make_task(documents, queries, qrels, False)
    first = run_mteb(Searcher(encoder), task, cache)
    other = type(encoder)()
    other.contract = replace(encoder.contract, weights="another")
    blind = encoder.encode_queries
    monkeypatch.setattr(other, "encode_queries", lambda texts: blind(["nothing"] * len(texts)))
    second = run_mteb(Searcher(other), task, cache)
    assert second["ndcg_at_10"] < first["ndcg_at_10"]
    assert len(list(tmp_path.rglob("Local.json"))) == 2
    monkeypatch.setattr(encoder, "encode_documents", lambda texts: pytest.fail("encoded again"))
    again = run_mteb(Searcher(encoder), task, cache)
    assert again["ndcg_at_10"] == first["ndcg_at_10"]


def test_whatever_changes_results_changes_the_revision(encoder):
    def key(searcher):
        return searcher.mteb_model_meta.name, searcher.mteb_model_meta.revision

    engines = [EngineSettings("exact"), EngineSettings("auto"), EngineSettings("auto", bits=2)]
    keys = {key(Searcher(encoder, engine)) for engine in engines} | {key(SystemSearcher(Bm25System()))}
    encoder.contract = replace(encoder.contract, query_prefix="query: ")
    keys |= {key(Searcher(encoder))}
    assert len(keys) == 5
    assert all(name.startswith("flatcoat/") and name.count("/") == 1 for name, _ in keys)
    encoder.contract = replace(encoder.contract, model="moved/elsewhere")
    assert key(Searcher(encoder)) in keys


def test_an_index_is_kept_where_the_user_says(encoder, tmp_path):
    documents, queries, qrels = make_data(twins=False)
    task = make_task(documents, queries, qrels, False)
    searcher = Searcher(encoder, EngineSettings("auto"), folder=tmp_path)
    run_mteb(searcher, task)
    revision = searcher.mteb_model_meta.revision
    assert (tmp_path / revision / "Local.default.test" / "vectors" / "index.sqlite").is_file()


def test_a_reranking_task_is_refused(encoder):
    documents, queries, qrels = make_data(twins=False)
    task = make_task(documents, queries, qrels, False)
    task.load_data()
    task.dataset["default"]["test"]["top_ranked"] = {query: ["d1"] for query in queries}
    with pytest.raises(FlatcoatError, match="gives the documents to rank"):
        run_mteb(Searcher(encoder), task)
