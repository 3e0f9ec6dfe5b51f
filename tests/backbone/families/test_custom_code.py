"""Families whose library is code beside their checkpoints, against that code's arithmetic written out.

One text at a time, over the published names. Axes: T tokens, D width, H heads, W head width.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.families.known import family_of
from flatcoat.backbone.heads import Classifier, MaskedLanguageModel, SequenceClassifier, TokenClassifier
from flatcoat.backbone.hf_model import unpadded
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.numpy_model import NumpyModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.errors import DataError

State = dict[str, Tensor]
VOCABULARY, WIDTH, HEADS, INNER, LAYERS = 50, 32, 4, 256, 3
NOMIC: dict[str, Any] = {
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_inner": INNER - 100,
    "n_layer": LAYERS,
    "n_positions": 100,
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_base": 1000,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
}
GTE: dict[str, Any] = {
    "model_type": "new",
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 100,
    "hidden_act": "gelu",
    "rope_theta": 500_000,
    "rope_scaling": None,
    "type_vocab_size": 0,
    "layer_norm_type": "layer_norm",
}
MOSAIC: dict[str, Any] = {
    "model_type": "bert",
    "alibi_starting_size": 100,
    "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 100,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "nomic": NOMIC,
    "nomic with biases": NOMIC
    | {"qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True, "activation_function": "geglu"},
    "nomic without types": NOMIC | {"type_vocab_size": 0, "rotary_emb_base": 10_000},
    "gte": GTE,
    "gte ntk": GTE | {"rope_scaling": {"type": "ntk", "factor": 2.0}, "type_vocab_size": 1},
    "mosaic": MOSAIC,
    "mosaic, six heads": MOSAIC | {"num_attention_heads": 6, "hidden_size": 36},
}


def attended(
    projected_TE: Tensor, heads: int, *, inv_freq: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in projected_TE.chunk(3, -1)
    )
    if inv_freq is not None:
        angles = torch.outer(torch.arange(len(projected_TE)).float(), inv_freq)
        cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)
        query, key = (
            states * cos
            + torch.cat([-states[..., states.shape[-1] // 2 :], states[..., : states.shape[-1] // 2]], -1)
            * sin
            for states in (query, key)
        )
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    return ((scores if bias is None else scores + bias).softmax(-1) @ value).transpose(0, 1).flatten(1)


def linear(state: State, name: str, states: Tensor) -> Tensor:
    return F.linear(states, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state: State, name: str, states: Tensor) -> Tensor:
    return F.layer_norm(states, states.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)


def embedded(state: State, ids_T: Tensor) -> Tensor:
    hidden_TD = state["embeddings.word_embeddings.weight"][ids_T]
    types = state.get("embeddings.token_type_embeddings.weight")
    return hidden_TD if types is None else hidden_TD + types[0]


def nomic(state: State, config: dict[str, Any], ids_T: Tensor) -> Tensor:
    activate = F.silu if config["activation_function"] == "swiglu" else F.gelu
    inv_freq = 1.0 / (
        config["rotary_emb_base"] ** (torch.arange(0, WIDTH // HEADS, 2).float() / (WIDTH // HEADS))
    )
    hidden_TD = norm(state, "emb_ln", embedded(state, ids_T))
    for layer in (f"encoder.layers.{number}" for number in range(LAYERS)):
        mixed_TD = attended(linear(state, f"{layer}.attn.Wqkv", hidden_TD), HEADS, inv_freq=inv_freq)
        hidden_TD = norm(
            state, f"{layer}.norm1", linear(state, f"{layer}.attn.out_proj", mixed_TD) + hidden_TD
        )
        gate = activate(linear(state, f"{layer}.mlp.fc12", hidden_TD))
        inner = linear(state, f"{layer}.mlp.fc11", hidden_TD) * gate
        hidden_TD = norm(state, f"{layer}.norm2", linear(state, f"{layer}.mlp.fc2", inner) + hidden_TD)
    return hidden_TD


def gte(state: State, config: dict[str, Any], ids_T: Tensor) -> Tensor:
    width = WIDTH // HEADS
    factor = (config["rope_scaling"] or {"factor": 1.0})["factor"]
    inv_freq = 1.0 / ((config["rope_theta"] * factor) ** (torch.arange(0, width, 2).float() / width))
    inv_freq = inv_freq / factor ** (2 / width)
    hidden_TD = norm(state, "embeddings.LayerNorm", embedded(state, ids_T))
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        mixed_TD = attended(linear(state, f"{layer}.attention.qkv_proj", hidden_TD), HEADS, inv_freq=inv_freq)
        hidden_TD = norm(
            state, f"{layer}.attn_ln", hidden_TD + linear(state, f"{layer}.attention.o_proj", mixed_TD)
        )
        up, gate = linear(state, f"{layer}.mlp.up_gate_proj", hidden_TD).chunk(2, -1)
        down_TD = linear(state, f"{layer}.mlp.down_proj", F.gelu(gate) * up)
        hidden_TD = norm(state, f"{layer}.mlp_ln", hidden_TD + down_TD)
    return hidden_TD


def mosaic(state: State, config: dict[str, Any], ids_T: Tensor) -> Tensor:
    heads = config["num_attention_heads"]
    slopes = [2.0 ** (-8 * (head + 1) / 4) for head in range(4)] + [2.0**-1, 2.0**-3]
    distances = (torch.arange(len(ids_T)) - torch.arange(len(ids_T))[:, None]).abs()
    bias = -torch.tensor(slopes[:heads])[:, None, None] * distances
    hidden_TD = norm(state, "embeddings.LayerNorm", embedded(state, ids_T))
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        mixed_TD = attended(linear(state, f"{layer}.attention.self.Wqkv", hidden_TD), heads, bias=bias)
        output_TD = linear(state, f"{layer}.attention.output.dense", mixed_TD)
        hidden_TD = norm(state, f"{layer}.attention.output.LayerNorm", output_TD + hidden_TD)
        gated, plain = linear(state, f"{layer}.mlp.gated_layers", hidden_TD).chunk(2, -1)
        down_TD = linear(state, f"{layer}.mlp.wo", F.gelu(gated) * plain)
        hidden_TD = norm(state, f"{layer}.mlp.layernorm", down_TD + hidden_TD)
    return hidden_TD


REFERENCES: dict[str, Callable[[State, dict[str, Any], Tensor], Tensor]] = {
    "nomic": nomic,
    "gte": gte,
    "mosaic": mosaic,
}


def random_state(name: str) -> State:
    """Random weights by the published names, and one of a pooler, which only the library reads."""
    config = CONFIGS[name]
    model = ModernBert(ModernBertConfig.from_hf(config))
    torch.manual_seed(0)
    published = model.config.published
    assert published is not None
    state = published.write(
        {name: torch.randn_like(tensor) * 0.2 for name, tensor in model.state_dict().items()},
        layers=LAYERS,
        heads=model.config.head_counts,
        join=lambda parts: torch.cat(list(parts)),
    )
    return {name: tensor.contiguous() for name, tensor in state.items()} | {
        "pooler.dense.bias": torch.randn(WIDTH)
    }


def saved(name: str, folder: Path, prefix: str = "") -> State:
    state = random_state(name)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    save_file({prefix + key: tensor for key, tensor in state.items()}, folder / "model.safetensors")
    return state


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_the_code_beside_the_checkpoints(name: str, tmp_path: Path) -> None:
    state = saved(name, tmp_path)
    reference = REFERENCES[name.split()[0].rstrip(",")]
    model = ModernBert.from_pretrained(tmp_path)
    published = model.config.published
    assert published is not None
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    in_numpy = NumpyModernBert(model.config, published.read(arrays, layers=LAYERS, join=np.concatenate))
    texts = [torch.randint(1, VOCABULARY, (length,)) for length in (1, 2, 7, 64, 100)]
    with torch.inference_mode():
        came_TD = model(PackedBatch.from_sequences([text.tolist() for text in texts]))
        expected = [reference(state, CONFIGS[name], text) for text in texts]
    assert (came_TD - torch.cat(expected)).abs().max() <= 1e-5
    for text, expected_TD in zip(texts, expected, strict=True):
        np.testing.assert_allclose(in_numpy(text.tolist()), expected_TD.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_the_code_beside_the_checkpoints(name: str, tmp_path: Path) -> None:
    state = saved(name, tmp_path)
    model = ModernBert.from_pretrained(tmp_path)
    text = torch.randint(1, VOCABULARY, (40,))
    weights = torch.randn(40, model.config.hidden_size) / 40
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in state.items()}
    (REFERENCES[name.split()[0].rstrip(",")](leaves, CONFIGS[name], text) * weights).sum().backward()
    (model(PackedBatch.from_sequences([text.tolist()])) * weights).sum().backward()
    published = model.config.published
    assert published is not None
    came = published.write(
        {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None},
        layers=LAYERS,
        heads=model.config.head_counts,
        join=lambda parts: torch.cat(list(parts)),
    )
    for key, gradient in came.items():
        assert (gradient - leaves[key].grad).abs().max() <= 1e-4, key


@pytest.mark.parametrize("name", CONFIGS)
def test_files_are_written_as_they_were_read(name: str, tmp_path: Path) -> None:
    prefix = {"nomic": "bert.", "gte": "new.", "mosaic": "bert."}[name.split()[0].rstrip(",")]
    state = saved(name, tmp_path / "theirs", prefix)
    ModernBert.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    settings = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert CONFIGS[name].items() <= settings.items()


def test_what_transformers_itself_has_is_left_to_it() -> None:
    assert family_of({"model_type": "nomic_bert", "hidden_size": 32}) is None
    if not hasattr(transformers, "NomicBertModel"):
        pytest.skip("this transformers has no NomicBERT")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    kinds: Any = transformers
    for kept in ({}, NOMIC):
        model = kinds.NomicBertModel(kinds.NomicBertConfig(**{**kept, **sizes, "vocab_size": 50}))
        assert unpadded(model) is None


PLACES = {
    "nomic": ("bert.", "cls.predictions.transform.dense", "cls.predictions.transform.layer_norm"),
    "gte": ("new.", "lm_head.dense", "lm_head.norm"),
    "mosaic": ("bert.", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
}
"""The prefix of the encoder, and the names of what stands before a masked language model's decoder."""


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("head", [MaskedLanguageModel, SequenceClassifier, TokenClassifier])
def test_heads_are_those_of_the_code_beside_the_checkpoints(
    name: str, head: type[MaskedLanguageModel] | type[Classifier], tmp_path: Path
) -> None:
    family = name.split()[0].rstrip(",")
    prefix, dense, norm_name = PLACES[family]
    encoder = saved(name, tmp_path / "theirs", prefix)
    width = encoder["embeddings.word_embeddings.weight"].shape[1]
    decoder = f"{dense.rpartition('.')[0].removesuffix('.transform')}.decoder"
    biased = CONFIGS[name].get("mlp_fc1_bias", True)
    shapes = {
        f"{prefix}pooler.dense.weight": (width, width),
        f"{prefix}pooler.dense.bias": (width,),
        "classifier.weight": (2, width),
        "classifier.bias": (2,),
    }
    if head is MaskedLanguageModel:
        shapes = {
            f"{dense}.weight": (width, width),
            f"{norm_name}.weight": (width,),
            f"{norm_name}.bias": (width,),
        }
        shapes |= {f"{dense}.bias": (width,), f"{decoder}.bias": (VOCABULARY,)} if biased else {}
    elif head is TokenClassifier:
        shapes = {key: shape for key, shape in shapes.items() if key.startswith("classifier")}
    file = tmp_path / "theirs" / "model.safetensors"
    state = load_file(file) | {key: torch.randn(shape) / 4 for key, shape in shapes.items()}
    save_file(state, file)
    model = head.from_pretrained(tmp_path / "theirs")
    text = torch.randint(1, VOCABULARY, (20,))
    with torch.inference_mode():
        states_TD = REFERENCES[family](encoder, CONFIGS[name], text)
        if head is MaskedLanguageModel:
            activate = F.silu if CONFIGS[name].get("activation_function") == "swiglu" else F.gelu
            states_TD = norm(state, norm_name, activate(linear(state, dense, states_TD)))
            table = encoder["embeddings.word_embeddings.weight"]
            expected = F.linear(states_TD, table, state.get(f"{decoder}.bias"))
        else:
            if head is SequenceClassifier:
                states_TD = torch.tanh(linear(state, f"{prefix}pooler.dense", states_TD[:1]))
            expected = linear(state, "classifier", states_TD)
        came = model(PackedBatch.from_sequences([text.tolist()]))
    assert (came - expected).abs().max() <= 1e-5
    model.save_pretrained(tmp_path / "ours")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NOMIC | {"prenorm": True}, "prenorm is True: False is supported"),
        (NOMIC | {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5"),
        (NOMIC | {"activation_function": "gelu"}, "activation_function is 'gelu'"),
        (GTE | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "ntk without mixed_b is supported"),
        (GTE | {"logn_attention_scale": True}, "logn_attention_scale is True"),
        (GTE | {"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'"),
        (MOSAIC | {"alibi_starting_size": None}, "auto_map is"),
    ],
)
def test_what_is_not_computed_is_refused(config: dict[str, Any], message: str) -> None:
    config = {key: value for key, value in config.items() if value is not None}
    with pytest.raises(DataError, match=message):
        ModernBertConfig.from_hf(config)
