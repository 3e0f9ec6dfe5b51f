"""Training runs: that they learn, repeat, mix sources and say what they did."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from flatcoat.retrieval.colbert import ColbertEncoder
from flatcoat.retrieval.encoding import unpad_backbone
from flatcoat.retrieval.losses import LossSettings
from flatcoat.retrieval.training import Hyperparameters, Watching, step_count, train
from flatcoat.retrieval.unpadded import UnpaddedColBERT

MakeFolder = Callable[..., Path]


def pairs() -> dict[str, Dataset]:
    """Two sources of pairs, each with a word that says which belong together."""
    words = ["cat", "dog", "sky", "bread", "bridge", "river", "light", "steel"]
    return {
        source: Dataset.from_list(
            [
                {
                    "query": f"{word} {source} {number}",
                    "document": f"the {word} of {source}, {word} {number}",
                    "negative_1": f"{source} {number}",
                    "negative_2": f"not the {word} {number}",
                    "scores": [9.0, 1.0, 4.0],
                }
                for number, word in enumerate(words * 4)
            ]
        )
        for source in ("one", "two")
    }


def settings(**changes: Any) -> Hyperparameters:
    return Hyperparameters(**({"batch_size": 8, "learning_rate": 2e-3, "max_steps": 20} | changes))


def model_of(kind: str, make_colbert: MakeFolder, make_dense: MakeFolder) -> SentenceTransformer:
    if kind == "dense":
        model = SentenceTransformer(str(make_dense()), device="cpu")
    else:
        model = UnpaddedColBERT(str(make_colbert(query_length=12)), device="cpu")
    unpad_backbone(model)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("colbert", {}),
        ("colbert", {"loss": LossSettings("distillation"), "mini_batch_tokens": 200}),
        ("colbert", {"loss": LossSettings("margin-mse"), "gradient_checkpointing": True}),
        ("dense", {"loss": LossSettings(temperature=0.05, symmetric=True), "mini_batch_size": 4}),
        ("dense", {"loss": LossSettings(temperature=0.05, matryoshka=(16,)), "gradient_accumulation": 2}),
        ("dense", {"loss": LossSettings("distillation", temperature=0.1)}),
    ],
)
def test_training_lowers_the_loss(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    model = model_of(kind, make_colbert, make_dense)
    seen: list[tuple[int, int]] = []
    watching = Watching(on_progress=lambda step, steps, loss: seen.append((step, steps)), log_every=5)
    log = train(model, pairs(), settings(**changes), tmp_path, watching)
    assert log.steps == 20
    assert seen == [(step, 20) for step in range(1, 21)]
    assert [step for step, _ in log.losses] == [5, 10, 15, 20]
    assert log.losses[-1][1] < 0.9 * log.losses[0][1]
    assert log.seconds > 0
    assert log.cpu_seconds > 0


def test_steps_are_counted_as_epochs_of_whole_batches() -> None:
    sizes = {"one": 33, "two": 15}
    assert step_count(sizes, settings(max_steps=None, epochs=1.5)) == 8
    assert step_count(sizes, settings(max_steps=None, gradient_accumulation=2)) == 2
    assert step_count(sizes, settings(max_steps=7)) == 7


def test_a_run_is_repeatable(make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path) -> None:
    models = [model_of("colbert", make_colbert, make_dense) for _ in range(3)]
    logs = [
        train(model, pairs(), settings(max_steps=3, seed=seed), tmp_path / str(number))
        for number, (model, seed) in enumerate(zip(models, (1, 1, 2), strict=True))
    ]
    assert [log.steps for log in logs] == [3, 3, 3]
    first, second, other = (ColbertEncoder(model, "trained").contract.weights for model in models)
    assert first == second
    assert first != other


def test_bfloat16_keeps_the_weights_in_float32(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("colbert", make_colbert, make_dense)
    log = train(model, pairs(), settings(bf16=True, max_steps=10), tmp_path)
    assert torch.tensor([loss for _, loss in log.losses]).isfinite().all()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
