"""BatchMaxSim against PyLate's scores, forward and backward.

Axes: B queries, N documents, Q query tokens, L document tokens, D width.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flatcoat.retrieval.training.maxsim import BatchMaxSim

ColBERTScores = pytest.importorskip("pylate.scores").ColBERTScores


def compare(
    queries: Tensor, documents: Tensor, queries_mask: Tensor | None, documents_mask: Tensor | None
) -> None:
    queries.requires_grad_()
    documents.requires_grad_()
    found = []
    for metric in (ColBERTScores(), BatchMaxSim()):
        scores = metric(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        upstream = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
        found.append([scores, *torch.autograd.grad((scores * upstream).sum(), [queries, documents])])
    for expected, came in zip(*found, strict=True):
        torch.testing.assert_close(came, expected, rtol=1e-5, atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 5),
    masked=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_scores_and_gradients_are_those_of_pylate(
    shape: tuple[int, int, int, int, int], masked: tuple[bool, bool], seed: int
) -> None:
    queries_count, groups, per_query, query_tokens, tokens = shape
    generator = torch.Generator().manual_seed(seed)
    queries_BQD = torch.randn(queries_count, query_tokens, 6, generator=generator)
    documents_NLD = torch.randn(groups, per_query, tokens, 6, generator=generator)
    queries_mask = torch.rand(queries_count, query_tokens, generator=generator) < 0.6
    documents_mask = torch.rand(groups, per_query, tokens, generator=generator) < 0.6
    compare(
        queries_BQD,
        documents_NLD,
        queries_mask if masked[0] else None,
        documents_mask if masked[1] else None,
    )


def test_a_masked_document_hides_what_is_below_zero() -> None:
    query = torch.tensor([[[1.0, 0.0]]])
    document = torch.tensor([[[[-0.5, 0.0], [0.9, 0.0]]]])
    only_first = torch.tensor([[[True, False]]])
    assert BatchMaxSim()(query, document, None, only_first).item() == 0
    assert BatchMaxSim()(query, document).item() == pytest.approx(0.9)
    compare(query, document, None, only_first)


def test_documents_and_queries_without_tokens_score_zero() -> None:
    queries, documents = torch.randn(2, 3, 4), torch.randn(3, 1, 5, 4)
    kept = torch.ones(3, 1, 5, dtype=torch.bool)
    kept[1] = False
    asked = torch.tensor([[True, True, False], [False, False, False]])
    scores = BatchMaxSim()(queries, documents, asked, kept)
    assert scores.shape == (2, 3)
    assert (scores[:, 1] == 0).all()
    assert (scores[1] == 0).all()
    compare(queries, documents, asked, kept)
    compare(queries.detach(), documents.detach(), None, torch.zeros_like(kept))


def test_half_precision_is_summed_in_full() -> None:
    queries = torch.randn(2, 30, 8, dtype=torch.bfloat16, requires_grad=True)
    documents = torch.randn(3, 1, 9, 8, dtype=torch.bfloat16, requires_grad=True)
    scores = BatchMaxSim()(queries, documents)
    scores.sum().backward()
    assert scores.dtype == torch.float32
    assert queries.grad is not None
    assert queries.grad.dtype == torch.bfloat16
    expected = ColBERTScores()(queries.detach().float(), documents.detach().float())
    torch.testing.assert_close(scores, expected, rtol=0.02, atol=0.2)
