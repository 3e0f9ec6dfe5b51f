"""ModernBERT in NumPy against torch, over random models of every shape that checkpoints have."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.backbone.attention import AttentionPlan, reference_attention
from flatcoat.backbone.config import ActivationName, MlpKind, ModernBertConfig, NormPosition, Positions
from flatcoat.backbone.elementwise import ACTIVATIONS as TORCH
from flatcoat.backbone.error_function import erf
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.numpy_model import ACTIVATIONS, NumpyModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.weight_shapes import weight_shapes
from flatcoat.errors import DataError

VOCABULARY = 50


@st.composite
def configs(draw: st.DrawFn) -> ModernBertConfig:
    heads, pairs = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    layers = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(("layernorm", "rmsnorm")))
    return ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=heads * pairs * 2,
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 40)),
        num_hidden_layers=layers,
        layer_types=tuple(draw(st.sampled_from(("global", "local"))) for _ in range(layers)),
        local_attention=draw(st.integers(1, 40)),
        global_rope_theta=draw(st.sampled_from([160_000.0, 100.0])),
        activation=draw(st.sampled_from(get_args(ActivationName))),
        norm_eps=draw(st.sampled_from([1e-5, 1e-3])),
        norm_kind=kind,  # type: ignore[arg-type]
        norm_bias=kind == "layernorm" and draw(st.booleans()),
        norm_position=draw(st.sampled_from(get_args(NormPosition))),
        positions=draw(st.sampled_from(get_args(Positions))),
        mlp_kind=draw(st.sampled_from(get_args(MlpKind))),
        type_vocab_size=draw(st.integers(0, 2)),
        position_offset=draw(st.integers(0, 2)),
        embedding_size=draw(st.sampled_from([0, 6])),
        layer_order=draw(st.sampled_from([(), (0,) * layers])),
        attention_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        initializer_range=0.2,
        pad_token_id=0,
    )


def random_model(config: ModernBertConfig, seed: int = 0) -> tuple[ModernBert, NumpyModernBert]:
    """A model whose norms and biases are random too, in torch and in NumPy."""
    torch.manual_seed(seed)
    model = ModernBert(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            assert weight_shapes(config)[name] == tuple(parameter.shape)
    return model, NumpyModernBert(config, {name: value.numpy() for name, value in model.state_dict().items()})


def in_torch(model: ModernBert, ids: list[int], mask: list[bool] | None = None) -> np.ndarray:
    batch = PackedBatch.from_sequences([ids])
    if mask is not None:
        batch = replace(batch, key_mask_T=torch.tensor(mask))
    with torch.inference_mode():
        return model(batch).numpy()


@settings(max_examples=60, deadline=None)
@given(configs(), st.data())
def test_hidden_states_are_those_of_torch(config: ModernBertConfig, data: st.DataObject) -> None:
    model, ours = random_model(config, data.draw(st.integers(0, 9)))
    ids = data.draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=64))
    length = data.draw(st.integers(1, len(ids)))
    # As query expansion has it: the last tokens are attended to by none.
    for mask in (None, [place < length for place in range(len(ids))]):
        came_TD = ours(ids, mask)
        assert came_TD.dtype == np.float32
        np.testing.assert_allclose(came_TD, in_torch(model, ids, mask), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [63, 64, 65, 200, 1000])
def test_texts_longer_than_a_block_and_a_window(tokens: int) -> None:
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=2,
        num_hidden_layers=4,
        local_attention=32,
        initializer_range=0.1,
        pad_token_id=0,
    )
    model, ours = random_model(config)
    ids = np.random.default_rng(tokens).integers(0, VOCABULARY, tokens).tolist()
    np.testing.assert_allclose(ours(ids), in_torch(model, ids), rtol=1e-5, atol=2e-5)


def test_a_token_that_sees_no_other_gets_what_the_definition_says() -> None:
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        layer_types=("local",),
        local_attention=4,
        pad_token_id=0,
    )
    model, ours = random_model(config)
    ids, mask = [3] * 20, [place < 5 for place in range(20)]
    batch = replace(PackedBatch.from_sequences([ids]), key_mask_T=torch.tensor(mask))
    plan = AttentionPlan.of(batch)
    with torch.inference_mode():
        hidden_TD = model.embeddings(batch)
        projected = model.layers[0].attn.Wqkv(hidden_TD).unflatten(-1, (3, 2, -1)).unbind(1)
        assert not reference_attention(*projected, plan, 2)[-1].any()
    came_TD = ours(ids, mask)
    assert np.isfinite(came_TD).all()
    np.testing.assert_array_equal(came_TD[-1], came_TD[-2])


def test_threads_may_share_a_model() -> None:
    config = ModernBertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_attention_heads=4, num_hidden_layers=3, pad_token_id=0
    )
    _, ours = random_model(config)
    sequences = [[(7 * text + place) % VOCABULARY for place in range(5 + text)] for text in range(40)]
    alone = [ours(ids) for ids in sequences]
    with ThreadPoolExecutor(8) as pool:
        for came, expected in zip(pool.map(ours, sequences * 5), alone * 5, strict=True):
            assert np.array_equal(came, expected)


def test_the_error_function_and_what_activates_are_those_of_torch() -> None:
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    assert np.abs(erf(x) - torch.erf(torch.from_numpy(x)).numpy()).max() <= 5e-7
    assert ACTIVATIONS.keys() == TORCH.keys()
    for name, activate in ACTIVATIONS.items():
        expected = TORCH[name](torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(activate(x), expected, atol=3e-6, rtol=1e-6)


def test_weights_that_do_not_fit_are_refused() -> None:
    config = ModernBertConfig(vocab_size=10, hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    weights = {name: np.ones(shape, np.float32) for name, shape in weight_shapes(config).items()}
    name = "layers.1.attn.Wo.weight"
    with pytest.raises(DataError, match=r"lacks 1 weights that its config names, first layers\.1\.attn\.Wo"):
        NumpyModernBert(config, {other: weights[other] for other in weights if other != name})
    for wrong in (np.ones((8, 9), np.float32), np.ones((8, 8), np.float16)):
        with pytest.raises(DataError, match=r"layers\.1\.attn\.Wo\.weight has shape .* asks for \(8, 8\) in"):
            NumpyModernBert(config, weights | {name: wrong})
