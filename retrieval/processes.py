"""The processes that torchrun started for one run."""

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Which of how many processes this is, and how to wait for the others; the first call joins them."""
    # Without a GPU accelerate joins processes only where it is told so.
    return PartialState(cpu=not torch.cuda.is_available())
