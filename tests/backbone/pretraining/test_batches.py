"""The steps of a phase: the same micro batches for any number of processes, and from any state on."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.batches import Loader, MaskedBatch, PhasePlan, Step, prefetch
from flatcoat.backbone.pretraining.masking import Masker
from flatcoat.backbone.pretraining.schedule import batch_tokens
from flatcoat.backbone.pretraining.settings import Phase
from flatcoat.backbone.pretraining.shards import Shards
from flatcoat.backbone.pretraining.stream import SequenceStream, Span

PHASE = Phase(
    name="a",
    tokens=20_000,
    length=32,
    learning_rate=1,
    batch_tokens=1_024,
    first_batch_tokens=256,
    batch_warmup_tokens=6_000,
)


@pytest.fixture
def plan(shards: Shards, tokenizer: PreTrainedTokenizerFast):  # type: ignore[no-untyped-def]
    cls_id, sep_id = tokenizer.cls_token_id, tokenizer.sep_token_id

    def make(phase: Phase = PHASE) -> PhasePlan:
        loader = Loader([shards], Masker.of(tokenizer, 0.3), cls_id=cls_id, sep_id=sep_id, seed=3)
        stream = SequenceStream([shards], weights=[None], length=32, seed=3)
        return PhasePlan(phase, stream, loader, micro_batch_tokens=128)

    return make


def same(one: MaskedBatch, two: MaskedBatch) -> bool:
    tensors = [(batch.batch.input_ids_T, batch.labels_M, batch.original_ids_T) for batch in (one, two)]
    return one.seed == two.seed and all(map(torch.equal, *tensors))


def test_micro_batches_are_full_and_steps_have_their_size(plan) -> None:  # type: ignore[no-untyped-def]
    made = plan()
    steps = list(made.steps())
    for step in steps:
        count = len(step.batches)
        assert count == max(1, round(batch_tokens(PHASE, step.tokens_before) / 128))
        assert step.tokens == sum(len(batch.original_ids_T) for batch in step.batches) <= step.batch_room
    assert [len(step.batches) for step in steps][:: len(steps) - 1] == [2, 8]
    assert made.tokens == sum(step.tokens for step in steps) >= PHASE.tokens
    assert made.packing > 0.99
    assert made.steps_done == len(steps)


def test_a_batch_holds_the_text_it_names(shards: Shards, tokenizer: PreTrainedTokenizerFast) -> None:
    cls_id, sep_id = tokenizer.cls_token_id, tokenizer.sep_token_id
    loader = Loader([shards], Masker.of(tokenizer, 0.3), cls_id=cls_id, sep_id=sep_id, seed=3)
    spans = [Span(0, 100, 9), Span(0, 7, 4)]
    batch = loader.load(spans, 5)
    assert batch.batch.lengths == (6, 11)
    expected = [cls_id, *shards.tokens(7, 11), sep_id, cls_id, *shards.tokens(100, 109), sep_id]
    assert batch.original_ids_T.tolist() == expected
    assert torch.equal(batch.original_ids_T[batch.positions_M], batch.labels_M)
    other = loader.load(spans, 6)
    assert not torch.equal(batch.positions_M, other.positions_M)


def test_processes_share_the_batches_of_one(plan) -> None:  # type: ignore[no-untyped-def]
    even = PHASE.model_copy(update={"first_batch_tokens": None, "batch_warmup_tokens": 0})
    alone = list(plan(even).steps())
    both = list(zip(plan(even).steps(0, 2), plan(even).steps(1, 2), strict=True))
    assert len(alone) == len(both)
    for one, (first, second) in zip(alone, both, strict=True):
        assert one.state == first.state == second.state
        shared = [batch for pair in zip(first.batches, second.batches, strict=True) for batch in pair]
        assert len(shared) == len(one.batches)
        assert all(map(same, one.batches, shared))


@pytest.mark.parametrize("done", [1, 7, 20])
def test_a_phase_goes_on_from_any_step(plan, done: int) -> None:  # type: ignore[no-untyped-def]
    whole = list(plan().steps())
    resumed = plan()
    resumed.restore(whole[done - 1].state)
    rest = list(resumed.steps())
    assert len(rest) == len(whole) - done
    for one, two in zip(whole[done:], rest, strict=True):
        assert one.state == two.state
        assert all(map(same, one.batches, two.batches))


def test_loading_ahead_changes_nothing_and_raises_here(plan) -> None:  # type: ignore[no-untyped-def]
    ahead = list(prefetch(plan().steps()))
    assert [step.state for step in ahead] == [step.state for step in plan().steps()]
    assert len(list(islice(prefetch(plan().steps()), 2))) == 2

    def failing() -> Iterator[Step]:
        yield ahead[0]
        raise ValueError("no more")

    steps = prefetch(failing())
    next(steps)
    with pytest.raises(ValueError, match="no more"):
        next(steps)


def test_masks_of_another_seed_differ(shards: Shards, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = {"cls_id": tokenizer.cls_token_id, "sep_id": tokenizer.sep_token_id}
    spans = [Span(0, 0, 60)]
    one, two = (
        Loader([shards], Masker.of(tokenizer, 0.3), **ids, seed=seed).load(spans, 0) for seed in (1, 2)
    )
    assert not np.array_equal(one.positions_M.numpy(), two.positions_M.numpy())
