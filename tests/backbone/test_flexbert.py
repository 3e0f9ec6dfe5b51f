"""The ablations of ModernBERT against BERT, RoBERTa and plain formulas. Axes: T tokens, D width, H heads."""

import json
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel, ModernBertModel, RobertaConfig, RobertaModel

from flatcoat import FlatcoatError
from flatcoat.backbone import config as options
from flatcoat.backbone.config import FLEXBERT, ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.presets import PRESETS, preset
from flatcoat.backbone.relative_positions import alibi_slopes

VOCAB = 50
TINY: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
LENGTHS = (1, 7, 7, 64, 30)


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    """Products as small as these take longer on several."""
    threads(1)


def sequences(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def pack(rows: list[list[int]]) -> PackedBatch:
    return PackedBatch.from_sequences(rows)


def assert_near(came: Tensor, expected: Tensor) -> None:
    assert came.shape == expected.shape
    assert (came - expected).detach().abs().max() <= 1e-5 * max(1.0, expected.detach().abs().max().item())


def disturb(model: nn.Module) -> None:
    """Norms and biases away from where they start, so that one left out shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 5)


def make(config: ModernBertConfig) -> ModernBert:
    torch.manual_seed(0)
    model = ModernBert(config).eval()
    disturb(model)
    return model


@torch.no_grad()
def padded_rows(model: nn.Module, rows: list[list[int]], pad: int) -> Tensor:
    """What a padded encoder makes of the real tokens, end to end: [T, D]."""
    ids_NL = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, padding_value=pad)
    mask_NL = (ids_NL != pad).long()
    return model(ids_NL, attention_mask=mask_NL).last_hidden_state[mask_NL.bool()]


def renamed(model: BertModel | RobertaModel, first_position: int) -> dict[str, Tensor]:
    """Weights under our names; every token is of segment 0, whose embedding joins the positions'."""
    theirs = model.state_dict()
    segment_D = theirs["embeddings.token_type_embeddings.weight"][0]
    ours = {
        "embeddings.tok_embeddings.weight": theirs["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": theirs["embeddings.position_embeddings.weight"][
            first_position:
        ]
        + segment_D,
    }
    names = {
        "attn.Wo": "attention.output.dense",
        "attn_norm": "attention.output.LayerNorm",
        "mlp.Wi": "intermediate.dense",
        "mlp.Wo": "output.dense",
        "mlp_norm": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        ours[f"embeddings.norm.{kind}"] = theirs[f"embeddings.LayerNorm.{kind}"]
        for layer in range(model.config.num_hidden_layers):
            start = f"encoder.layer.{layer}."
            ours[f"layers.{layer}.attn.Wqkv.{kind}"] = torch.cat(
                [theirs[f"{start}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            )
            ours |= {
                f"layers.{layer}.{name}.{kind}": theirs[f"{start}{other}.{kind}"]
                for name, other in names.items()
            }
    return ours


def test_a_bert_is_a_config_away() -> None:
    theirs = BertModel(BertConfig(**TINY), add_pooling_layer=False).eval()
    disturb(theirs)
    ours = ModernBert(preset("bert-base", **TINY)).eval()
    ours.load_state_dict(renamed(theirs, first_position=0))
    rows = sequences()
    with torch.no_grad():
        assert_near(ours(pack(rows)), padded_rows(theirs, rows, pad=0))


def test_a_roberta_is_a_config_away() -> None:
    settings = TINY | {"max_position_embeddings": 66, "layer_norm_eps": 1e-5, "pad_token_id": 1}
    theirs = RobertaModel(RobertaConfig(**settings), add_pooling_layer=False).eval()
    disturb(theirs)
    ours = ModernBert(preset("roberta-base", **(TINY | {"pad_token_id": 1}))).eval()
    # Its positions are counted from padding_idx + 1.
    ours.load_state_dict(renamed(theirs, first_position=2))
    rows = sequences()
    with torch.no_grad():
        assert_near(ours(pack(rows)), padded_rows(theirs, rows, pad=1))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("modernbert-large", 394_781_696),
        ("bert-base", 108_891_648 - 2 * 768),
        ("bert-large", 334_092_288 - 2 * 1024),
        ("roberta-base", 124_055_040 - 3 * 768),
        ("roberta-large", 354_310_144 - 3 * 1024),
        ("mosaicbert-base", 136_849_920),
    ],
)
def test_presets_have_the_published_sizes(name: str, parameters: int) -> None:
    """Without pooler, segment embeddings and the two positions that RoBERTa never uses."""
    with torch.device("meta"):
        model = ModernBert(preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_presets_can_be_changed() -> None:
    assert preset("modernbert-base") == ModernBertConfig(classifier_pooling="mean")
    assert preset("bert-base", num_hidden_layers=2).layer_types == ("global", "global")
    mixed = preset("bert-base", num_hidden_layers=2, layer_types=("global", "local"))
    assert mixed.layer_types == ("global", "local")
    with pytest.raises(
        FlatcoatError, match=r"preset 'bert' is unknown: known are modernbert-base, .*bert-base"
    ):
        preset("bert")
    assert all(preset(name).num_hidden_layers in (12, 22, 24, 28) for name in PRESETS)


def test_slopes_are_those_of_the_paper() -> None:
    eight = [2.0**-power for power in range(1, 9)]
    assert alibi_slopes(8).tolist() == eight
    between = torch.tensor([2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5])
    torch.testing.assert_close(torch.from_numpy(alibi_slopes(12)), torch.cat((torch.tensor(eight), between)))
    assert alibi_slopes(16)[[0, 15]].tolist() == pytest.approx([2**-0.5, 2**-8])
    assert alibi_slopes(1).tolist() == [2.0**-8]


def mosaic_formula(model: ModernBert, ids: list[int]) -> Tensor:
    """MosaicBERT's forward as its paper writes it, one head and one query at a time: [T, D]."""
    config, slopes_H = model.config, torch.from_numpy(alibi_slopes(model.config.num_attention_heads))
    hidden_TD = model.embeddings.norm(model.embeddings.tok_embeddings.weight[ids])
    for layer, kind in zip(model.layers, config.layer_types, strict=True):
        query, key, value = layer.attn.Wqkv(hidden_TD).split(config.hidden_size, dim=1)
        mixed_TD = torch.zeros_like(hidden_TD)
        for head, slope in enumerate(slopes_H.tolist()):
            part = slice(head * config.head_width, (head + 1) * config.head_width)
            for at in range(len(ids)):
                scores_T = key[:, part] @ query[at, part] / config.head_width**0.5
                for other in range(len(ids)):
                    scores_T[other] -= slope * abs(at - other)
                    if kind == "local" and abs(at - other) > config.local_attention // 2:
                        scores_T[other] = -torch.inf
                mixed_TD[at, part] = scores_T.softmax(dim=0) @ value[:, part]
        hidden_TD = layer.attn_norm(hidden_TD + layer.attn.Wo(mixed_TD))
        first, second = layer.mlp.Wi(hidden_TD).chunk(2, dim=1)
        hidden_TD = layer.mlp_norm(hidden_TD + layer.mlp.Wo(F.gelu(first) * second))
    return hidden_TD


@pytest.mark.parametrize("types", [("global", "global"), ("global", "local")])
def test_a_mosaicbert_is_a_config_away(types: tuple[options.LayerType, ...]) -> None:
    changes = {"num_hidden_layers": 2, "num_attention_heads": 6, "hidden_size": 24, "local_attention": 8}
    model = make(preset("mosaicbert-base", **(TINY | changes), layer_types=types))
    rows = sequences((1, 12, 12, 80))
    with torch.no_grad():
        assert_near(model(pack(rows)), torch.cat([mosaic_formula(model, row) for row in rows]))


COMBINATIONS = list(
    product(
        get_args(options.Positions),
        get_args(options.NormPosition),
        get_args(options.NormKind),
        get_args(options.MlpKind),
        get_args(options.ActivationName),
        (False, True),
    )
)


def combined(
    positions: options.Positions,
    norm_position: options.NormPosition,
    norm_kind: options.NormKind,
    mlp_kind: options.MlpKind,
    activation: options.ActivationName,
    biases: bool,
) -> ModernBertConfig:
    """Global, local, local; windows of 4 tokens on each side, outgrown by a sequence of 80."""
    return ModernBertConfig(
        **(TINY | {"hidden_size": 16, "intermediate_size": 16, "max_position_embeddings": 80}),
        local_attention=8,
        positions=positions,
        norm_position=norm_position,
        norm_kind=norm_kind,
        mlp_kind=mlp_kind,
        activation=activation,
        norm_bias=biases and norm_kind == "layernorm",
        attention_bias=biases,
        mlp_bias=biases,
    )


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda values: "-".join(map(str, values)))
def test_every_combination_runs_and_is_saved(combination: tuple[Any, ...], tmp_path: Path) -> None:
    model = make(combined(*combination))
    rows = sequences((1, 9, 9, 80))
    hidden_TD = model(pack(rows))
    assert_near(hidden_TD, torch.cat([model(pack([row])) for row in rows]))
    (hidden_TD * torch.arange(16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    model.save_pretrained(tmp_path)
    loaded = ModernBert.from_pretrained(tmp_path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded(pack(rows)), hidden_TD)


def flex_changes() -> list[dict[str, Any]]:
    """Each option that transformers' ModernBERT does not have, alone."""
    return [
        {"positions": "absolute"},
        {"positions": "alibi"},
        {"positions": "none"},
        {"norm_position": "post"},
        {"norm_kind": "rmsnorm"},
        {"mlp_kind": "mlp"},
    ]


@pytest.mark.parametrize("changes", flex_changes(), ids=str)
def test_transformers_refuses_what_it_does_not_compute(changes: dict[str, Any], tmp_path: Path) -> None:
    ModernBert(ModernBertConfig(**TINY, **changes)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == FLEXBERT
    with pytest.raises(ValueError, match=FLEXBERT):
        AutoModel.from_pretrained(tmp_path)
    # Where configs are dataclasses, transformers checks the rotations before the layers.
    is_checked = is_dataclass(ModernBertModel.config_class)
    error, what = (StrictDataclassError, "rope_parameters") if is_checked else (ValueError, "layer_types")
    with pytest.raises(error, match=what):
        ModernBertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("activation", get_args(options.ActivationName))
def test_transformers_computes_every_activation(activation: options.ActivationName, tmp_path: Path) -> None:
    ours = make(ModernBertConfig(**TINY, activation=activation))
    ours.save_pretrained(tmp_path)
    theirs = AutoModel.from_pretrained(tmp_path)
    assert isinstance(theirs, ModernBertModel)
    rows = sequences()
    with torch.no_grad():
        assert_near(ours(pack(rows)), padded_rows(theirs, rows, pad=0))
    assert ModernBertConfig.from_hf(theirs.config.to_dict()) == ours.config


def test_a_shape_changed_after_loading_leaves_nothing_of_the_old_spelling() -> None:
    loaded = ModernBertConfig.from_hf(ModernBertConfig().to_hf() | {"id2label": {"0": "no"}})
    written = replace(loaded, positions="alibi").to_hf()
    assert not {"rope_parameters", "hidden_activation", "global_attn_every_n_layers"} & written.keys()
    assert written["id2label"] == {"0": "no"}
    again = ModernBertConfig.from_hf(json.loads(json.dumps(written)))
    assert (again.positions, again.layer_types) == ("alibi", loaded.layer_types)
    assert replace(again, positions="rope").to_hf() == loaded.to_hf()


def test_a_masked_language_model_of_any_shape_is_saved(tmp_path: Path) -> None:
    config = ModernBertConfig(**TINY, positions="absolute", norm_kind="rmsnorm", norm_position="post")
    model = MaskedLanguageModel(config).eval()
    assert isinstance(model.head.norm, nn.RMSNorm)
    model.save_pretrained(tmp_path)
    loaded = MaskedLanguageModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(pack(sequences())), model(pack(sequences())))
        encoder = ModernBert.from_pretrained(tmp_path).eval()
        assert torch.equal(encoder(pack(sequences())), model.model(pack(sequences())))


def test_positions_start_as_token_embeddings_do() -> None:
    torch.manual_seed(0)
    settings = TINY | {"max_position_embeddings": 500, "initializer_range": 0.02}
    weight = ModernBert(preset("bert-base", **settings)).embeddings.position_embeddings.weight
    assert weight.abs().max() <= 0.04
    assert float(weight.detach().std()) == pytest.approx(0.88 * 0.02, rel=0.05)


def test_post_norm_has_no_final_norm() -> None:
    names = ModernBert(preset("bert-base", **TINY)).state_dict().keys()
    assert {"layers.0.attn_norm.weight", "layers.0.attn_norm.bias"} <= names
    assert not any(name.startswith("final_norm") for name in names)


def test_a_sequence_longer_than_the_learned_positions() -> None:
    model = ModernBert(preset("bert-base", **TINY))
    assert model(pack(sequences((64, 3)))).shape == (67, 32)
    with pytest.raises(
        FlatcoatError, match="a sequence of 65 tokens is longer than the 64 learned positions: truncate it"
    ):
        model(pack(sequences((3, 65))))
    assert model(pack([])).shape == (0, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "learned"}, "positions is 'learned': known are rope, absolute, alibi, none"),
        ({"norm_position": "sandwich"}, "norm_position is 'sandwich': known are pre, post"),
        ({"norm_kind": "batchnorm"}, "norm_kind is 'batchnorm': known are layernorm, rmsnorm"),
        ({"mlp_kind": "moe"}, "mlp_kind is 'moe': known are glu, mlp"),
        ({"activation": "tanh"}, "activation is 'tanh': known are gelu, gelu_tanh, relu, silu"),
        ({"norm_kind": "rmsnorm", "norm_bias": True}, "rmsnorm has no bias: set norm_bias to False"),
        ({"positions": "absolute", "max_position_embeddings": 0}, "absolute positions need at least 1"),
        ({"layer_types": ("global", "full", "local")}, "layer_types holds 'full'"),
        ({"hidden_size": 34}, "head width 17 is odd: rotary positions need an even one"),
    ],
)
def test_shapes_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        ModernBertConfig(**(TINY | changes))


def test_only_rotary_positions_need_an_even_head_width() -> None:
    model = ModernBert(ModernBertConfig(**(TINY | {"hidden_size": 34}), positions="alibi"))
    assert model(pack(sequences())).shape == (sum(LENGTHS), 34)
