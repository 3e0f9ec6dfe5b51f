"""Teachers of a batch: their scores against search over the same texts, and the loss against its formula."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from flatcoat.errors import NotFoundError
from flatcoat.indexing.bm25_baseline import Bm25
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.encoders.load import as_encoder
from flatcoat.retrieval.training import batch_teachers
from flatcoat.retrieval.training import train as train_module
from flatcoat.retrieval.training.batch_teachers import BatchTeachers
from flatcoat.retrieval.training.batches import Collator
from flatcoat.retrieval.training.losses import make_loss
from flatcoat.retrieval.training.settings import TrainingSettings
from flatcoat.retrieval.training.train import train

MakeFolder = Callable[..., Path]

QUERIES = ["why is the sky blue?", "cats", "bread"]
DOCUMENTS = ["The sky scatters blue light.", "Cats purr.", "Bread rises.", "cats eat bread", "steel", ""]
ROWS = [
    {"query": query, "document": DOCUMENTS[index], "negative_1": DOCUMENTS[index + 3]}
    for index, query in enumerate(QUERIES)
]


def standardised(scores_BN: np.ndarray) -> np.ndarray:
    return (scores_BN - scores_BN.mean(axis=1)[:, None]) / scores_BN.std(axis=1)[:, None]


def maxsim(encoder: ColbertEncoder) -> np.ndarray:
    queries, documents = encoder.encode_queries(QUERIES), encoder.encode_documents(DOCUMENTS)
    return np.array(
        [
            [(queries[q] @ documents[d].T).max(axis=1).sum() for d in range(len(DOCUMENTS))]
            for q in range(len(QUERIES))
        ]
    )


def words() -> np.ndarray:
    scores = np.zeros((len(QUERIES), len(DOCUMENTS)))
    index = Bm25((str(number), text) for number, text in enumerate(DOCUMENTS))
    for row, hits in enumerate(index.search(QUERIES, 10)):
        for id, score in zip(hits.ids, hits.scores.tolist(), strict=True):
            scores[row, int(id)] = score
    return scores


def test_the_scores_are_the_weighted_mean_of_standardised_ones(
    make_colbert: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_teachers, "fast_precisions", lambda device: ("fp32",))
    folder = make_colbert()
    expected = (
        3 * standardised(maxsim(ColbertEncoder.load(folder, device="cpu"))) + standardised(words())
    ) / 4
    came = BatchTeachers({str(folder): 3, "bm25": 1})(QUERIES, DOCUMENTS)
    assert came.dtype == np.float32
    assert np.abs(came - expected).max() < 1e-3


def test_a_query_of_no_known_word_is_judged_alike() -> None:
    assert (BatchTeachers({"bm25": 1})(["zebra"], DOCUMENTS) == 0).all()


def test_an_unknown_teacher_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        BatchTeachers({"no/such-model": 1})


def test_the_loss_is_the_contrast_and_the_divergence(make_colbert: MakeFolder) -> None:
    Contrastive = pytest.importorskip("pylate.losses").Contrastive
    ColBERTScores = pytest.importorskip("pylate.scores").ColBERTScores
    model = ColbertModel(str(make_colbert(do_query_expansion=False)), device="cpu")
    settings = TrainingSettings(teachers={"bm25": 1}, teacher_weight=0.7, temperature=2)
    batch = Collator(model, BatchTeachers(settings.teachers))(ROWS)
    columns = [
        {key.removeprefix(f"{name}_"): batch[key] for key in batch if key.startswith(f"{name}_")}
        for name in ROWS[0]
    ]
    # Row by row: the document of the first row, its negative, the document of the second ...
    order = [0, 3, 1, 4, 2, 5]
    teacher = torch.from_numpy(standardised(words()[:, order])).softmax(dim=1)
    kept = []

    def score(*vectors: Any, **masks: Any) -> torch.Tensor:
        kept.append(ColBERTScores()(*vectors, **masks))
        return kept[-1]

    contrast = Contrastive(model, score, temperature=2)(columns)
    student = (kept[0] / 2).softmax(dim=1)
    divergence = (teacher * (teacher / student).log()).sum(dim=1).mean()
    came = make_loss(model, settings)(columns, batch["label"])
    assert float(came.detach()) == pytest.approx(float((contrast + 0.7 * divergence).detach()), abs=1e-4)


def test_training_with_teachers_lowers_the_loss(make_colbert: MakeFolder, tmp_path: Path) -> None:
    model = ColbertModel(str(make_colbert(query_length=12)), device="cpu")
    rows = [{"query": f"cat {number}", "document": f"the cat number {number}"} for number in range(32)]
    settings = TrainingSettings(
        teachers={"bm25": 1}, batch_size=8, max_steps=30, learning_rate=2e-3, log_every=5
    )
    log = train(model, {"cats": Dataset.from_list(rows)}, settings=settings, folder=tmp_path)
    assert log.losses[-1].value < 0.8 * log.losses[0].value


def test_the_start_of_a_run_stays_a_teacher_as_it_was(
    make_colbert: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[ColbertEncoder] = []

    def noting(weights: dict[str, float], *, start: ColbertEncoder) -> BatchTeachers:
        starts.append(start)
        return BatchTeachers(weights, start=start)

    monkeypatch.setattr(train_module, "BatchTeachers", noting)
    folder = make_colbert(query_length=12)
    before = maxsim(ColbertEncoder.load(folder, device="cpu"))
    model = ColbertModel(str(folder), device="cpu")
    rows = [{"query": f"cat {number}", "document": f"the cat number {number}"} for number in range(32)]
    settings = TrainingSettings(teachers={"start": 1}, batch_size=8, max_steps=5, learning_rate=2e-3)
    train(model, {"cats": Dataset.from_list(rows)}, settings=settings, folder=tmp_path)
    assert np.abs(maxsim(starts[0]) - before).max() < 1e-4
    assert np.abs(maxsim(cast(ColbertEncoder, as_encoder(model))) - before).max() > 1e-2


@pytest.mark.parametrize("changes", [{"loss": "distillation"}, {"gather": True}])
def test_teachers_are_for_a_contrast_on_one_process(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="teachers are for loss: contrastive without gather"):
        TrainingSettings(teachers={"bm25": 1}, **changes)  # type: ignore[arg-type]
