"""Averages of weights, which generalise better than the last: over the steps of a run, and with its start.

average = decay * average + (1 - decay) * weights, after every optimiser step; in the first steps the decay is
smaller, (1 + step) / (10 + step), so that the start is forgotten.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

_FILE = "average.safetensors"


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights that are trained, by name."""
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    return {name: weights.detach().clone() for name, weights in trained.items()}


@torch.no_grad()
def mix_in(model: nn.Module, weights: Mapping[str, torch.Tensor], share: float) -> None:
    """Give the model (1 - ``share``) of its own weights and ``share`` of these.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> mix_in(model, {"weight": torch.tensor([[4.0]])}, 0.25)
    >>> model.weight.item()
    1.0
    """
    own = dict(model.named_parameters())
    for name, others in weights.items():
        own[name].lerp_(others.to(own[name].device), share)


class WeightAverage(TrainerCallback):
    """The average of the weights that are trained; a trainer's callback that updates it.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> average = WeightAverage(model, decay=0.9)
    >>> _ = nn.init.ones_(model.weight)
    >>> average.update(step=100)
    >>> with average.in_place():
    ...     print(f"{model.weight.item():.2f}")
    0.10
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self._average = trained_weights(model)
        self._decay = decay

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.update(state.global_step)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after an optimiser step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, weights in self._trained.items():
            self._average[name].lerp_(weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context, the model has the average for weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the average for weights, for good."""
        for name, weights in self._trained.items():
            weights.copy_(self._average[name])

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint's folder."""
        save_file({name: weights.contiguous() for name, weights in self._average.items()}, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Read the average from a checkpoint's folder."""
        saved = load_file(folder / _FILE)
        self._average = {name: saved[name].to(weights.device) for name, weights in self._trained.items()}

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weights in self._trained.items():
            kept = weights.clone()
            weights.copy_(self._average[name])
            self._average[name].copy_(kept)
