"""The moving average of weights: its formula, a run that ends with it, and frozen layers beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import nn

from flatcoat.errors import UsageError
from flatcoat.retrieval.encoders.backbone import unpad_backbone
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.training.average import WeightAverage
from flatcoat.retrieval.training.settings import TrainingSettings
from flatcoat.retrieval.training.train import train

MakeFolder = Callable[..., Path]


def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average, decay = WeightAverage(model, 0.5), 0.5
    expected = model.weight.detach().clone()
    for step in range(1, 12):
        nn.init.normal_(model.weight)
        used = min(decay, (1 + step) / (10 + step))
        expected = used * expected + (1 - used) * model.weight.detach()
        average.update(step)
    last = model.weight.detach().clone()
    with average.in_place():
        assert torch.allclose(model.weight, expected)
    assert torch.equal(model.weight, last)
    average.save(tmp_path)
    other = WeightAverage(model, decay)
    other.load(tmp_path)
    other.apply()
    assert torch.allclose(model.weight, expected)


def rows() -> dict[str, Dataset]:
    texts = [{"query": f"cat {number}", "document": f"the cat {number}"} for number in range(32)]
    return {"cats": Dataset.from_list(texts)}


def trained(folder: Path, output: Path, *, evaluates: bool = False, **changes: object) -> ColbertModel:
    model = ColbertModel(str(folder), device="cpu")
    unpad_backbone(model)
    weights: torch.Tensor = model[-1].linear.weight  # type: ignore[assignment]
    options = {"batch_size": 8, "max_steps": 8, "learning_rate": 2e-3, "warmup": 0, "evaluate_every": 4}
    settings = TrainingSettings(**options | changes)  # type: ignore[arg-type]
    steps, evaluated = [weights.detach().clone()], []

    def evaluate(model: object) -> dict[str, float]:
        evaluated.append(weights.detach().clone())
        return {"dev": float(len(evaluated))}

    train(
        model,
        rows(),
        settings=settings,
        folder=output,
        evaluate=evaluate if evaluates else None,
        on_step=lambda step, total, loss: steps.append(weights.detach().clone()),
    )
    if settings.average:
        expected = steps[0]
        for step, came in enumerate(steps[1:], start=1):
            expected = torch.lerp(came, expected, min(settings.average, (1 + step) / (10 + step)))
        assert (expected - steps[-1]).abs().max() > 1e-4
        assert (weights - expected).abs().max() < 1e-6
    if evaluates:
        assert torch.equal(weights, evaluated[-1])
    return model


@pytest.mark.parametrize("evaluates", [False, True])
def test_a_run_evaluates_the_average_and_ends_with_it(
    make_colbert: MakeFolder, tmp_path: Path, evaluates: bool
) -> None:
    trained(make_colbert(query_length=12), tmp_path, evaluates=evaluates, average=0.6)


def test_a_run_ends_with_a_share_of_its_start(make_colbert: MakeFolder, tmp_path: Path) -> None:
    folder = make_colbert(query_length=12)
    start = ColbertModel(str(folder), device="cpu").state_dict()
    whole = trained(folder, tmp_path / "whole", frozen_layers=1).state_dict()
    mixed = trained(folder, tmp_path / "mixed", frozen_layers=1, start_share=0.25).state_dict()
    assert any((whole[name] - start[name]).abs().max() > 1e-3 for name in start)
    for name, weights in mixed.items():
        assert torch.allclose(weights, torch.lerp(whole[name], start[name], 0.25), atol=1e-6), name


def test_frozen_layers_stay_as_they_are(make_colbert: MakeFolder, tmp_path: Path) -> None:
    folder = make_colbert(query_length=12)
    before = ColbertModel(str(folder), device="cpu").state_dict()
    after = trained(folder, tmp_path, frozen_layers=1).state_dict()
    changed = {name for name, weights in after.items() if not torch.equal(weights, before[name])}
    assert not any("embeddings" in name or "layers.0." in name for name in changed)
    assert any("layers.1." in name for name in changed)
    with pytest.raises(UsageError, match="frozen_layers is 99; the model has"):
        trained(folder, tmp_path / "more", frozen_layers=99)
