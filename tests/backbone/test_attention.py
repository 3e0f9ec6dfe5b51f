"""The fast attention against its definition, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flatcoat import FlatcoatError
from flatcoat.backbone.attention import BLOCK, AttentionPlan, reference_attention
from flatcoat.backbone.attention_cpu import grouped_attention
from flatcoat.backbone.attention_dispatch import KERNELS, choose, obstacle
from flatcoat.backbone.packing import cumulative

HEADS, WIDTH = 2, 8
LENGTHS = st.lists(
    st.one_of(st.integers(1, 300), st.sampled_from([1, 8, 9, 10, 64, 65, 66, 79, 80, 81, 192, 193])),
    min_size=1,
    max_size=4,
)


def states(tokens: int, seed: int) -> list[Tensor]:
    """Query, key and value [T, H, D] that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, HEADS, WIDTH, generator=generator).requires_grad_() for _ in range(3)]


def plan_of(
    lengths: list[int], key_mask_T: Tensor | None = None, slopes_H: Tensor | None = None
) -> AttentionPlan:
    return AttentionPlan(cumulative(lengths), tuple(lengths), key_mask_T, slopes_H)


def key_mask(tokens: int, seed: int) -> Tensor:
    """Random, with a key kept in every window: a query that sees nothing has no gradient by definition."""
    random = torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) < 0.5
    return random | (torch.arange(tokens) % 4 == 0)


@given(
    lengths=LENGTHS,
    window=st.sampled_from([None, 8, 64]),
    masked=st.booleans(),
    sloped=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_grouped_attention_is_the_reference(
    lengths: list[int], window: int | None, masked: bool, sloped: bool, seed: int
) -> None:
    tokens = sum(lengths)
    mask_T = key_mask(tokens, seed) if masked else None
    if mask_T is not None:
        mask_T[cumulative(lengths)[:-1].long()] = True
    slopes_H = torch.tensor([0.5, 0.01]) if sloped else None
    inputs = states(tokens, seed)
    upstream = torch.randn(tokens, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    found = {}
    for attend in (reference_attention, grouped_attention):
        output = attend(*inputs, plan_of(lengths, mask_T, slopes_H), window)
        found[attend] = [output, *torch.autograd.grad(output, inputs, upstream)]
    for expected, came in zip(found[reference_attention], found[grouped_attention], strict=True):
        torch.testing.assert_close(came, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 8, 64])
@pytest.mark.parametrize("lengths", [[5, 5, 5], [300, 1, 300], [200, 200], [1]])
def test_queries_that_see_no_key_get_zeros(window: int | None, lengths: list[int]) -> None:
    inputs = states(sum(lengths), 0)
    mask_T = torch.ones(sum(lengths), dtype=torch.bool)
    mask_T[: lengths[0]] = False
    output = grouped_attention(*inputs, plan_of(lengths, mask_T), window)
    assert output[: lengths[0]].abs().max() == 0
    torch.testing.assert_close(
        output, reference_attention(*inputs, plan_of(lengths, mask_T), window), rtol=1e-5, atol=1e-5
    )
    for gradient in torch.autograd.grad(output.sum(), inputs):
        assert gradient.isfinite().all()


def test_the_window_counts_tokens_on_each_side() -> None:
    tokens, window = 3 * BLOCK + 2 * 8, 8
    query, key, _ = states(tokens, 0)
    value = torch.eye(tokens)[:, None].expand(tokens, HEADS, tokens).contiguous()
    seen = grouped_attention(query, key, value, plan_of([tokens]), window)[:, 0] > 0
    positions = torch.arange(tokens)
    assert torch.equal(seen, (positions[:, None] - positions).abs() <= window)


def test_masks_are_made_once_a_forward() -> None:
    plan = plan_of([300, 300, 100])
    for _ in range(3):
        grouped_attention(*states(700, 0), plan, 8)
    assert len(plan._masks) == 2
    assert plan.runs == [(0, 2, 300), (600, 1, 100)]


def test_hidden_keys_are_found_once_a_forward() -> None:
    plan = plan_of([300, 300, 100, 5], key_mask(705, 0))
    for window in (8, None):
        grouped_attention(*states(705, 0), plan, window)
    made = {name: id(mask) for name, mask in plan._masks.items()}
    for window in (8, None):
        grouped_attention(*states(705, 0), plan, window)
    assert {name: id(mask) for name, mask in plan._masks.items()} == made
    # Bands of two lengths; hidden keys of three runs, of the two that a window cuts twice.
    assert len(made) == 2 + 3 + 2


def test_nothing_in_nothing_out() -> None:
    assert grouped_attention(*states(0, 0), plan_of([]), 8).shape == (0, HEADS, WIDTH)


@pytest.mark.parametrize("window", [None, 8, 64])
@pytest.mark.parametrize("held", [1, 5_000, 1 << 23])
def test_bfloat16_inference_agrees_with_the_reference(
    window: int | None, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatcoat.backbone.attention_cpu._SCORES", held)
    lengths = [1, 3, 3, 70, 200, 300]
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(sum(lengths), 2, 16, generator=generator).bfloat16() for _ in range(3)]
    for mask_T in (None, torch.arange(sum(lengths)) % 3 > 0):
        plan = plan_of(lengths, mask_T)
        with torch.inference_mode():
            fast = grouped_attention(*states, plan, window)
            slow = reference_attention(*states, plan, window)
        attended = slow.abs().amax(dim=(1, 2)) > 0  # A token that sees nothing has no defined mixture.
        assert fast.dtype == torch.bfloat16
        assert not fast.isnan().any()
        assert (fast - slow)[attended].abs().max() <= 0.03


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_processor_attends_in_groups() -> None:
    assert choose(CPU, torch.bfloat16) == "grouped"
    assert obstacle("varlen", CPU, dtype=torch.bfloat16) == "needs a CUDA device"


def test_kernels_of_a_gpu_leave_what_they_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.backbone.attention_dispatch.has_flash", lambda: False)
    monkeypatch.setattr("flatcoat.backbone.attention_dispatch.has_varlen", lambda: True)
    mask_T = torch.ones(3, dtype=torch.bool)
    assert choose(CUDA, torch.bfloat16, plan=plan_of([3])) == "varlen"
    assert choose(CUDA, torch.float32, plan=plan_of([3])) == "grouped"
    assert choose(CUDA, torch.bfloat16, plan=plan_of([3], mask_T)) == "grouped"
    assert choose(CUDA, torch.bfloat16, plan=plan_of([3], slopes_H=torch.ones(2))) == "grouped"
    monkeypatch.setattr("flatcoat.backbone.attention_dispatch.has_flash", lambda: True)
    assert choose(CUDA, torch.bfloat16, plan=plan_of([3], slopes_H=torch.ones(2))) == "flash"


def test_a_kernel_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATCOAT_ATTENTION", "reference")
    assert choose(CPU, torch.float32) == "reference"
    monkeypatch.setenv("FLATCOAT_ATTENTION", "varlen")
    with pytest.raises(FlatcoatError, match="varlen needs a CUDA device"):
        choose(CPU, torch.float32)
    monkeypatch.setenv("FLATCOAT_ATTENTION", "fast")
    with pytest.raises(FlatcoatError, match="'fast': auto, flash, varlen, grouped, reference are known"):
        choose(CPU, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", ["varlen", "flash", "grouped"])
@pytest.mark.parametrize("window", [None, 64])
def test_gpu_kernels_are_the_reference(kernel: str, window: int | None) -> None:
    lengths = [1, 3, 70, 200, 300]
    plan = plan_of(lengths)
    plan.cu_seqlens = plan.cu_seqlens.cuda()
    if reason := obstacle(kernel, CUDA, dtype=torch.bfloat16, plan=plan):
        pytest.skip(reason)
    generator = torch.Generator("cuda").manual_seed(0)
    inputs = [
        torch.randn(
            sum(lengths), HEADS, 64, generator=generator, device="cuda", dtype=torch.bfloat16
        ).requires_grad_()
        for _ in range(3)
    ]
    upstream = torch.randn(sum(lengths), HEADS, 64, generator=generator, device="cuda").bfloat16()
    found = []
    for attend in (reference_attention, KERNELS[kernel]):
        output = attend(*inputs, plan, window)
        found.append([output, *torch.autograd.grad(output, inputs, upstream)])
    for expected, came in zip(*found, strict=True):
        assert (came - expected).abs().max() <= 0.03 * expected.abs().max()
