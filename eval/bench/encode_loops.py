"""From documents to pooled vectors, batch by batch, against the clock: ours packed, theirs padded, in turns.

Axes: N documents, L padded length, T tokens of all documents together, D width.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch, budget_batches

Documents = list[list[int]]
"""Token ids of documents."""

Encode = Callable[[Documents], Tensor]
"""Any number of documents to their mean-pooled hidden states, float32 [N, D] on the CPU, in order."""

Forward = Callable[[Documents], Tensor]
"""One batch of documents, whole, to its mean-pooled hidden states, float32 [N, D] on the device."""

Batches = Callable[[Sequence[int]], Iterable[list[int]]]
"""Lengths of documents to the positions of those that share a batch."""

TOKEN_BUDGET = {"cpu": 16_384, "cuda": 65_536}
"""Tokens of one batch, ours packed and theirs padded alike."""

TRAINING_BUDGET = {"cpu": 8192, "cuda": 16_384}
"""Tokens of one training step, which keeps the states of every layer."""

_WARM_UP = 512


class Measured(NamedTuple):
    """Real tokens a second in the median pass (0: out of memory), and the vectors of the last."""

    tokens_per_second: float
    vectors_ND: Tensor | None


def measure(
    encoders: dict[str, Encode],
    texts: Documents,
    passes: int,
    on_turn: Callable[[str], None] = lambda name: None,
) -> dict[str, Measured]:
    """Time each encoder ``passes`` times, all taking turns, after a warm-up."""
    # On CUDA kernels are chosen and memory is reserved by shape, so only the whole set warms up.
    warm_up = texts if torch.cuda.is_available() else [text[:_WARM_UP] for text in texts[:1]]
    tokens = sum(map(len, texts))
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors: dict[str, Tensor] = {}
    exhausted: set[str] = set()
    for turn in range(passes + 1):
        for name, encode in encoders.items():
            if name in exhausted:
                continue
            on_turn(name)
            taken = _timed(encode, texts if turn else warm_up)
            if taken is None:
                exhausted.add(name)
            elif turn:
                seconds[name].append(taken[0])
                vectors[name] = taken[1]
    return {
        name: Measured(0.0, None)
        if name in exhausted
        else Measured(tokens / statistics.median(seconds[name]), vectors[name])
        for name in encoders
    }


def _timed(encode: Encode, texts: Documents) -> tuple[float, Tensor] | None:
    """Seconds and vectors of one pass; None where the device ran out of memory."""
    _settle()
    began = time.perf_counter()
    try:
        vectors_ND = encode(texts)
        _settle()
        return time.perf_counter() - began, vectors_ND
    except torch.cuda.OutOfMemoryError:
        pass
    _free()
    return None


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """The largest size up to ``limit`` that fits, 0 where 1 does not: by doubling, then bisection.

    Sizes above 64 are found to within 1/64.
    """
    fit, tried = 0, min(1, limit)
    while fit < limit and fits(tried):
        fit, tried = tried, min(2 * tried, limit)
    while tried - fit > max(1, fit // 64):
        middle = (fit + tried) // 2
        fit, tried = (middle, tried) if fits(middle) else (fit, middle)
    return fit


def fits_in_memory(forward: Forward, texts: Documents) -> Callable[[int], bool]:
    """Whether one forward of so many documents runs; the set is repeated where it holds fewer."""

    def fits(size: int) -> bool:
        try:
            _free()
            forward([texts[index % len(texts)] for index in range(size)])
            _settle()
        except RuntimeError:
            # Beside OutOfMemoryError: libraries report their own failed allocations and too large launches.
            return False
        return True

    return fits


def packed_forward(model: ModernBert, device: str) -> Forward:
    """Our encoder on one batch laid end to end."""

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
    """Encode documents batch by batch and put their vectors back in order."""

    def encode(texts: Documents) -> Tensor:
        order: list[int] = []
        parts: list[Tensor] = []
        for indices in batches([len(text) for text in texts]):
            order += indices
            parts.append(forward([texts[index] for index in indices]))
        return torch.cat(parts).cpu()[torch.tensor(order).argsort()]

    return encode


def padded_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group documents, longest first, so that a batch padded to its longest stays within ``max_tokens``."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, max_tokens // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def matrix_products(config: ModernBertConfig, dtype: torch.dtype, device: str) -> Encode:
    """The linear layers' products alone, over the same tokens: no encoder can be faster in this precision."""
    width, inner = config.hidden_size, config.intermediate_size
    shapes = ((width, 3 * width), (width, width), (width, 2 * inner), (inner, width))
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
