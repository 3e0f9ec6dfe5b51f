"""MaxSim for training: late-interaction scores of every query against every document of a batch.

The gradient of a maximum reaches one document token per query token, so the backward touches those alone,
where a plain implementation keeps, masks and differentiates the whole score matrix.

Vectors of all processes are gathered, so that a query's negatives are the documents of all of them.
torch.distributed.nn.all_gather has no backward on CPUs (gloo lacks all-to-all); all-reduce is enough here.
Axes: N documents, B queries, Q tokens of all queries together, T tokens of all documents together, D width.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sentence_transformers import losses as dense
from torch import Tensor


class BatchMaxSim:
    """Scores as ``pylate.scores.ColBERTScores``: a ``score_metric`` of PyLate's contrastive losses."""

    def __call__(
        self,
        queries: Tensor,
        documents: Tensor,
        queries_mask: Tensor | None = None,
        documents_mask: Tensor | None = None,
    ) -> Tensor:
        """[B, tokens, D] against [N, per query, tokens, D], masks True at real tokens: [B, N * per query].

        A masked document token scores 0, as in PyLate: it hides a best match below 0.
        """
        documents = documents.flatten(0, 1)
        kept = torch.ones_like(documents[..., 0], dtype=torch.bool)
        if documents_mask is not None:
            kept = documents_mask.flatten(0, 1).bool()
        asked = (
            torch.ones_like(queries[..., 0], dtype=torch.bool)
            if queries_mask is None
            else queries_mask.bool()
        )
        best_NQ: Tensor = _MaxSim.apply(queries[asked], documents[kept], kept.sum(dim=1).tolist())  # type: ignore[assignment]
        floor_N1 = torch.where(kept.all(dim=1), float("-inf"), 0.0)[:, None]
        best_QN = best_NQ.maximum(floor_N1.to(best_NQ.dtype)).T
        query_of_Q = asked.nonzero()[:, 0]
        return best_QN.new_zeros(len(queries), len(documents)).index_add(0, query_of_Q, best_QN)


class _MaxSim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries_QD: Tensor, documents_TD: Tensor, lengths: list[int]) -> Tensor:
        # Summed over a query's tokens later: float32 even where the vectors are bfloat16.
        shape = (len(lengths), len(queries_QD))
        best_NQ = torch.full(shape, float("-inf"), device=queries_QD.device)
        where_NQ = torch.zeros(shape, dtype=torch.long, device=best_NQ.device)
        start = 0
        for index, length in enumerate(lengths):
            if length:
                scores_LQ = documents_TD[start : start + length] @ queries_QD.T
                best_NQ[index], where_Q = scores_LQ.max(dim=0)
                where_NQ[index] = where_Q + start
                start += length
        ctx.save_for_backward(queries_QD, documents_TD, where_NQ)
        ctx.filled = [index for index, length in enumerate(lengths) if length]
        return best_NQ

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        queries_QD, documents_TD, where_NQ = ctx.saved_tensors
        (grad_NQ,) = grads
        queries, documents = queries_QD.float(), documents_TD.float()
        grad_queries, grad_documents = torch.zeros_like(queries), torch.zeros_like(documents)
        for index in ctx.filled:
            grad_Q1, where_Q = grad_NQ[index, :, None], where_NQ[index]
            grad_queries.addcmul_(grad_Q1, documents[where_Q])
            grad_documents.index_add_(0, where_Q, grad_Q1 * queries)
        return grad_queries.to(queries_QD.dtype), grad_documents.to(documents_TD.dtype), None


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
