"""Floating-point operations of a training step, and how many the device does in plain matrix products."""

import time

import torch

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.packing import PackedBatch

_SIZES = {"cpu": 512, "cuda": 8192}


def training_flops(config: ModernBertConfig, batch: PackedBatch, *, predicted: int) -> float:
    """Forward and backward of a masked-language-model step: matrix products and attention, nothing twice.

    The backward counts twice the forward; layers that are computed again are not counted again, as in the
    usual definition of model FLOPs utilisation (arXiv 2204.02311).
    """
    width, inner = config.hidden_size, config.intermediate_size
    layers = config.steps
    products = 4 * width * width + (3 if config.mlp_kind == "glu" else 2) * width * inner
    forward = 2.0 * sum(batch.lengths) * len(layers) * products
    for layer in layers:
        window = config.window(layer)
        reach = float("inf") if window is None else 2 * window + 1
        forward += 4.0 * width * sum(length * min(length, reach) for length in batch.lengths)
    forward += 2.0 * predicted * width * (width + config.vocab_size)
    return 3 * forward


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of large square products on this device: the best of five."""
    size = _SIZES[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        (left @ right).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
