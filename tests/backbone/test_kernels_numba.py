"""The kernels of one core against plain PyTorch. Axes: T tokens, D width."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from flatcoat.backbone import elementwise, elementwise_cpu
from flatcoat.backbone.elementwise import activated, add_norm, gated, normed, rotated_qkv
from flatcoat.backbone.elementwise_cpu import Rows, uses_numba
from flatcoat.backbone.positions import Rotary, rotary_table
from flatcoat.backbone.quantization import quantize_activations

TOKENS = 300


@pytest.fixture(autouse=True)
def alone(threads: Callable[[int], None]) -> Iterator[None]:
    threads(1)
    with torch.inference_mode():
        yield


def random(width: int, seed: int = 0) -> Tensor:
    return torch.randn(TOKENS, width, generator=torch.Generator().manual_seed(seed)) * 3


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "uses_numba", lambda *_: False)


def test_kernels_are_for_many_rows_of_a_thread_alone() -> None:
    states = random(8)
    assert uses_numba(states)
    assert uses_numba(states.bfloat16())
    assert not uses_numba(states[:10])
    assert not uses_numba(states.double())
    assert not uses_numba(random(16)[:, :8])
    torch.set_num_threads(2)
    assert not uses_numba(states)
    torch.set_num_threads(1)
    with torch.inference_mode(False), torch.enable_grad():
        assert not uses_numba(states)


@pytest.mark.parametrize("heads, width", [(2, 64), (3, 6), (1, 2)])
def test_apply_rotary_is_plain_pytorch(heads: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    projected_TE = random(3 * heads * width)
    table = rotary_table(torch.arange(TOKENS) % 70, 70, head_width=width, theta=10_000.0, dtype=torch.float32)
    came = rotated_qkv(projected_TE.clone(), heads, table)
    plainly(monkeypatch)
    for found, expected in zip(came, rotated_qkv(projected_TE, heads, table), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("inner", [1, 7, 96])
def test_gate_is_gelu_times_the_second_half(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    projected_T2I = random(2 * inner)
    projected_T2I[0, :inner] = torch.linspace(-30, 30, inner)
    came = gated(projected_T2I, "gelu")
    plainly(monkeypatch)
    exact = gated(projected_T2I.double(), "gelu")
    assert (came - exact).abs().max() <= 1.5 * (gated(projected_T2I, "gelu") - exact).abs().max() + 1e-6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [1, 5, 128])
def test_add_norm_is_a_sum_and_its_layer_norm(
    width: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = nn.LayerNorm(width, eps=1e-5, bias=bias)
    norm.weight.copy_(torch.linspace(0.5, 2, width))
    if bias:
        norm.bias.copy_(torch.linspace(-1, 1, width))
    states = random(width), random(width, 1)
    came = add_norm(*states, norm)
    plainly(monkeypatch)
    for found, expected in zip(came, add_norm(*states, norm), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 5, 128])
def test_bytes_hold_each_row_to_half_a_step(width: int) -> None:
    states = random(width) * torch.logspace(-20, 20, TOKENS)[:, None]
    states[7] = 0
    fast = quantize_activations(states)
    assert fast.codes_TI.dtype == torch.uint8
    back = (fast.codes_TI.float() - 128) * fast.scales_T[:, None]
    assert ((back - states).abs() <= 0.501 * fast.scales_T[:, None]).all()
    torch.set_num_threads(2)
    slow = quantize_activations(states)
    torch.testing.assert_close(fast.scales_T, slow.scales_T)
    assert (fast.codes_TI.int() - slow.codes_TI.int()).abs().max() <= 1


def test_bfloat16_is_read_and_rounded_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = nn.LayerNorm(96).bfloat16()
    hidden_TD, update_TD = random(96), random(96, 1).bfloat16()
    projected_TE = random(3 * 2 * 64).bfloat16()
    table = rotary_table(torch.arange(TOKENS) % 70, 70, head_width=64, theta=10_000.0, dtype=torch.bfloat16)

    def steps() -> list[Tensor]:
        return [
            *rotated_qkv(projected_TE.clone(), 2, table),
            gated(projected_TE, "gelu"),
            *add_norm(hidden_TD, update_TD, norm),
            normed(hidden_TD, norm, torch.bfloat16),
        ]

    came = steps()
    plainly(monkeypatch)
    for found, expected in zip(came, steps(), strict=True):
        assert found.dtype == expected.dtype
        # Rounded once where plain steps round several times: equal, or a step apart.
        torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)
        assert (found == expected).float().mean() > 0.5


def test_a_format_without_a_kernel_is_left_to_torch() -> None:
    norm = nn.LayerNorm(32).half()
    came = normed(random(32), norm, torch.float16)
    assert came.dtype == torch.float16
    torch.testing.assert_close(came.float(), norm.float()(random(32)), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("heads, width", [(2, 64), (3, 6)])
def test_apply_rotary_in_training_is_plain_pytorch_with_its_gradients(
    heads: int, width: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(cores)
    table = rotary_table(torch.arange(TOKENS) % 70, 70, head_width=width, theta=10_000.0, dtype=torch.float32)
    found: list[list[Tensor]] = []
    with torch.inference_mode(False), torch.enable_grad():
        for kernels in (True, False):
            monkeypatch.setattr(elementwise_cpu, "trains_in_numba", lambda _, kernels=kernels: kernels)
            states = random(3 * heads * width).clone().requires_grad_()
            rotated = rotated_qkv(states * 1, heads, Rotary(*(part.clone() for part in table)))
            weights = [random(width, seed)[:, None].clone() for seed in range(3)]
            sum((part * weight).sum() for part, weight in zip(rotated, weights, strict=True)).backward()
            assert states.grad is not None
            found.append([part.detach() for part in rotated] + [states.grad])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=4e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inner", [1, 7, 96])
def test_activated_is_gelu(inner: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    states_TI = random(inner).to(dtype)
    states_TI[0] = torch.linspace(-30, 30, inner)
    came = activated(states_TI, "gelu")
    plainly(monkeypatch)
    expected = activated(states_TI.float(), "gelu").to(dtype)
    torch.testing.assert_close(came, expected, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activated_rows_are_scaled_shifted_and_quantised(dtype: torch.dtype) -> None:
    projected_TI, scales_T, bias_I = random(24).to(dtype), random(1, 1).abs().flatten(), random(24, 2)[0]
    came = elementwise_cpu.activated_quantized(projected_TI, scales_T, bias_I)
    activated_TI = nn.functional.gelu(projected_TI.float() * scales_T[:, None] + bias_I)
    assert_rows_are(came, activated_TI)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_added_normed_and_quantised(dtype: torch.dtype) -> None:
    hidden_TD, update_TD, scales_T = random(40), random(40, 1).to(dtype), random(1, 2).abs().flatten()
    norm = nn.LayerNorm(40, eps=1e-12)
    norm.weight.data, norm.bias.data, bias_D = random(40, 3)[0], random(40, 4)[0], random(40, 5)[0]
    came = elementwise_cpu.add_norm_quantized(hidden_TD, update_TD, scales_T, bias_D=bias_D, norm=norm)
    expected_TD = norm(hidden_TD + update_TD.float() * scales_T[:, None] + bias_D)
    torch.testing.assert_close(came.states_TD, expected_TD, rtol=1e-5, atol=1e-4)
    assert_rows_are(came.rows, came.states_TD)


@pytest.mark.parametrize("heads, width", [(2, 64), (3, 6), (1, 2)])
def test_heads_are_laid_together(heads: int, width: int) -> None:
    projected_TE, scales_T = random(3 * heads * width), random(1, 1).abs().flatten()
    bias_E = random(3 * heads * width, 2)[0]
    came = elementwise_cpu.laid_in_heads(projected_TE, scales_T, bias_E, heads)
    whole_TE = projected_TE * scales_T[:, None] + bias_E
    for found, expected in zip(came, whole_TE.unflatten(-1, (3, heads, width)).unbind(1), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def assert_rows_are(rows: Rows, states_TI: Tensor) -> None:
    """Each component within half a step of its row."""
    values_TI = (rows.codes_TI.float() - 128) * rows.scales_T[:, None]
    steps_T1 = states_TI.abs().amax(dim=1, keepdim=True) / 127
    assert ((values_TI - states_TI).abs() <= 0.501 * steps_T1 + 1e-6).all()
