"""One step of every loss against sentence-transformers' and PyLate's own, on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import losses as dense
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor, nn

from flatcoat.retrieval.encoders.backbone import unpad_backbone
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.training.batches import Collator
from flatcoat.retrieval.training.gradient_cache import gradient_cached
from flatcoat.retrieval.training.losses import make_loss
from flatcoat.retrieval.training.settings import TrainingSettings

MakeFolder = Callable[..., Path]

QUERIES = ["why is the sky blue?", "cats", "how does bread rise, and why", "parse http response"]
DOCUMENTS = [
    "The sky is blue because air scatters short waves of light.",
    "Cats purr when they are content. Dogs bark.",
    "Bread rises as yeast turns sugar into carbon dioxide; the crust browns.",
    "def parse_http_response(raw): return HttpResponse(raw)",
]
ROWS = [
    {
        "query": query,
        "document": DOCUMENTS[index],
        "negative_1": DOCUMENTS[index - 1] + " A bridge of steel.",
        "negative_2": f"{query} - the river, light.",
        "scores": [9.0 + index, 1.5 * index, 4.0],
    }
    for index, query in enumerate(QUERIES)
]
PAIRS = [{name: row[name] for name in ("query", "document")} for row in ROWS]
COLUMNS = ["query", "document", "negative_1", "negative_2"]


def features_of(model: SentenceTransformer, rows: list[dict[str, Any]]) -> tuple[list[Any], Tensor | None]:
    """A batch as the trainer hands it to a loss."""
    batch = Collator(model)(rows)
    columns = [
        {key.removeprefix(f"{name}_"): values for key, values in batch.items() if key.startswith(f"{name}_")}
        for name in COLUMNS
        if name in rows[0]
    ]
    return columns, batch.get("label")


def pylate_features(model: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """The same batch as PyLate makes it, all documents padded alike."""
    names = [name for name in COLUMNS[1:] if name in rows[0]]
    documents = model.tokenize([row[name] for name in names for row in rows], is_query=False)
    queries = model.tokenize([row["query"] for row in rows], is_query=True)
    parts = [slice(number * len(rows), (number + 1) * len(rows)) for number in range(len(names))]
    return [queries, *({key: values[part] for key, values in documents.items()} for part in parts)]


def assert_same_step(ours: nn.Module, theirs: nn.Module, ours_in: Any, theirs_in: Any) -> None:
    """Loss and every gradient of one batch, within 1e-4."""
    our_loss, their_loss = ours(*ours_in), theirs(*theirs_in)
    assert float(our_loss.detach()) == pytest.approx(float(their_loss.detach()), abs=1e-4)
    assert float(our_loss.detach()) > 1e-3
    our_loss.backward()
    their_loss.backward()
    expected = dict(theirs.named_parameters())
    assert expected.keys() <= dict(ours.named_parameters()).keys()
    for name, weight in ours.named_parameters():
        wanted = expected[name].grad
        if wanted is None or weight.grad is None:
            assert weight.grad is wanted, name
            assert "pooler" in name, name
            continue
        assert (weight.grad - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max())), name


def late_models(folder: Path) -> tuple[ColbertModel, Any]:
    pylate = pytest.importorskip("pylate.models")
    ours, theirs = ColbertModel(folder, device="cpu"), pylate.ColBERT(str(folder), device="cpu")
    assert unpad_backbone(ours)
    return ours, theirs


def dense_models(folder: Path) -> tuple[SentenceTransformer, SentenceTransformer]:
    ours, theirs = (SentenceTransformer(str(folder), device="cpu") for _ in range(2))
    assert unpad_backbone(ours)
    return ours, theirs


@pytest.mark.parametrize("options", [{}, {"attend_to_expansion_tokens": True}, {"do_query_expansion": False}])
@pytest.mark.parametrize("rows", [PAIRS, ROWS], ids=["pairs", "negatives"])
def test_a_colbert_contrast_is_that_of_pylate(
    make_colbert: MakeFolder, options: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    ours, theirs = late_models(make_colbert(**options))
    from pylate.losses import Contrastive
    from pylate.scores import ColBERTScores

    assert_same_step(
        make_loss(ours, TrainingSettings(temperature=0.5)),
        Contrastive(theirs, ColBERTScores(), temperature=0.5),
        features_of(ours, rows)[:1],
        (pylate_features(theirs, rows),),
    )


@pytest.mark.parametrize("options", [{}, {"do_query_expansion": False}])
def test_a_colbert_distillation_is_that_of_pylate(make_colbert: MakeFolder, options: dict[str, Any]) -> None:
    ours, theirs = late_models(make_colbert(**options))
    from pylate.losses import Distillation

    queries = theirs.tokenize(QUERIES, is_query=True)
    flat = [row[name] for row in ROWS for name in COLUMNS[1:]]
    documents = theirs.tokenize(flat, is_query=False)
    scores = torch.tensor([row["scores"] for row in ROWS])
    normalized = (scores - scores.amin(1, True)) / (scores.amax(1, True) - scores.amin(1, True))
    assert_same_step(
        make_loss(ours, TrainingSettings(loss="distillation")),
        Distillation(theirs),
        features_of(ours, ROWS),
        ([queries, documents], normalized),
    )


@pytest.mark.parametrize("options", [{}, {"do_query_expansion": False}])
def test_a_colbert_margin_mse_is_one_by_hand(make_colbert: MakeFolder, options: dict[str, Any]) -> None:
    ours, theirs = late_models(make_colbert(**options))
    from pylate.scores import colbert_scores_pairwise

    features, labels = features_of(ours, ROWS)
    with torch.no_grad():
        found = float(make_loss(ours, TrainingSettings(loss="margin-mse", temperature=2.0))(features, labels))
        queries = theirs.encode(QUERIES, is_query=True, convert_to_tensor=True)
        scores = []
        for name in COLUMNS[1:]:
            documents = theirs.encode([row[name] for row in ROWS], is_query=False, convert_to_tensor=True)
            scores.append(
                [float(colbert_scores_pairwise([q], [d])) for q, d in zip(queries, documents, strict=True)]
            )
    student, teacher = torch.tensor(scores).T / 2, torch.tensor([row["scores"] for row in ROWS])
    wanted = ((student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])).square().mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("rows", [PAIRS, ROWS], ids=["pairs", "negatives"])
@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (TrainingSettings(temperature=0.05), lambda model: dense.MultipleNegativesRankingLoss(model, 20.0)),
        (
            TrainingSettings(temperature=0.1, symmetric=True),
            lambda model: dense.MultipleNegativesRankingLoss(
                model, 10.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
            ),
        ),
        (
            TrainingSettings(temperature=0.05, matryoshka=(16, 32)),
            lambda model: dense.MatryoshkaLoss(
                model, dense.MultipleNegativesRankingLoss(model, 20.0), [16, 32, 64]
            ),
        ),
    ],
    ids=["contrastive", "symmetric", "matryoshka"],
)
def test_a_dense_contrast_is_that_of_sentence_transformers(
    make_dense: MakeFolder,
    rows: list[dict[str, Any]],
    settings: TrainingSettings,
    reference: Callable[[SentenceTransformer], nn.Module],
) -> None:
    ours, theirs = dense_models(make_dense(pooling="cls" if rows is PAIRS else "mean"))
    assert_same_step(
        make_loss(ours, settings), reference(theirs), features_of(ours, rows), features_of(theirs, rows)
    )


def test_dense_losses_of_a_teacher_are_those_of_sentence_transformers(make_dense: MakeFolder) -> None:
    ours, theirs = dense_models(make_dense())
    assert_same_step(
        make_loss(ours, TrainingSettings(loss="margin-mse")),
        dense.MarginMSELoss(theirs, pairwise_dot_score),
        features_of(ours, ROWS),
        features_of(theirs, ROWS),
    )
    ours, theirs = dense_models(make_dense())
    features, scores = features_of(theirs, ROWS)
    assert scores is not None
    normalized = (scores - scores.amin(1, True)) / (scores.amax(1, True) - scores.amin(1, True))
    assert_same_step(
        make_loss(ours, TrainingSettings(loss="distillation", temperature=0.2)),
        dense.DistillKLDivLoss(theirs, temperature=0.2),
        features_of(ours, ROWS),
        (features, normalized),
    )


@pytest.mark.parametrize(
    ("kind", "name", "limits"),
    [
        ("dense", "contrastive", {"max_texts": 3}),
        ("dense", "distillation", {"max_tokens": 40}),
        ("colbert", "contrastive", {"max_tokens": 40}),
        ("colbert", "distillation", {"max_texts": 1}),
        ("deberta", "contrastive", {"max_tokens": 1}),
    ],
)
def test_mini_batches_change_no_gradient(
    make_colbert: MakeFolder, make_dense: MakeFolder, foreign_folder: Path, kind: str, name: Any, limits: Any
) -> None:
    if kind == "colbert":
        parted, whole = (ColbertModel(str(make_colbert()), device="cpu") for _ in range(2))
    else:
        folder = make_dense(base=foreign_folder) if kind == "deberta" else make_dense()
        parted, whole = (SentenceTransformer(str(folder), device="cpu") for _ in range(2))
    for model in (parted, whole):
        assert unpad_backbone(model) == (kind != "deberta")
    with gradient_cached(parted, **limits):
        assert_same_step(
            make_loss(parted, TrainingSettings(loss=name)),
            make_loss(whole, TrainingSettings(loss=name)),
            features_of(parted, ROWS),
            features_of(whole, ROWS),
        )
    assert "forward" not in vars(parted)


def test_mini_batches_hold_as_many_tokens_as_they_may(make_dense: MakeFolder) -> None:
    model, _ = dense_models(make_dense())
    features, _ = features_of(model, ROWS)
    lengths = features[1]["attention_mask"].sum(dim=1).tolist()
    seen: list[int] = []
    backbone: Any = model[0].auto_model
    whole = backbone.forward

    def forward(**features: Any) -> Any:
        seen.append(int(features["attention_mask"].sum()))
        return whole(**features)

    backbone.forward = forward  # No hook: sentence-transformers 6 calls the method itself.
    with gradient_cached(model, max_tokens=lengths[0] + lengths[1]):
        found = model(features[1])["sentence_embedding"]
    assert seen[0] == lengths[0] + lengths[1]
    assert sum(seen) == sum(lengths)
    assert found.shape == (4, 64)
