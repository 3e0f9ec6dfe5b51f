"""StableAdamW against its formula, written out plainly."""

import copy

import numpy as np
import torch
from torch import nn

from flatcoat.backbone.pretraining.optimizer import StableAdamW, make_optimizer, set_rates
from flatcoat.backbone.pretraining.settings import Optimization, Phase

PHASE = Phase(name="a", tokens=1, learning_rate=0.02, batch_tokens=1, weight_decay=0.01)


def by_formula(
    weight: np.ndarray, gradients: list[np.ndarray], rates: list[float], peak: float
) -> np.ndarray:
    """Adam's means with bias correction, the rate over max(1, RMS), decay in proportion to the rate."""
    beta1, beta2, eps = 0.9, 0.98, 1e-6
    mean = square = np.zeros_like(weight)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        m, v = mean / (1 - beta1**step), square / (1 - beta2**step)
        rms = np.sqrt(np.mean(gradient**2 / np.maximum(v, eps**2)))
        own = rate / max(1.0, rms)
        weight = weight * (1 - own / peak * 0.01) - own * m / (np.sqrt(v) + eps)
    return weight


def test_a_hundred_steps_equal_the_formula() -> None:
    draw = np.random.default_rng(0)
    start = draw.normal(size=(7, 5))
    # Surprises, and a column whose gradients are below eps.
    gradients = [
        draw.normal(size=(7, 5)) * (30 if step % 9 == 0 else 1) * ([1, 1, 1, 1, 1e-9]) for step in range(100)
    ]
    rates = [0.02 * (1 - step / 120) for step in range(100)]
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = StableAdamW([weight], lr=0.02, weight_decay=0.01)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = by_formula(start, gradients, rates, peak=0.02)
    assert abs(expected - start).max() > 0.1
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-6)


def test_float32_stays_within_a_millionth_of_it() -> None:
    draw = np.random.default_rng(1)
    start = (0.1 * draw.normal(size=(20, 30))).astype(np.float32)
    gradients = [draw.normal(size=(20, 30)).astype(np.float32) for _ in range(100)]
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = StableAdamW([weight], lr=1e-3, weight_decay=0.01)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = by_formula(start.astype(float), [g.astype(float) for g in gradients], [1e-3] * 100, 1e-3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-6)


def test_norms_and_biases_do_not_decay_and_nothing_else_changes_them() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    before = copy.deepcopy(module.state_dict())
    optimizer = make_optimizer(module, Optimization())
    set_rates(optimizer, PHASE, 0.01)
    optimizer.step()
    for name, weight in module.state_dict().items():
        factor = 1 - 0.5 * 0.01 if name == "0.weight" else 1.0
        torch.testing.assert_close(weight, before[name] * factor)


def test_its_state_is_saved_and_loaded() -> None:
    def steps(weight: nn.Parameter, optimizer: StableAdamW, count: range) -> None:
        for step in count:
            weight.grad = torch.full_like(weight, step % 5 - 1.5)
            optimizer.step()

    one = nn.Parameter(torch.ones(4))
    optimizer = StableAdamW([one], lr=0.1)
    steps(one, optimizer, range(20))
    two = nn.Parameter(torch.ones(4))
    first = StableAdamW([two], lr=0.1)
    steps(two, first, range(7))
    second = StableAdamW([two], lr=0.1)
    second.load_state_dict(first.state_dict())
    steps(two, second, range(7, 20))
    assert torch.equal(one, two)
