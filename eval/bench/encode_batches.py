"""From documents to pooled vectors, batch by batch: packed (ours) and padded (transformers).

Axes: N documents, L padded length, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch, budget_batches

Documents = list[list[int]]
"""Token ids of documents."""

Encode = Callable[[Documents], Tensor]
"""All documents to their mean-pooled hidden states, float32 [N, D] on the CPU, in order."""

Forward = Callable[[Documents], Tensor]
"""One batch of documents to their mean-pooled hidden states, float32 [N, D] on the device."""

Batches = Callable[[Sequence[int]], Iterable[list[int]]]
"""Lengths of documents to batches of their positions."""

TOKEN_BUDGET = {"cpu": 16_384, "cuda": 65_536}
"""Tokens per batch, packed or padded."""

TRAINING_BUDGET = {"cpu": 8192, "cuda": 16_384}
"""Tokens per training step, which keeps the states of every layer."""


def packed_forward(model: ModernBert, device: str) -> Forward:
    """Our encoder on one packed batch."""

    def forward(texts: Documents) -> Tensor:
        batch = PackedBatch.from_sequences(texts, device)
        lengths_N = torch.tensor(batch.lengths, device=device)
        return torch.segment_reduce(model(batch).float(), "mean", lengths=lengths_N)

    return forward


def padded_forward(model: nn.Module, device: str) -> Forward:
    """A transformers model on one batch padded to its longest document."""

    def forward(texts: Documents) -> Tensor:
        ids_NL = nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True).to(
            device
        )
        lengths_N1 = torch.tensor([len(text) for text in texts], device=device)[:, None]
        mask_NL = torch.arange(ids_NL.shape[1], device=device) < lengths_N1
        hidden_NLD = model(input_ids=ids_NL, attention_mask=mask_NL.long()).last_hidden_state.float()
        return (hidden_NLD * mask_NL[..., None]).sum(dim=1) / lengths_N1

    return forward


def in_batches(forward: Forward, batches: Batches) -> Encode:
    """An encoder that runs batch by batch and returns vectors in the order of documents."""

    def encode(texts: Documents) -> Tensor:
        order: list[int] = []
        parts: list[Tensor] = []
        for indices in batches([len(text) for text in texts]):
            order += indices
            parts.append(forward([texts[index] for index in indices]))
        return torch.cat(parts).cpu()[torch.tensor(order).argsort()]

    return encode


def padded_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Batches, longest documents first, that padded to their longest have at most ``max_tokens``.

    >>> list(padded_batches([10, 90, 30, 30], 100))
    [[1], [2, 3, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, max_tokens // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def matrix_products(config: ModernBertConfig, dtype: torch.dtype, *, device: str) -> Encode:
    """The matrix products of the linear layers alone: no encoder can be faster in this precision."""
    width, inner = config.hidden_size, config.intermediate_size
    projected = (2 if config.mlp_kind == "glu" else 1) * inner
    shapes = ((width, 3 * width), (width, width), (width, projected), (inner, width))
    layers = [nn.Linear(*shape, bias=False, device=device, dtype=dtype) for shape in shapes]
    token = {size: torch.randn(1, size, device=device, dtype=dtype) for size in (width, inner)}

    @torch.inference_mode()
    def encode(texts: Documents) -> Tensor:
        for indices in budget_batches([len(text) for text in texts], TOKEN_BUDGET[device]):
            tokens = sum(len(texts[index]) for index in indices)
            inputs = {size: row.repeat(tokens, 1) for size, row in token.items()}
            for _ in range(config.num_hidden_layers):
                for layer in layers:
                    layer(inputs[layer.in_features])
        return torch.zeros(len(texts), width)

    return encode
