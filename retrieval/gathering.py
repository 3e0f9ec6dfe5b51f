"""Vectors of all processes, so that a query's negatives are the documents of all of them.

torch.distributed.nn.all_gather has no backward on CPUs: gloo lacks all-to-all. Here all-reduce is enough.
Axes: B rows of this process, C documents of a row, L document tokens, D width, W processes.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sentence_transformers import losses as dense
from torch import Tensor

from .maxsim import BatchMaxSim


def gathered(rows: Tensor) -> Tensor:
    """[B, ...] of every process, laid end to end by rank: [W * B, ...], with gradients from all processes.

    Every process must bring the same shape. Alone, a process gets its own rows back.
    """
    return _Gather.apply(rows) if dist.is_initialized() else rows  # type: ignore[return-value]


class GatheredContrast(dense.MultipleNegativesRankingLoss):
    """sentence-transformers' multiple negatives over the batch of all processes, the same on each of them."""

    def compute_loss_from_embeddings(self, embeddings: Iterable[Tensor], labels: Tensor) -> Tensor:
        return super().compute_loss_from_embeddings([gathered(vectors) for vectors in embeddings], labels)


class GatheredMaxSim(BatchMaxSim):
    """MaxSim of this process's queries against its own documents, then those of the others."""

    def __call__(
        self,
        queries: Tensor,
        documents: Tensor,
        queries_mask: Tensor | None = None,
        documents_mask: Tensor | None = None,
    ) -> Tensor:
        """[B, tokens, D] against [B, C, L, D]: [B, W * B * C]."""
        mask_BCL = torch.ones_like(documents[..., 0]) if documents_mask is None else documents_mask
        if dist.is_initialized():
            longest = torch.tensor(documents.shape[2], device=documents.device)
            dist.all_reduce(longest, op=dist.ReduceOp.MAX)
            missing = int(longest) - documents.shape[2]
            own_first = -dist.get_rank() * len(documents)
            documents = gathered(F.pad(documents, (0, 0, 0, missing))).roll(own_first, dims=0)
            mask_BCL = gathered(F.pad(mask_BCL.to(documents.dtype), (0, missing))).roll(own_first, dims=0)
        return super().__call__(queries, documents, queries_mask, mask_BCL)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # What all processes ask of these rows; the trainer's mean over processes follows.
        whole = grads[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]
