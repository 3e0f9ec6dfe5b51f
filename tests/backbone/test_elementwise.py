"""The GPU's kernels against plain PyTorch, and plain PyTorch against definitions in float64.

Without a GPU the kernels run in Triton's interpreter, which has to be asked for before Triton is imported:
this file is then run once more in a process of its own. Axes: T tokens, H heads, W head width, D width.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatcoat import FlatcoatError
from flatcoat.backbone import elementwise
from flatcoat.backbone.positions import Rotary, rotary_table

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
DTYPES = [torch.float32, torch.bfloat16]
# The interpreter cuts bfloat16 off where a GPU rounds it: up to one unit in the last place, 2^-7.
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9}
NORMS = ["layernorm", "bias", "no weight", "rmsnorm", "rmsnorm, torch's eps"]
Step = Callable[..., tuple[Tensor, ...]]
Plain = Callable[[Step, list[Tensor]], list[Tensor]]

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None or DEVICE == "cuda" or INTERPRETED,
    reason="needs Triton, and no GPU that runs the kernels of the tests above",
)
kernels = pytest.mark.skipif(
    not elementwise.uses_triton(torch.empty(0, device=DEVICE)),
    reason="needs a GPU, or TRITON_INTERPRET=1 as in test_the_kernels_run_in_the_interpreter",
)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def tables(tokens: int, width: int, dtype: torch.dtype) -> Rotary:
    """Two sequences, so that positions start again."""
    positions_T = torch.cat((torch.arange(tokens // 2), torch.arange(tokens - tokens // 2))).to(DEVICE)
    return rotary_table(positions_T, tokens, head_width=width, theta=10_000.0, dtype=dtype)


def outputs_and_gradients(step: Step, inputs: list[Tensor]) -> list[Tensor]:
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    outputs = step(*inputs)
    upstream = [randn(*output.shape, dtype=output.dtype, seed=9 + n) for n, output in enumerate(outputs)]
    return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]


def assert_same(came: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(came, expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if theirs.numel():
            error = (ours.detach().double() - theirs.detach().double()).abs().max()
            assert error <= tolerance * theirs.detach().double().abs().max(), float(error)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Plain:
    """``outputs_and_gradients`` without kernels."""

    def run(step: Step, inputs: list[Tensor]) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setenv("FLATCOAT_TRITON", "0")
            return outputs_and_gradients(step, inputs)

    return run


def rotating(tokens: int, heads: int, width: int, dtype: torch.dtype) -> Step:
    table = tables(tokens, width, dtype)
    # Times 1: a fresh tensor, as a matrix product gives, may be rotated in place.
    return lambda projected: elementwise.rotated_qkv(projected * 1, heads, table)


def gating(activation: str) -> Step:
    return lambda projected: (elementwise.gated(projected, activation),)


def norming(norm: nn.Module) -> Step:
    """``add_norm`` as a function of hidden, update and the norm's own weights."""
    names = [name for name, _ in norm.named_parameters()]

    class AddNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, hidden_TD: Tensor, update_TD: Tensor) -> tuple[Tensor, Tensor]:
            return elementwise.add_norm(hidden_TD, update_TD, self.norm)

    module = AddNorm()

    def step(hidden_TD: Tensor, update_TD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        named = {f"norm.{name}": weight for name, weight in zip(names, weights, strict=True)}
        return torch.func.functional_call(module, named, (hidden_TD, update_TD))

    return step


def norm_of(kind: str, width: int) -> nn.Module:
    if kind.startswith("rmsnorm"):
        return nn.RMSNorm(width, eps=None if "torch" in kind else 1e-5, device=DEVICE)
    return nn.LayerNorm(width, bias=kind == "bias", elementwise_affine=kind != "no weight", device=DEVICE)


def weights_of(norm: nn.Module, dtype: torch.dtype) -> list[Tensor]:
    return [1 + randn(*weight.shape, dtype=dtype, seed=n) / 5 for n, weight in enumerate(norm.parameters())]


def test_queries_and_keys_rotate_as_complex_numbers(plain: Plain) -> None:
    tokens, heads, width = 7, 2, 6
    projected = randn(tokens, 3 * heads * width)
    query, key, value, _ = plain(rotating(tokens, heads, width, torch.float32), [projected])
    angle = torch.complex(*tables(tokens, width, torch.float32)).to(torch.complex128)
    parts = projected.unflatten(-1, (3, heads, width)).unbind(1)
    for came, states in zip((query, key), parts[:2], strict=True):
        rotated = torch.complex(*states.double().chunk(2, dim=-1)) * angle
        assert_same([came.double()], [torch.cat((rotated.real, rotated.imag), dim=-1)], 1e-6)
    assert torch.equal(value, parts[2])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stream", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sum_is_normed(norm: str, stream: torch.dtype, dtype: torch.dtype, plain: Plain) -> None:
    module = norm_of(norm, 10)
    weights = weights_of(module, dtype)
    hidden, update = 3 + randn(4, 10, dtype=stream), randn(4, 10, dtype=dtype, seed=1)
    total, normed, *_ = plain(norming(module), [hidden, update, *weights])
    assert (total.dtype, normed.dtype) == (stream, dtype)
    assert torch.equal(total, (hidden + update).to(stream))
    exact = total.double() - (
        total.double().mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else 0
    )
    exact = exact / (exact.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    for weight, apply in zip(weights, (torch.mul, torch.add), strict=False):
        exact = apply(exact, weight.double())
    assert (normed.double() - exact).abs().max() <= 4 * max(TOLERANCE[stream], TOLERANCE[dtype])


def test_an_identity_passes_the_sum_on() -> None:
    hidden, update = randn(3, 4), randn(3, 4, dtype=torch.bfloat16, seed=1)
    total, normed = elementwise.add_norm(hidden, update, nn.Identity())
    assert torch.equal(total, hidden + update)
    assert torch.equal(normed, total.bfloat16())


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(FlatcoatError, match="'tanh' is not one of gelu, gelu_tanh, relu, silu"):
        elementwise.gated(randn(2, 4), "tanh")


@kernels
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@pytest.mark.parametrize("shape", [(0, 2, 8), (1, 1, 2), (5, 12, 64), (9, 3, 10)])
def test_rotary_kernel(shape: tuple[int, int, int], dtype: torch.dtype, plain: Plain) -> None:
    tokens, heads, width = shape
    step, inputs = rotating(*shape, dtype), [randn(tokens, 3 * heads * width, dtype=dtype)]
    assert_same(outputs_and_gradients(step, inputs), plain(step, inputs), TOLERANCE[dtype])


@kernels
def test_rotary_takes_no_memory(plain: Plain) -> None:
    projected = randn(5, 3 * 2 * 8)
    expected = plain(rotating(5, 2, 8, torch.float32), [projected])[:3]
    with torch.inference_mode():
        rotated = elementwise.rotated_qkv(projected, 2, tables(5, 8, torch.float32))
    assert_same(list(rotated), expected, 1e-6)
    for part in rotated:
        assert part.untyped_storage().data_ptr() == projected.untyped_storage().data_ptr()
        assert part.stride() == (48, 8, 1)


@kernels
def test_states_that_a_backward_still_needs_are_not_rotated_unnoticed() -> None:
    projected = randn(5, 48).requires_grad_() * 1
    squared = projected**2
    query = elementwise.rotated_qkv(projected, 2, tables(5, 8, torch.float32)).query_THW
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (squared.sum() + query.sum()).backward()


@kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", elementwise.ACTIVATIONS)
@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (2, 1152), (20, 100)])
def test_gating_kernel(shape: tuple[int, int], activation: str, dtype: torch.dtype, plain: Plain) -> None:
    tokens, inner = shape
    inputs = [3 * randn(tokens, 2 * inner, dtype=dtype)]
    came = outputs_and_gradients(gating(activation), inputs)
    assert_same(came, plain(gating(activation), inputs), TOLERANCE[dtype])


@kernels
@pytest.mark.parametrize("activation", elementwise.ACTIVATIONS)
def test_gating_is_finite_far_out_and_passes_nan_on(activation: str, plain: Plain) -> None:
    extremes = torch.tensor([[-1e4, -100, -6, -0.0, 0.0, 6, 100, 1e4, float("nan")]], device=DEVICE)
    inputs = [torch.cat((extremes, torch.ones_like(extremes)), dim=-1)]
    came = outputs_and_gradients(gating(activation), inputs)
    torch.testing.assert_close(came, plain(gating(activation), inputs), rtol=4e-6, atol=4e-6, equal_nan=True)
    assert came[0][:, :-1].isfinite().all()


@kernels
@pytest.mark.parametrize(("stream", "dtype"), [(d, d) for d in DTYPES] + [(torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(0, 8), (1, 5), (2, 768), (20, 100)])
def test_norm_kernel(
    shape: tuple[int, int], norm: str, stream: torch.dtype, dtype: torch.dtype, plain: Plain
) -> None:
    module = norm_of(norm, shape[1])
    inputs = [1 + randn(*shape, dtype=stream), randn(*shape, dtype=dtype, seed=1), *weights_of(module, dtype)]
    came = outputs_and_gradients(norming(module), inputs)
    assert_same(came, plain(norming(module), inputs), TOLERANCE[dtype])


@kernels
@pytest.mark.parametrize("used", [0, 1])
def test_one_output_of_a_norm_may_go_unused(used: int, plain: Plain) -> None:
    module = nn.LayerNorm(10, bias=False).to(DEVICE).requires_grad_(False)
    inputs = [randn(20, 10), randn(20, 10, dtype=torch.bfloat16, seed=1)]

    def step(hidden_TD: Tensor, update_TD: Tensor) -> tuple[Tensor, ...]:
        return (elementwise.add_norm(hidden_TD, update_TD, module)[used],)

    assert_same(outputs_and_gradients(step, inputs), plain(step, inputs), TOLERANCE[torch.bfloat16])


@kernels
def test_gradients_may_come_in_any_layout(plain: Plain) -> None:
    module = nn.LayerNorm(12).to(DEVICE)

    def step(hidden_TD: Tensor) -> tuple[Tensor, ...]:
        query, key, value = elementwise.rotated_qkv(hidden_TD * 1, 2, tables(6, 2, torch.float32))
        gates = elementwise.gated(hidden_TD, "gelu")
        normed = elementwise.add_norm(hidden_TD, hidden_TD, module).normed_TD
        return query.sum()[None], key.transpose(0, 2).flatten(), value.sum()[None], gates.T * 1, normed.sum(0)

    assert_same(outputs_and_gradients(step, [randn(6, 12)]), plain(step, [randn(6, 12)]), 1e-6)


@kernels
def test_gradients_repeat_to_the_bit() -> None:
    module = nn.LayerNorm(100).to(DEVICE)
    inputs = [randn(40, 100), randn(40, 100, seed=1), *weights_of(module, torch.float32)]
    first, second = (outputs_and_gradients(norming(module), inputs) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@needs_triton
def test_the_kernels_run_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:]


class Hopper:
    """A driver for a GPU that is not here: enough to compile for it."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The assembly of every kernel that is launched, which is compiled instead of run."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    listings: list[str] = []
    run = JITFunction.run

    def compile_only(self: Any, *arguments: Any, warmup: bool, **options: Any) -> None:
        listings.append(run(self, *arguments, warmup=True, **options).asm["ptx"])

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(elementwise, "uses_triton", lambda states: True)
    monkeypatch.setattr(driver, "_active", Hopper())
    return listings


@needs_triton
def test_the_kernels_compile_for_a_gpu_with_accesses_of_16_bytes(compiled: list[str]) -> None:
    """Of ModernBERT-base. Single accesses are left to the statistics, one of each a token."""
    tokens, dtype = 32, torch.bfloat16
    outputs_and_gradients(rotating(tokens, 12, 64, dtype), [randn(tokens, 3 * 768, dtype=dtype)])
    for activation in elementwise.ACTIVATIONS:
        outputs_and_gradients(gating(activation), [randn(tokens, 2 * 1152, dtype=dtype)])
    for kind in ("bias", "rmsnorm"):
        norm = norm_of(kind, 768)
        states = [randn(tokens, 768), randn(tokens, 768, dtype=dtype)]
        outputs_and_gradients(norming(norm), [*states, *weights_of(norm, dtype)])
    assert len(compiled) == 2 + 2 * 4 + 2 * 2
    for listing in compiled:
        accesses = re.findall(r"(?:ld|st)\.global\.(\S+)", listing)
        assert accesses.count("v4.b32") >= len(accesses) - 2
        assert set(accesses) <= {"v4.b32", "b32"}
