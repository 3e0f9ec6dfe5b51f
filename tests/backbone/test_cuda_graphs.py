"""Batches rounded up to the shape of a CUDA graph, and the graphs where there is a GPU."""

import pytest
import torch
from torch import Tensor

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.cuda_graphs import Bucket, GraphedEncoder, bucket_of, padded_to
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch

LENGTHS = [[1], [63], [64], [5, 1, 30, 9], [1] * 8, [20] * 7, [200, 3, 130]]


@pytest.fixture(scope="module")
def model(config: ModernBertConfig) -> ModernBert:
    torch.manual_seed(0)
    return ModernBert(config).eval()


def random_batch(lengths: list[int], device: str = "cpu") -> PackedBatch:
    generator = torch.Generator().manual_seed(sum(lengths))
    sequences = [torch.randint(5, 300, (length,), generator=generator).tolist() for length in lengths]
    return PackedBatch.from_sequences(sequences, device)


def test_buckets_have_room_for_one_more_sequence() -> None:
    assert [bucket_of(random_batch(lengths)) for lengths in LENGTHS] == [
        Bucket(64, 2),
        Bucket(64, 2),
        Bucket(64, 2),
        Bucket(64, 8),
        Bucket(64, 16),
        Bucket(192, 8),
        Bucket(384, 4),
    ]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_padded_batch_is_a_batch_of_its_bucket(lengths: list[int]) -> None:
    batch = random_batch(lengths)
    bucket = bucket_of(batch)
    padded = padded_to(batch, bucket)
    assert len(padded.input_ids_T) == bucket.tokens == sum(padded.lengths)
    assert len(padded.lengths) == len(padded.cu_seqlens) - 1 == bucket.sequences
    assert padded.cu_seqlens.dtype == torch.int32
    assert torch.equal(padded.cu_seqlens.diff(), torch.tensor(padded.lengths, dtype=torch.int32))
    assert torch.equal(padded.input_ids_T[: len(batch.input_ids_T)], batch.input_ids_T)


@pytest.mark.parametrize("attention", ["grouped", "reference"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_added_tokens_change_no_other(
    model: ModernBert, lengths: list[int], attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATCOAT_ATTENTION", attention)
    batch = random_batch(lengths)
    with torch.inference_mode():
        expected_TD = model(batch)
        came_TD = model(padded_to(batch, bucket_of(batch)))[: len(expected_TD)]
    assert (came_TD - expected_TD).abs().max() <= 1e-6 * max(1.0, float(expected_TD.abs().max()))


def test_without_a_gpu_the_model_computes(model: ModernBert) -> None:
    batch = random_batch([5, 9])
    encoder = GraphedEncoder(model)
    with torch.inference_mode():
        assert not encoder.replays(batch)
        assert torch.equal(encoder(batch), model(batch))


@pytest.fixture
def gpu_model(model: ModernBert) -> ModernBert:
    twin = ModernBert(model.config).eval()
    twin.load_state_dict(model.state_dict())
    return twin.to("cuda", torch.bfloat16)


def near(came_TD: Tensor, expected_TD: Tensor) -> bool:
    """Other shapes may be multiplied by other kernels, which round elsewhere."""
    return bool((came_TD - expected_TD).abs().max() <= 0.03 * expected_TD.abs().max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_replay_the_model(gpu_model: ModernBert) -> None:
    encoder = GraphedEncoder(gpu_model, max_graphs=2)
    for lengths in [*LENGTHS, *reversed(LENGTHS)]:
        batch = random_batch(lengths, "cuda")
        with torch.inference_mode():
            assert encoder.replays(batch)
            came_TD = encoder(batch)
            assert near(came_TD, gpu_model(batch))
        with torch.no_grad():
            assert torch.equal(encoder(batch), came_TD)
        assert len(encoder._graphs) <= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_no_graph_can_do_is_left_to_the_model(gpu_model: ModernBert) -> None:
    encoder = GraphedEncoder(gpu_model)
    short = random_batch([5, 9], "cuda")
    masked = PackedBatch(short.input_ids_T, short.cu_seqlens, short.lengths, short.input_ids_T > 0)
    assert not encoder.replays(short)
    with torch.no_grad():
        assert encoder.replays(short)
        assert not encoder.replays(masked)
        assert not encoder.replays(random_batch([1025], "cuda"))
        assert not encoder.replays(PackedBatch.from_sequences([], "cuda"))
        assert not GraphedEncoder(gpu_model.float()).replays(short)
