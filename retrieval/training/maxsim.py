"""MaxSim for training, with gradients: every query of a batch against every document, across processes too.

Search has its own, without gradients: flatcoat.indexing.exact (over all documents), flatcoat.indexing.plaid
(over compressed vectors) and flatcoat.retrieval.rerank (per pair).

A maximum passes its gradient to one document token per query token. The backward here touches those tokens
alone, where a plain implementation keeps, masks and differentiates the whole score matrix [B, N, Q, L].

Axes: B queries of this process, N documents, C documents per query, P processes, D width, L padded length. Q
counts the query tokens of all queries together, T the document tokens of all documents together, masked ones
left out.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sentence_transformers import losses as dense
from torch import Tensor


class BatchMaxSim:
    """Scores of all queries of a batch with all documents, equal to PyLate's ``ColBERTScores``.

    >>> queries, documents = torch.eye(2)[:, None], torch.eye(2)[:, None, None]
    >>> BatchMaxSim()(queries, documents)
    tensor([[1., 0.],
            [0., 1.]])
    """

    def __call__(
        self,
        queries: Tensor,
        documents: Tensor,
        queries_mask: Tensor | None = None,
        documents_mask: Tensor | None = None,
    ) -> Tensor:
        """[B, L, D] against [B, C, L, D], each with its own L, masks True at real tokens: [B, N], N = B * C.

        A masked query token adds nothing. A masked document token scores 0, as in PyLate: it hides a best
        match below 0.
        """
        documents_NLD = documents.flatten(0, 1)
        real_NL = torch.ones_like(documents_NLD[..., 0], dtype=torch.bool)
        if documents_mask is not None:
            real_NL = documents_mask.flatten(0, 1).bool()
        real_BL = torch.ones_like(queries[..., 0], dtype=torch.bool)
        if queries_mask is not None:
            real_BL = queries_mask.bool()
        best_NQ: Tensor = _MaxSim.apply(  # type: ignore[assignment]
            queries[real_BL], documents_NLD[real_NL], real_NL.sum(dim=1).tolist()
        )
        # Masked tokens were left out of the product; where a document has any, their 0 is put back here.
        floor_N1 = torch.where(real_NL.all(dim=1), float("-inf"), 0.0)[:, None]
        best_QN = best_NQ.maximum(floor_N1.to(best_NQ.dtype)).T
        query_of_Q = real_BL.nonzero()[:, 0]
        return best_QN.new_zeros(len(queries), len(documents_NLD)).index_add(0, query_of_Q, best_QN)


class _MaxSim(torch.autograd.Function):
    """The best inner product of every query token in every document, [N, Q]; -inf in a document of no tokens.

    ``lengths`` counts the tokens of each document, which lie end to end in ``documents_TD``.
    """

    @staticmethod
    def forward(ctx: Any, queries_QD: Tensor, documents_TD: Tensor, lengths: list[int]) -> Tensor:
        # Summed over a query's tokens later: float32 even where the vectors are bfloat16.
        shape = (len(lengths), len(queries_QD))
        best_NQ = torch.full(shape, float("-inf"), device=queries_QD.device)
        argmax_NQ = torch.zeros(shape, dtype=torch.long, device=best_NQ.device)
        start = 0
        # One document at a time: the scores of all would be the matrix that this avoids.
        for index, length in enumerate(lengths):
            if length:
                scores_TQ = documents_TD[start : start + length] @ queries_QD.T
                best_NQ[index], argmax_Q = scores_TQ.max(dim=0)
                argmax_NQ[index] = argmax_Q + start
                start += length
        ctx.save_for_backward(queries_QD, documents_TD, argmax_NQ)
        ctx.filled = [index for index, length in enumerate(lengths) if length]
        return best_NQ

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        # d best[n, q] / d query[q] is the document token that was best, and the other way round. Summed in
        # float32, for a token may be best for many query tokens.
        queries_QD, documents_TD, argmax_NQ = ctx.saved_tensors
        (grad_NQ,) = grads
        queries, documents = queries_QD.float(), documents_TD.float()
        grad_queries, grad_documents = torch.zeros_like(queries), torch.zeros_like(documents)
        for index in ctx.filled:
            grad_Q1, argmax_Q = grad_NQ[index, :, None], argmax_NQ[index]
            grad_queries.addcmul_(grad_Q1, documents[argmax_Q])
            grad_documents.index_add_(0, argmax_Q, grad_Q1 * queries)
        return grad_queries.to(queries_QD.dtype), grad_documents.to(documents_TD.dtype), None


def gathered(rows: Tensor) -> Tensor:
    """[B, ...] of every process, laid end to end by rank: [P * B, ...], with gradients from all processes.

    Every process must bring the same shape. A single process gets its own rows back.
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
        """[B, L, D] against [B, C, L, D], each with its own L: [B, P * B * C]."""
        mask_BCL = torch.ones_like(documents[..., 0]) if documents_mask is None else documents_mask
        if dist.is_initialized():
            # Processes pad to different lengths, and a gather takes equal shapes.
            longest = torch.tensor(documents.shape[2], device=documents.device)
            dist.all_reduce(longest, op=dist.ReduceOp.MAX)
            missing = int(longest) - documents.shape[2]
            # Rolled so that a query's own document stands where the loss expects it: at its own number.
            own_first = -dist.get_rank() * len(documents)
            documents = gathered(F.pad(documents, (0, 0, 0, missing))).roll(own_first, dims=0)
            mask_BCL = gathered(F.pad(mask_BCL.to(documents.dtype), (0, missing))).roll(own_first, dims=0)
        return super().__call__(queries, documents, queries_mask, mask_BCL)


class _Gather(torch.autograd.Function):
    """All-gather whose backward is an all-reduce.

    torch.distributed.nn.all_gather has no backward on CPUs, since gloo lacks all-to-all.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The losses of all processes depend on these rows: the gradients are their sum. The trainer averages
        # over processes afterwards.
        whole = grads[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]
