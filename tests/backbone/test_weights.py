"""Checkpoints in and out, against transformers. Axes: T tokens, D width, V vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM, ModernBertForMaskedLM, ModernBertModel
from transformers import ModernBertConfig as HFConfig

from flatcoat import FlatcoatError
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.weights import read_checkpoint

IDS = list(range(5, 45))
BATCH = PackedBatch.from_sequences([IDS])

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def old_spelling(**changes: Any) -> dict[str, Any]:
    """As answerdotai/ModernBERT-base has it."""
    return {
        "model_type": "modernbert",
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 5,
        "intermediate_size": 96,
        "vocab_size": 300,
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 77_000.0,
        "local_rope_theta": 5_000.0,
        "local_attention": 32,
        "hidden_activation": "gelu",
        "pad_token_id": 0,
    } | changes


def new_spelling() -> dict[str, Any]:
    """The same as transformers 5 writes it."""
    values = old_spelling()
    for name in ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"):
        del values[name]
    kinds = ["full_attention", "sliding_attention"]
    return values | {
        "layer_types": [kinds[layer % 2] for layer in range(5)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 77_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5_000.0},
        },
    }


def without_extra(config: ModernBertConfig) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    del values["extra"]
    return values


def test_both_spellings_say_the_same() -> None:
    old, new = (ModernBertConfig.from_hf(values) for values in (old_spelling(), new_spelling()))
    assert without_extra(old) == without_extra(new)
    assert old.layer_types == ("global", "local", "global", "local", "global")
    assert (old.global_rope_theta, old.local_rope_theta, old.head_width) == (77_000.0, 5_000.0, 32)


def test_what_is_written_is_read_back_and_keeps_unknown_keys() -> None:
    config = ModernBertConfig.from_hf(old_spelling(classifier_pooling="mean", id2label={"0": "no"}))
    written = json.loads(json.dumps(config.to_hf()))
    assert without_extra(ModernBertConfig.from_hf(written)) == without_extra(config)
    assert written["id2label"] == {"0": "no"}
    assert written["global_attn_every_n_layers"] == 2


@pytest.mark.parametrize("values", [old_spelling(), new_spelling(), ModernBertConfig().to_hf()])
def test_transformers_reads_what_is_written(values: dict[str, Any]) -> None:
    ours = ModernBertConfig.from_hf(values)
    theirs = HFConfig(**ours.to_hf())
    assert theirs.layer_types == [
        {"global": "full_attention", "local": "sliding_attention"}[kind] for kind in ours.layer_types
    ]
    assert theirs.rope_parameters["full_attention"]["rope_theta"] == ours.global_rope_theta
    assert theirs.rope_parameters["sliding_attention"]["rope_theta"] == ours.local_rope_theta
    assert without_extra(ModernBertConfig.from_hf(theirs.to_dict())) == without_extra(ours)


def test_a_pattern_that_the_old_spelling_cannot_say_is_written_in_the_new_alone() -> None:
    config = ModernBertConfig(num_hidden_layers=3, layer_types=("local", "global", "local"))
    assert "global_attn_every_n_layers" not in config.to_hf()
    assert ModernBertConfig.from_hf(config.to_hf()).layer_types == config.layer_types


def test_the_defaults_are_modernbert_base() -> None:
    with torch.device("meta"):
        model = MaskedLanguageModel(ModernBertConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 149_655_232


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "deberta"}, "model_type is 'deberta'"),
        ({"hidden_activation": "tanh"}, "hidden_activation 'tanh' is not supported"),
        ({"num_attention_heads": 3}, "hidden_size 64 is not a multiple of num_attention_heads 3"),
        ({"hidden_size": 66}, "head width 33 is odd"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers is 5"),
        ({"layer_types": ["linear_attention"] * 5}, "layer_types holds 'linear_attention'"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1.0}}},
            "rope_type 'yarn' is not supported",
        ),
    ],
)
def test_configs_that_cannot_be_computed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        ModernBertConfig.from_hf(old_spelling(**changes))


def assert_equal_outputs(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


@torch.no_grad()
def hidden(model: ModernBertModel) -> Tensor:
    return model.eval()(torch.tensor([IDS])).last_hidden_state[0]


@torch.no_grad()
def logits(model: ModernBertForMaskedLM) -> Tensor:
    return model.eval()(torch.tensor([IDS])).logits[0]


@pytest.fixture
def masked(config: ModernBertConfig) -> MaskedLanguageModel:
    torch.manual_seed(5)
    model = MaskedLanguageModel(config).eval()
    with torch.no_grad():
        model.decoder.bias.normal_()
        model.head.norm.weight.normal_()
    return model


@torch.no_grad()
def test_transformers_loads_an_encoder_of_ours(config: ModernBertConfig, tmp_path: Path) -> None:
    model = ModernBert(config).eval()
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, ModernBertModel)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert_equal_outputs(model(BATCH), hidden(loaded))


@torch.no_grad()
def test_transformers_loads_a_masked_language_model_of_ours(
    masked: MaskedLanguageModel, tmp_path: Path
) -> None:
    masked.save_pretrained(tmp_path)
    assert "decoder.weight" not in load_file(tmp_path / "model.safetensors")
    loaded, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, ModernBertForMaskedLM)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert_equal_outputs(masked(BATCH), logits(loaded))
    assert_equal_outputs(masked.model(BATCH), hidden(AutoModel.from_pretrained(tmp_path)))


@torch.no_grad()
def test_logits_of_some_positions_are_rows_of_all(masked: MaskedLanguageModel) -> None:
    positions = torch.tensor([7, 0, 39])
    assert_equal_outputs(masked(BATCH, positions), masked(BATCH)[positions])


@pytest.fixture
def theirs(config: ModernBertConfig, tmp_path: Path) -> Path:
    """A masked language model as transformers saves it: names begin with ``model.``."""
    torch.manual_seed(6)
    model = ModernBertForMaskedLM(HFConfig(**config.to_hf()))
    with torch.no_grad():
        model.decoder.bias.normal_()
    folder = tmp_path / "theirs"
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_a_masked_language_model_of_transformers_is_loaded(theirs: Path) -> None:
    expected = logits(AutoModelForMaskedLM.from_pretrained(theirs))
    ours = MaskedLanguageModel.from_pretrained(theirs)
    assert_equal_outputs(ours(BATCH), expected)
    assert ours.decoder.weight is ours.model.embeddings.tok_embeddings.weight
    rewrite(
        theirs,
        lambda state: state | {"decoder.weight": state["model.embeddings.tok_embeddings.weight"].clone()},
    )
    assert_equal_outputs(MaskedLanguageModel.from_pretrained(theirs)(BATCH), expected)
    rewrite(theirs, lambda state: {name: state[name] for name in state if name != "decoder.weight"})
    assert_equal_outputs(MaskedLanguageModel.from_pretrained(theirs)(BATCH), expected)


@torch.no_grad()
def test_an_encoder_is_loaded_with_and_without_the_prefix(theirs: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(theirs)
    assert_equal_outputs(ModernBert.from_pretrained(theirs).eval()(BATCH), hidden(model))
    model.save_pretrained(tmp_path / "bare")
    assert "layers.0.attn.Wqkv.weight" in load_file(tmp_path / "bare" / "model.safetensors")
    assert_equal_outputs(ModernBert.from_pretrained(tmp_path / "bare").eval()(BATCH), hidden(model))


@torch.no_grad()
def test_a_sharded_checkpoint_is_loaded(theirs: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(theirs)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert_equal_outputs(MaskedLanguageModel.from_pretrained(tmp_path / "sharded")(BATCH), logits(model))


def test_the_dtype_is_the_saved_one_or_the_one_asked_for(config: ModernBertConfig, tmp_path: Path) -> None:
    ModernBert(config).to(torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert next(ModernBert.from_pretrained(tmp_path).parameters()).dtype == torch.bfloat16
    assert next(ModernBert.from_pretrained(tmp_path, torch.float32).parameters()).dtype == torch.float32
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.bfloat16


def rewrite(folder: Path, change: Change) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def set_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("load", [ModernBert.from_pretrained, MaskedLanguageModel.from_pretrained])
def test_broken_checkpoints_say_what_is_wrong(theirs: Path, load: Callable[[Path], object]) -> None:
    set_config(theirs, num_hidden_layers=5, layer_types=["full_attention"] * 5)
    with pytest.raises(
        FlatcoatError, match=r"lacks 6 weights that its config names, first (model\.)?layers\.4"
    ):
        load(theirs)
    set_config(theirs, num_hidden_layers=4, layer_types=["full_attention"] * 4, intermediate_size=100)
    with pytest.raises(
        FlatcoatError, match=r"mlp\.Wi\.weight has shape \(192, 64\), .* asks for \(200, 64\)"
    ):
        load(theirs)
    set_config(theirs, model_type="deberta")
    with pytest.raises(FlatcoatError, match="model_type is 'deberta': known are modernbert"):
        load(theirs)
    (theirs / "config.json").write_text("{")
    with pytest.raises(FlatcoatError, match=r"config\.json is not JSON"):
        load(theirs)
    (theirs / "config.json").unlink()
    with pytest.raises(FlatcoatError, match=r"has no config\.json"):
        load(theirs)


def test_an_encoder_without_a_head_is_no_masked_language_model(modernbert_folder: Path, theirs: Path) -> None:
    message = r"lacks 3 weights .* first decoder\.bias, head\.dense\.weight, head\.norm\.weight"
    with pytest.raises(FlatcoatError, match=message):
        MaskedLanguageModel.from_pretrained(modernbert_folder)
    rewrite(theirs, lambda state: {name: state[name] for name in state if name.startswith("model.")})
    with pytest.raises(FlatcoatError, match=message):
        MaskedLanguageModel.from_pretrained(theirs)


@torch.no_grad()
def test_a_masked_language_model_is_loaded_without_the_prefix(theirs: Path) -> None:
    expected = MaskedLanguageModel.from_pretrained(theirs)(BATCH)
    rewrite(theirs, lambda state: {name.removeprefix("model."): state[name] for name in state})
    assert torch.equal(MaskedLanguageModel.from_pretrained(theirs)(BATCH), expected)
    assert torch.equal(
        ModernBert.from_pretrained(theirs)(BATCH), MaskedLanguageModel.from_pretrained(theirs).model(BATCH)
    )


@torch.no_grad()
def test_a_decoder_of_its_own_is_kept(config: ModernBertConfig, tmp_path: Path) -> None:
    torch.manual_seed(7)
    untied = ModernBertForMaskedLM(HFConfig(**config.to_hf() | {"tie_word_embeddings": False}))
    untied.save_pretrained(tmp_path / "theirs")
    ours = MaskedLanguageModel.from_pretrained(tmp_path / "theirs")
    assert ours.decoder.weight is not ours.model.embeddings.tok_embeddings.weight
    assert_equal_outputs(ours(BATCH), logits(untied))
    ours.save_pretrained(tmp_path / "ours")
    assert_equal_outputs(ours(BATCH), logits(AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")))
    rewrite(
        tmp_path / "ours", lambda state: {name: state[name] for name in state if name != "decoder.weight"}
    )
    with pytest.raises(FlatcoatError, match=r"lacks 1 weights .* first decoder\.weight"):
        MaskedLanguageModel.from_pretrained(tmp_path / "ours")


def test_a_dtype_keeps_the_decoder_tied(theirs: Path) -> None:
    model = MaskedLanguageModel.from_pretrained(theirs, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.decoder.weight is model.model.embeddings.tok_embeddings.weight


@pytest.mark.parametrize("load", [ModernBert.from_pretrained, MaskedLanguageModel.from_pretrained])
def test_what_is_loaded_is_in_evaluation_mode(
    theirs: Path, load: Callable[[Path], ModernBert | MaskedLanguageModel]
) -> None:
    assert not any(module.training for module in load(theirs).modules())


def test_the_older_name_of_the_dtype_does_not_outlive_a_change(theirs: Path, tmp_path: Path) -> None:
    set_config(theirs, torch_dtype="float32")
    MaskedLanguageModel.from_pretrained(theirs, torch.bfloat16).save_pretrained(tmp_path / "half")
    values = json.loads((tmp_path / "half" / "config.json").read_text())
    assert "torch_dtype" not in values
    assert values["dtype"] == "bfloat16"


@torch.no_grad()
def test_shards_are_those_that_the_index_names(theirs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    AutoModelForMaskedLM.from_pretrained(theirs).save_pretrained(folder, max_shard_size="100KB")
    expected = MaskedLanguageModel.from_pretrained(folder)(BATCH)
    shards = sorted(folder.glob("model-*.safetensors"))
    stray = {name: torch.zeros_like(tensor) for name, tensor in load_file(shards[0]).items()}
    save_file(stray, folder / "model-99999-of-99999.safetensors")
    assert torch.equal(MaskedLanguageModel.from_pretrained(folder)(BATCH), expected)
    shards[0].unlink()
    with pytest.raises(
        FlatcoatError, match=rf"lacks {shards[0].name}, which model.safetensors.index.json names"
    ):
        MaskedLanguageModel.from_pretrained(folder)


def test_a_damaged_file_is_named(theirs: Path) -> None:
    file = theirs / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        FlatcoatError, match=r"model\.safetensors cannot be read as safetensors, copy it again"
    ):
        ModernBert.from_pretrained(theirs)


def test_weights_must_be_there(theirs: Path) -> None:
    (theirs / "model.safetensors").unlink()
    with pytest.raises(FlatcoatError, match=r"has no model\.safetensors"):
        read_checkpoint(theirs)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "not a/valid//name", "missing-folder"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
        ModernBert.from_pretrained(name)
