"""StableAdamW: AdamW whose step shrinks where a gradient surprises it, so that no gradient need be clipped.

Sources: arXiv 2304.13013 (update clipping), and the settings of ModernBERT (arXiv 2412.13663, appendix A).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from .settings import Optimization, Phase


class StableAdamW(Optimizer):
    """AdamW with a rate per tensor, ``lr / max(1, RMS)``, and fully decoupled weight decay.

    RMS is that of g / max(v, eps^2)^0.5 over the tensor, v being the debiased mean of its squared gradients.
    Weights are multiplied by 1 - rate / ``peak`` * ``weight_decay``, so that decay follows the schedule and
    does not depend on the height of the rate. Tensors may be sharded (FSDP2); states are this process's part.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> optimizer = StableAdamW([weight], lr=0.1)
    >>> weight.sum().backward()
    >>> _ = optimizer.step()
    >>> [round(value, 5) for value in weight.tolist()]
    [0.9, 0.9]
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        *,
        peak: float | None = None,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters,
            {
                "lr": lr,
                "peak": lr if peak is None else peak,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "steps": 0,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["steps"] += 1
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight, rate in zip(weights, self._rates(weights, group), strict=True):
                state, local = self.state[weight], _local(weight)
                local.mul_(1 - rate / group["peak"] * group["weight_decay"])
                local.sub_(rate * state["mean"] / state["mean_square"].sqrt().add_(group["eps"]))
        return loss

    def _rates(self, weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Move the means on, and the learning rate of each tensor."""
        if not weights:
            return []
        first, second = (_debiased(beta, group["steps"]) for beta in group["betas"])
        sums = []
        for weight in weights:
            gradient, state = _local(weight.grad), self.state[weight]
            if not state:
                state["mean"], state["mean_square"] = (torch.zeros_like(gradient) for _ in range(2))
            state["mean"].lerp_(gradient, 1 - first)
            state["mean_square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
            least = group["eps"] ** 2
            sums.append((gradient.square() / state["mean_square"].clamp(min=least)).sum())
        sizes = torch.tensor([weight.numel() for weight in weights], device=sums[0].device)
        squares = torch.stack(sums)
        if isinstance(weights[0], DTensor):
            torch.distributed.all_reduce(squares, group=weights[0].device_mesh.get_group())
        return list(group["lr"] / (squares / sizes).sqrt().clamp(min=1.0))


def make_optimizer(module: nn.Module, settings: Optimization) -> StableAdamW:
    """StableAdamW over the trained weights; norms and biases do not decay. ``set_rates`` gives it rates."""
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "decays": True},
        {"params": [weight for weight in trained if weight.ndim <= 1], "decays": False},
    ]
    return StableAdamW(
        [group for group in groups if group["params"]], lr=1.0, betas=settings.betas, eps=settings.eps
    )


def set_rates(optimizer: StableAdamW, phase: Phase, learning_rate: float) -> None:
    """The learning rate of the next step, and the decay that goes with it."""
    for group in optimizer.param_groups:
        group["lr"], group["peak"] = learning_rate, phase.learning_rate
        group["weight_decay"] = phase.weight_decay if group["decays"] else 0.0


def _debiased(beta: float, step: int) -> float:
    """The decay that makes a mean without bias of one that began at 0, as Adam's correction does."""
    return (beta**step - beta) / (beta**step - 1)


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
