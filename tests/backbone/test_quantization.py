"""8-bit inference against float32, and its fused steps against the plain ones."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flatcoat import FlatcoatError
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.presets import preset
from flatcoat.backbone.quantization import Int8Layer, Int8Linear, Int8PostNormLayer, _steps, quantize

CONFIG = ModernBertConfig(
    vocab_size=100,
    hidden_size=128,
    intermediate_size=96,
    num_hidden_layers=4,
    num_attention_heads=2,
    local_attention=16,
    initializer_range=0.1,
    pad_token_id=0,
)


def batch_of(lengths: list[int]) -> PackedBatch:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(1, 100, (length,), generator=generator).tolist() for length in lengths]
    return PackedBatch.from_sequences(ids)


def pooled(hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    return torch.stack([part.mean(dim=0) for part in hidden_TD.split(list(batch.lengths))])


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_stays_near_float32(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(256, 96, bias=bias)
    states = torch.randn(40, 256) * torch.logspace(-3, 3, 40)[:, None]
    with torch.inference_mode():
        exact, came = linear(states), Int8Linear(linear)(states)
    assert ((came - exact).norm(dim=1) <= 0.015 * exact.norm(dim=1)).all()


def test_products_have_a_kernel_of_their_own() -> None:
    """oneDNN's reference loop takes a hundred times as long, and nothing else would tell."""
    code = (
        "import torch; from torch import nn; from flatcoat.backbone.quantization import Int8Linear\n"
        "linear = Int8Linear(nn.Linear(64, 32))\n"
        "linear.products(torch.zeros(300, 64, dtype=torch.uint8)); linear(torch.zeros(300, 64))"
    )
    logging = os.environ | {"ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=logging)
    kernels = [line.split(",")[6] for line in done.stdout.splitlines() if ",exec,cpu,matmul," in line]
    assert done.returncode == 0 and len(kernels) == 2, done.stderr
    assert not any(kernel.startswith("ref") for kernel in kernels), kernels


def test_a_token_does_not_depend_on_its_batch(threads: Callable[[int], None]) -> None:
    torch.manual_seed(0)
    model = quantize(ModernBert(CONFIG))
    lengths = [300, 20, 500, 70]
    batch = batch_of(lengths)
    for count in (1, 2):
        threads(count)
        with torch.inference_mode():
            together = model(batch).split(lengths)
            for ids, hidden_LD in zip(batch.input_ids_T.split(lengths), together, strict=True):
                alone_LD = model(PackedBatch.from_sequences([ids.tolist()]))
                # A rounding that falls the other way moves a value by a step.
                assert torch.cosine_similarity(alone_LD, hidden_LD).min() >= 0.999


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_bias": True},
        {"attention_bias": True, "mlp_bias": True},
        {"positions": "alibi"},
        {"norm_position": "post", "mlp_kind": "mlp"},
        {"norm_kind": "rmsnorm", "activation": "silu"},
    ],
)
def test_every_shape_keeps_the_direction_of_its_embeddings(
    changes: dict, threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    model = ModernBert(replace(CONFIG, **changes)).eval()
    quantized = quantize(model)
    fused = sum(isinstance(layer, Int8Layer) for layer in quantized.layers)
    assert fused == (4 if set(changes) <= {"norm_bias"} or "positions" in changes else 0)
    batch = batch_of([40, 300, 90])
    with torch.inference_mode():
        exact = pooled(model(batch), batch)
        for count in (1, 2):
            threads(count)
            assert torch.cosine_similarity(pooled(quantized(batch), batch), exact).min() >= 0.995


def test_fused_steps_are_the_plain_steps(threads: Callable[[int], None]) -> None:
    torch.manual_seed(0)
    quantized = quantize(ModernBert(CONFIG))
    batch = batch_of([300, 280])
    with torch.inference_mode():
        threads(1)
        fused_TD = quantized._encode(batch)
        threads(2)
        plain_TD = quantized._encode(batch)
    assert torch.cosine_similarity(fused_TD, plain_TD).min() >= 0.9999


def test_the_shipped_model_keeps_its_embeddings(threads: Callable[[int], None]) -> None:
    from transformers import AutoTokenizer

    root = Path(__file__).parents[2]
    folder = root / "retrieval" / "minilm"
    model = ModernBert.from_pretrained(folder, torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    texts = [file.read_text()[:1500] for file in sorted((root / "backbone").glob("*.py"))]
    batch = PackedBatch.from_sequences(tokenizer(texts, truncation=True, max_length=300)["input_ids"])
    threads(1)
    with torch.inference_mode():
        exact_TD, came_TD = model(batch), quantize(model)(batch)
    # Without VNNI weights have half the steps, and float32 is the default of the shipped model.
    least = 0.995 if _steps() == 127 else 0.993
    assert torch.cosine_similarity(pooled(came_TD, batch), pooled(exact_TD, batch)).min() >= least
    assert torch.cosine_similarity(came_TD, exact_TD).mean() >= 0.99


def test_where_there_are_no_bytes_to_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlatcoatError, match="8-bit inference is for CPUs, and the model is on meta"):
        quantize(ModernBert(CONFIG).to("meta"))
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    with pytest.raises(FlatcoatError, match="needs oneDNN, which this PyTorch lacks"):
        quantize(ModernBert(CONFIG))


def test_the_model_it_came_from_is_left_alone() -> None:
    torch.manual_seed(0)
    model = ModernBert(CONFIG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize(model)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_fused_steps_of_bert_are_the_plain_ones(threads: Callable[[int], None]) -> None:
    threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = ModernBert(preset("bert-base", vocab_size=100, initializer_range=0.1, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    batch = batch_of([300, 20, 500, 70])
    fused, plain = quantize(model), quantize(model)
    assert all(isinstance(layer, Int8PostNormLayer) for layer in fused.layers)
    for index, layer in enumerate(plain.layers):
        plain.layers[index] = layer.layer
    with torch.inference_mode():
        exact, came, expected = (pooled(one(batch), batch) for one in (model, fused, plain))
    cosine = nn.functional.cosine_similarity
    assert cosine(came, expected).min() >= 0.999
    assert cosine(came, exact).min() >= 0.999
