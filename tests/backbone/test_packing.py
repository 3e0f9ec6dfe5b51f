from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.backbone.packing import PackedBatch, budget_batches, repad, unpad

MASKS = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda shape: st.lists(
        st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@given(mask=MASKS)
def test_repad_undoes_unpad(mask: list[list[bool]]) -> None:
    mask_NL = torch.tensor(mask)
    ids_NL = torch.arange(1, mask_NL.numel() + 1).view_as(mask_NL)
    batch, positions_T = unpad(ids_NL, mask_NL.long())
    assert len(batch.input_ids_T) == mask_NL.sum()
    assert torch.equal(
        repad(batch.input_ids_T[:, None], positions_T, shape=mask_NL.shape)[..., 0], ids_NL * mask_NL
    )


@given(mask=MASKS)
def test_unpad_keeps_rows_whole_and_puts_equal_lengths_together(mask: list[list[bool]]) -> None:
    mask_NL = torch.tensor(mask)
    ids_NL = torch.arange(mask_NL.numel()).view_as(mask_NL)
    batch, _ = unpad(ids_NL, mask_NL)
    rows = [tuple(ids[kept].tolist()) for ids, kept in zip(ids_NL, mask_NL, strict=True) if kept.any()]
    came = [tuple(ids.tolist()) for ids in batch.input_ids_T.split(list(batch.lengths))]
    assert sorted(came) == sorted(rows)
    assert list(batch.lengths) == sorted(batch.lengths) == [len(row) for row in came]
    assert batch.cu_seqlens.tolist() == [0, *torch.tensor(batch.lengths).cumsum(0).tolist()]
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.max_seqlen == max(batch.lengths, default=0)


@given(mask=MASKS, data=st.data())
def test_kept_tokens_stay_and_are_no_keys(mask: list[list[bool]], data: st.DataObject) -> None:
    attended_NL = torch.tensor(mask)
    rows, columns = attended_NL.shape
    row = st.lists(st.booleans(), min_size=columns, max_size=columns)
    keep_NL = torch.tensor(data.draw(st.lists(row, min_size=rows, max_size=rows)))
    ids_NL = torch.arange(attended_NL.numel()).view_as(attended_NL)
    batch, _ = unpad(ids_NL, attended_NL, keep_mask_NL=keep_NL)
    assert set(batch.input_ids_T.tolist()) == set(ids_NL[attended_NL | keep_NL].tolist())
    assert batch.key_mask_T is not None
    assert set(batch.input_ids_T[batch.key_mask_T].tolist()) == set(ids_NL[attended_NL].tolist())


def test_without_kept_tokens_there_is_no_key_mask() -> None:
    assert unpad(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3)).batch.key_mask_T is None


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120))
def test_budget_batches_cover_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(budget_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[index] for index in batch]
        assert sum(sizes) <= budget or len(batch) == 1
        assert sizes == sorted(sizes)
    # The next text would not have fitted, and no batch holds a longer text than the one before it.
    for batch, following in pairwise(batches):
        assert sum(lengths[index] for index in batch) + lengths[following[-1]] > budget
        assert lengths[batch[0]] >= lengths[following[-1]]


def test_sequences_are_laid_end_to_end() -> None:
    batch = PackedBatch.from_sequences([[5, 6], [7], [8, 9, 10]])
    assert batch.input_ids_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.cu_seqlens.tolist() == [0, 2, 3, 6]
    assert (batch.lengths, batch.max_seqlen) == ((2, 1, 3), 3)


def test_no_sequences_are_an_empty_batch_of_ids() -> None:
    batch = PackedBatch.from_sequences([])
    assert (len(batch.input_ids_T), batch.cu_seqlens.tolist(), batch.max_seqlen) == (0, [0], 0)
    assert batch.input_ids_T.dtype == torch.long


def test_an_empty_sequence_is_named() -> None:
    with pytest.raises(FlatcoatError, match="sequence 1 is empty"):
        PackedBatch.from_sequences([[1], [], [2]])
