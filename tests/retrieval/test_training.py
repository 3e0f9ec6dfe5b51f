"""Training steps against PyLate's and sentence-transformers' own, and that they learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pylate.losses import Contrastive
from pylate.models import ColBERT
from pylate.scores import ColBERTScores
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn

from flatcoat.retrieval.colbert import ColbertEncoder, UnpaddedColBERT
from flatcoat.retrieval.data import Pair
from flatcoat.retrieval.encoding import unpad_backbone
from flatcoat.retrieval.maxsim import BatchMaxSim
from flatcoat.retrieval.training import ContrastiveSettings, train_contrastive

MakeFolder = Callable[..., Path]

QUERIES = ["why is the sky blue?", "cats", "how does bread rise, and why", "parse http response"]
DOCUMENTS = [
    "The sky is blue because air scatters short waves of light.",
    "Cats purr when they are content. Dogs bark.",
    "Bread rises as yeast turns sugar into carbon dioxide; the crust browns.",
    "def parse_http_response(raw): return HttpResponse(raw)",
]


def assert_same_step(
    ours: nn.Module, theirs: nn.Module, our_features: list[Any], their_features: list[Any]
) -> None:
    """Loss and every gradient of one batch; features come from each model's own tokenizer."""
    our_loss, their_loss = ours(our_features, None), theirs(their_features, None)
    assert float(our_loss.detach()) == pytest.approx(float(their_loss.detach()), abs=1e-4)
    our_loss.backward()
    their_loss.backward()
    expected: dict[str, Tensor | None] = {name: weight.grad for name, weight in theirs.named_parameters()}
    assert expected.keys() == {name for name, _ in ours.named_parameters()}
    for name, weight in ours.named_parameters():
        wanted = expected[name]
        assert weight.grad is not None, name
        assert wanted is not None, name
        assert (weight.grad - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max())), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attend_to_expansion_tokens": True},
        {"do_query_expansion": False},
    ],
)
def test_a_colbert_step_is_that_of_pylate(make_colbert: MakeFolder, options: dict[str, Any]) -> None:
    folder = str(make_colbert(**options))
    ours, theirs = UnpaddedColBERT(folder, device="cpu"), ColBERT(folder, device="cpu")
    assert unpad_backbone(ours)
    features = [
        [model.tokenize(QUERIES, is_query=True), model.tokenize(DOCUMENTS, is_query=False)]
        for model in (ours, theirs)
    ]
    assert_same_step(
        Contrastive(ours, BatchMaxSim(), temperature=0.5),
        Contrastive(theirs, ColBERTScores(), temperature=0.5),
        *features,
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_dense_step_is_that_of_sentence_transformers(make_dense: MakeFolder, pooling: str) -> None:
    folder = str(make_dense(pooling=pooling))
    ours, theirs = (SentenceTransformer(folder, device="cpu") for _ in range(2))
    assert unpad_backbone(ours)
    features = [[model.tokenize(QUERIES), model.tokenize(DOCUMENTS)] for model in (ours, theirs)]
    assert_same_step(MultipleNegativesRankingLoss(ours), MultipleNegativesRankingLoss(theirs), *features)


def pairs() -> dict[str, list[Pair]]:
    """Two sources of pairs, each with a word that says which belong together."""
    words = ["cat", "dog", "sky", "bread", "bridge", "river", "light", "steel"]
    return {
        source: [
            Pair(f"{word} {source} {number}", f"the {word} of {source}, {word} {number}")
            for number, word in enumerate(words * 4)
        ]
        for source in ("one", "two")
    }


def settings(**changes: Any) -> ContrastiveSettings:
    return ContrastiveSettings(**({"batch_size": 8, "learning_rate": 2e-3, "max_steps": 20} | changes))


def model_of(kind: str, make_colbert: MakeFolder, make_dense: MakeFolder) -> SentenceTransformer:
    if kind == "dense":
        model = SentenceTransformer(str(make_dense()), device="cpu")
    else:
        model = UnpaddedColBERT(str(make_colbert(query_length=12)), device="cpu")
    unpad_backbone(model)
    return model


@pytest.mark.parametrize("kind", ["colbert", "dense"])
@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_training_lowers_the_loss(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, kind: str, mini_batch_size: int | None
) -> None:
    model = model_of(kind, make_colbert, make_dense)
    seen: list[tuple[int, int]] = []
    log = train_contrastive(
        model,
        pairs(),
        settings(temperature=0.05 if kind == "dense" else 1.0, mini_batch_size=mini_batch_size),
        tmp_path,
        lambda step, steps, loss: seen.append((step, steps)),
    )
    assert log.steps == 20
    assert seen == [(step, 20) for step in range(1, 21)]
    assert [step for step, _ in log.losses] == [10, 20]
    assert log.losses[-1][1] < 0.8 * log.losses[0][1]
    assert log.seconds > 0
    assert log.cpu_seconds > 0


def test_a_run_is_repeatable(make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path) -> None:
    models = [model_of("colbert", make_colbert, make_dense) for _ in range(3)]
    logs = [
        train_contrastive(model, pairs(), settings(max_steps=3, seed=seed), tmp_path)
        for model, seed in zip(models, (1, 1, 2), strict=True)
    ]
    assert [log.steps for log in logs] == [3, 3, 3]
    first, second, other = (ColbertEncoder(model, "trained").contract.weights for model in models)
    assert first == second
    assert first != other


def test_bfloat16_keeps_the_weights_in_float32(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("colbert", make_colbert, make_dense)
    log = train_contrastive(model, pairs(), settings(bf16=True, max_steps=10), tmp_path)
    assert torch.tensor([loss for _, loss in log.losses]).isfinite().all()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
