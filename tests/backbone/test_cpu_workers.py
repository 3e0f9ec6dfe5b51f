"""A batch dealt out to the cores gives what it gives in one."""

import os
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.backbone import cpu_workers, elementwise_cpu
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.cpu_workers import encode_in_parallel, split_evenly
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch


@pytest.fixture(autouse=True)
def two_threads(threads: Callable[[int], None]) -> None:
    threads(2)


@pytest.fixture(scope="module")
def model() -> ModernBert:
    torch.manual_seed(0)
    return ModernBert(
        ModernBertConfig(
            vocab_size=100,
            hidden_size=64,
            intermediate_size=48,
            num_hidden_layers=4,
            num_attention_heads=2,
            local_attention=16,
            initializer_range=0.1,
            pad_token_id=0,
        )
    ).eval()


def batch_of(lengths: list[int], masked: bool = False) -> PackedBatch:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(1, 100, (length,), generator=generator).tolist() for length in lengths]
    batch = PackedBatch.from_sequences(ids)
    if not masked:
        return batch
    mask_T = torch.arange(sum(lengths)) % 3 > 0
    mask_T[batch.cu_seqlens[:-1].long()] = True
    return PackedBatch(batch.input_ids_T, batch.cu_seqlens, batch.lengths, mask_T)


@given(st.lists(st.integers(1, 3000), max_size=60), st.integers(2, 8))
@settings(deadline=None)
def test_every_sequence_is_dealt_once_and_evenly(lengths: list[int], count: int) -> None:
    pieces = split_evenly(lengths, count)
    if not pieces:
        return
    assert sorted(index for piece in pieces for index in piece) == list(range(len(lengths)))
    assert len(pieces) % count == 0
    loads = [sum(lengths[index] for index in piece) for piece in pieces]
    assert max(loads) <= 1.1 * sum(lengths) / len(pieces)


def test_what_does_not_divide_stays_whole() -> None:
    assert split_evenly([], 2) == []
    assert split_evenly([8192], 2) == []
    assert split_evenly([2000, 1000], 2) == []
    assert split_evenly([100, 100], 2) == []
    assert split_evenly([600, 600], 2) == [[0], [1]]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", [[600, 600], [30] * 50, [9, 400, 300, 700, 128, 64, 500, 220, 130]])
def test_a_batch_dealt_out_is_the_batch_in_one(model: ModernBert, lengths: list[int], masked: bool) -> None:
    batch = batch_of(lengths, masked)
    assert split_evenly(batch.lengths, 2)
    with torch.no_grad():
        whole_TD = model._encode(batch)
        dealt_TD = model(batch)
    with torch.inference_mode():
        again_TD = model(batch)
    torch.testing.assert_close(dealt_TD, whole_TD, rtol=1e-5, atol=1e-5)
    assert torch.equal(again_TD, dealt_TD)
    assert not dealt_TD.is_inference() and again_TD.is_inference()
    assert torch.get_num_threads() == 2


def test_gradients_and_single_threads_take_no_other_thread(
    model: ModernBert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise AssertionError("no other thread is wanted")

    monkeypatch.setattr(cpu_workers, "_workers", refuse)
    monkeypatch.setattr(elementwise_cpu, "share_rows", lambda work, count: work(slice(0, count)))
    model(batch_of([600, 600])).sum().backward()
    model.zero_grad()
    torch.set_num_threads(1)
    with torch.no_grad():
        model(batch_of([600, 600]))


def test_each_thread_computes_alone() -> None:
    counts = []

    def count(part: PackedBatch) -> torch.Tensor:
        part.input_ids_T.float() @ torch.ones(len(part.input_ids_T), 1)
        counts.append(torch.get_num_threads())
        return part.input_ids_T[:, None]

    with torch.no_grad():
        encode_in_parallel(count, batch_of([600, 600]))
    assert counts == [1, 1]
    assert torch.get_num_threads() == 2


def test_an_error_in_a_thread_is_raised_here() -> None:
    def broken(_: PackedBatch) -> torch.Tensor:
        raise ValueError("out of order")

    with torch.no_grad(), pytest.raises(ValueError, match="out of order"):
        encode_in_parallel(broken, batch_of([600, 600]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    def identity(part: PackedBatch) -> torch.Tensor:
        return part.input_ids_T[:, None]

    batch = batch_of([600, 600])
    with torch.no_grad():
        encode_in_parallel(identity, batch)
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(encode_in_parallel(identity, batch)[:, 0], batch.input_ids_T) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
