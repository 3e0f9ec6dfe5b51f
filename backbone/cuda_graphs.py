"""CUDA graphs for short inference batches, whose time goes into launching kernels one by one.

A graph replays fixed shapes, so batches are rounded up to buckets; attention stays within a sequence, so the
tokens added, a sequence of their own, change no other. Axes: T tokens, D width.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import AttentionPlan
from .attention_dispatch import choose
from .model import ModernBert
from .packing import PackedBatch

_STEP = 64
"""Tokens by which buckets grow: less than a kernel's tile is added to a batch."""

_WARM_UPS = 3  # In them kernels are compiled and libraries choose their algorithms.


class Bucket(NamedTuple):
    """The shapes of one graph."""

    tokens: int
    sequences: int


def bucket_of(batch: PackedBatch) -> Bucket:
    """The smallest bucket with room for the batch and one more sequence, which takes the tokens added."""
    tokens = -(-len(batch.input_ids_T) // _STEP) * _STEP
    return Bucket(tokens, 1 << len(batch.lengths).bit_length())


def padded_to(batch: PackedBatch, bucket: Bucket) -> PackedBatch:
    """The batch, one sequence that owns the tokens added (id 0), and empty sequences for the rest."""
    tokens, sequences = bucket.tokens - len(batch.input_ids_T), bucket.sequences - len(batch.lengths)
    assert tokens >= 0 < sequences
    return PackedBatch(
        F.pad(batch.input_ids_T, (0, tokens)),
        F.pad(batch.cu_seqlens, (0, sequences), value=bucket.tokens),
        (*batch.lengths, tokens, *[0] * (sequences - 1)),
    )


class GraphedEncoder:
    """``encoder(batch)`` is ``model(batch)``, replayed from a CUDA graph where ``replays`` says so.

    The first batch of each bucket waits for a capture; the ``max_graphs`` buckets used last are kept. Graphs
    follow weights that change in place: after moving, casting or replacing them make a new encoder. Threads
    may share one encoder if they share a CUDA stream.
    """

    def __init__(self, model: ModernBert, max_tokens: int = 1024, max_graphs: int = 32):
        self.model = model
        self.max_tokens = min(max_tokens, model.config.max_position_embeddings)
        self.max_graphs = max_graphs
        self._graphs: OrderedDict[Bucket, _Graph] = OrderedDict()
        self._lock = Lock()

    def __call__(self, batch: PackedBatch) -> Tensor:
        """Hidden states [T, D] of the batch, in its order."""
        if not self.replays(batch):
            return self.model(batch)
        bucket = bucket_of(batch)
        padded = padded_to(batch, bucket)
        with self._lock, torch.cuda.device(batch.input_ids_T.device):
            # Put back last, where the latest used stand.
            graph = self._graphs[bucket] = self._graphs.pop(bucket, None) or self._capture(padded)
            if len(self._graphs) > self.max_graphs:
                self._graphs.popitem(last=False)
            return graph.replay(padded)[: len(batch.input_ids_T)].clone()

    def replays(self, batch: PackedBatch) -> bool:
        """Whether a graph computes the batch: a short one, in inference, by a CUDA kernel for packed states.

        Autocast is left out, for its cached weights are no graph's; ALiBi, for not every kernel has it.
        """
        weight = self.model.embeddings.tok_embeddings.weight
        fits = 0 < len(batch.input_ids_T) <= self.max_tokens // _STEP * _STEP
        trains = self.model.training or torch.is_grad_enabled() or torch.is_autocast_enabled("cuda")
        if trains or not (fits and weight.is_cuda) or self.model.config.positions == "alibi":
            return False
        return choose(weight.device, weight.dtype, AttentionPlan.of(batch)) in ("flash", "varlen")

    @cached_property
    def _side(self) -> "_Side":
        return _Side(torch.cuda.Stream(), torch.cuda.graph_pool_handle())

    # Inference mode would give the graph tensors that cannot be written to outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _capture(self, padded: PackedBatch) -> "_Graph":
        ids_T, cu_seqlens = padded.input_ids_T.clone(), padded.cu_seqlens.clone()
        # The CUDA kernels read offsets from the device, and of the lengths only the longest there can be.
        batch = PackedBatch(ids_T, cu_seqlens, (len(ids_T),))
        self._side.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side.stream):
            for _ in range(_WARM_UPS):
                self.model(batch)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, **self._side._asdict(), capture_error_mode="thread_local"):
            hidden_TD = self.model(batch)
        return _Graph(batch, hidden_TD, graph)


class _Side(NamedTuple):
    """Where graphs are captured, and the memory that they share: one replays at a time, its output copied."""

    stream: torch.cuda.Stream
    pool: Any


@dataclass
class _Graph:
    batch: PackedBatch
    hidden_TD: Tensor
    graph: torch.cuda.CUDAGraph

    def replay(self, padded: PackedBatch) -> Tensor:
        self.batch.input_ids_T.copy_(padded.input_ids_T)
        self.batch.cu_seqlens.copy_(padded.cu_seqlens)
        self.graph.replay()
        return self.hidden_TD
