"""Checkpoints of every family against its own library: states, gradients, files.

Axes: N sequences, L padded length.
"""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.hf_model import PackedForward, unpadded
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.numpy_model import NumpyModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.errors import DataError

VOCABULARY = 90
PAD = 1

_SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}
_WIDE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 100}
_BERT_VARIANTS: dict[str, dict[str, Any]] = {
    "small": _SMALL,
    "wide": _WIDE,
    "gelu_new": _SMALL | {"hidden_act": "gelu_new"},
    "relu": _SMALL | {"hidden_act": "relu"},
    "one type": _SMALL | {"type_vocab_size": 1},
    "eps": _SMALL | {"layer_norm_eps": 1e-5},
}
_NO_TYPES = {name: values for name, values in _BERT_VARIANTS.items() if name != "one type"}
_EURO = {"bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "bert": _BERT_VARIANTS,
    "roberta": _BERT_VARIANTS | {"padding elsewhere": _SMALL | {"pad_token_id": 3}},
    "xlm-roberta": {"small": _SMALL | {"type_vocab_size": 1}, "wide": _WIDE},
    "camembert": {"small": _SMALL | {"type_vocab_size": 1}, "wide": _WIDE},
    "mpnet": _NO_TYPES | {"long": _SMALL | {"max_position_embeddings": 402}},
    "distilbert": {
        "small": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 40},
        "wide": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 100},
        "relu": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 40, "activation": "relu"},
        "sinusoidal": {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 40,
            "sinusoidal_pos_embds": True,
        },
    },
    "electra": {
        name: values | {"embedding_size": 20 if name != "wide" else values["hidden_size"]}
        for name, values in _BERT_VARIANTS.items()
    },
    "albert": {
        "small": _SMALL | {"embedding_size": 20},
        "wide": _WIDE | {"embedding_size": 48},
        "gelu": _SMALL | {"embedding_size": 20, "hidden_act": "gelu"},
        "groups": _SMALL | {"embedding_size": 20, "num_hidden_layers": 5, "num_hidden_groups": 2},
        "all groups": _SMALL | {"embedding_size": 20, "num_hidden_groups": 3},
    },
    "eurobert": {
        "small": _EURO | _SMALL,
        "wide": _EURO | _WIDE,
        "fewer keys": _EURO | _WIDE | {"num_key_value_heads": 2},
        "one key": _EURO | _WIDE | {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
        "theta": _EURO | _SMALL | {"rope_parameters": {"rope_type": "default", "rope_theta": 250_000.0}},
    },
}
"""Arguments of the config classes by family and variant."""


class Kind(NamedTuple):
    """The classes of a family in transformers."""

    config: Callable[..., Any]
    model: Callable[..., PreTrainedModel]


KINDS = {
    "bert": Kind(transformers.BertConfig, transformers.BertModel),
    "roberta": Kind(transformers.RobertaConfig, transformers.RobertaModel),
    "xlm-roberta": Kind(transformers.XLMRobertaConfig, transformers.XLMRobertaModel),
    "camembert": Kind(transformers.CamembertConfig, transformers.CamembertModel),
    "mpnet": Kind(transformers.MPNetConfig, transformers.MPNetModel),
    "distilbert": Kind(transformers.DistilBertConfig, transformers.DistilBertModel),
    "electra": Kind(transformers.ElectraConfig, transformers.ElectraModel),
    "albert": Kind(transformers.AlbertConfig, transformers.AlbertModel),
    "eurobert": Kind(transformers.EuroBertConfig, transformers.EuroBertModel),
}


def all_variants() -> Iterator[tuple[str, str]]:
    """Names of families and of their variants."""
    for family, variants in VARIANTS.items():
        for variant in variants:
            yield family, variant


def make(family: str, variant: str, **changes: Any) -> PreTrainedModel:
    """A random model in evaluation mode; norms and biases are random too."""
    kind = KINDS[family]
    settings = {"vocab_size": VOCABULARY, "max_position_embeddings": 70, "pad_token_id": PAD}
    arguments = settings | {"initializer_range": 0.1} | VARIANTS[family][variant] | changes
    torch.manual_seed(5)
    model = kind.model(kind.config(**arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


LENGTHS = (1, 2, 3, 17, 40, 64, 33, 5)

each = pytest.mark.parametrize(("family", "variant"), list(all_variants()))
each_family = pytest.mark.parametrize("family", list(VARIANTS))


def longest(model: PreTrainedModel) -> int:
    return ModernBertConfig.from_hf(model.config.to_dict()).longest


def padded(lengths: tuple[int, ...], padding: int = PAD) -> tuple[Tensor, Tensor]:
    """Random ids, padding among them as a text may have it, and the mask of real tokens."""
    generator = torch.Generator().manual_seed(len(lengths))
    ids_NL = torch.randint(2, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask_NL = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask_NL.bool(), ids_NL, padding), mask_NL


def packed(model: PreTrainedModel) -> PackedForward:
    """A copy of the model, without padding."""
    found = unpadded(copy.deepcopy(model))
    assert isinstance(found, PackedForward)
    return found


def types_of(model: PreTrainedModel, ids_NL: Tensor) -> dict[str, Tensor]:
    count = getattr(model.config, "type_vocab_size", 0)
    return {"token_type_ids": torch.arange(ids_NL.numel()).view_as(ids_NL) % count} if count else {}


@each
def test_states_are_those_of_transformers(family: str, variant: str) -> None:
    model = make(family, variant)
    ours = cast(Any, packed(model))
    ids_NL, mask_NL = padded((*LENGTHS, longest(model)), model.config.pad_token_id)
    for types in ({}, types_of(model, ids_NL)):
        with torch.inference_mode():
            came = ours(ids_NL, attention_mask=mask_NL, **types).last_hidden_state
            expected = model(ids_NL, attention_mask=mask_NL, **types).last_hidden_state
        assert (came - expected)[mask_NL.bool()].abs().max() <= 1e-5
        assert not came[~mask_NL.bool()].any()


@each
def test_every_length_to_the_longest(family: str, variant: str) -> None:
    model = make(family, variant)
    ours = packed(model).packed
    lengths = tuple(range(1, longest(model) + 1))
    ids_NL, mask_NL = padded(lengths, model.config.pad_token_id)
    batch = PackedBatch.from_sequences(
        [row[:length].tolist() for row, length in zip(ids_NL, lengths, strict=True)]
    )
    with torch.inference_mode():
        expected = model(ids_NL, attention_mask=mask_NL).last_hidden_state[mask_NL.bool()]
        assert (ours(batch) - expected).abs().max() <= 1e-5


@each
def test_gradients_are_those_of_transformers(family: str, variant: str) -> None:
    model = make(family, variant)
    ours = cast(Any, packed(model))
    ids_NL, mask_NL = padded(LENGTHS, model.config.pad_token_id)
    weights = torch.randn(*ids_NL.shape, model.config.hidden_size) * mask_NL[..., None] / mask_NL.sum()
    losses = []
    for one in (ours, model):
        states = one(ids_NL, attention_mask=mask_NL, **types_of(model, ids_NL)).last_hidden_state
        losses.append((states * weights).sum())
        losses[-1].backward()
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    for (name, came), expected in zip(ours.named_parameters(), model.parameters(), strict=True):
        assert (came.grad is None) == (expected.grad is None), name
        if expected.grad is not None:
            assert (came.grad - expected.grad).abs().max() <= 1e-4, name


@each
def test_numpy_computes_the_same(family: str, variant: str) -> None:
    model = make(family, variant)
    config = ModernBertConfig.from_hf(model.config.to_dict())
    assert config.published is not None
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ours = NumpyModernBert(
        config, config.published.read(state, layers=config.layer_count, join=np.concatenate)
    )
    for length in (1, 2, 40, longest(model)):
        ids_NL, _ = padded((length,))
        with torch.inference_mode():
            expected = model(ids_NL).last_hidden_state[0].numpy()
        np.testing.assert_allclose(ours(ids_NL[0].tolist()), expected, rtol=0, atol=1e-5)


@each
def test_files_are_written_as_they_were_read(family: str, variant: str, tmp_path: Path) -> None:
    model = make(family, variant)
    model.save_pretrained(tmp_path / "theirs")
    ours = ModernBert.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    settings, written = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours")
    )
    assert written == settings
    ids_NL, _ = padded((40,))
    again = type(model).from_pretrained(tmp_path / "ours").eval()
    with torch.inference_mode():
        assert torch.equal(again(ids_NL).last_hidden_state, model(ids_NL).last_hidden_state)
        batch = PackedBatch.from_sequences(ids_NL.tolist())
        torch.testing.assert_close(ours(batch), model(ids_NL).last_hidden_state[0], rtol=0, atol=1e-5)


@each_family
def test_an_unpadded_model_is_saved_under_its_own_name(family: str, tmp_path: Path) -> None:
    model = make(family, "small")
    ours = cast(Any, packed(model))
    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(model).__name__]
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@each_family
def test_copies_and_pickles_compute_with_their_own_weights(family: str) -> None:
    ours = packed(make(family, "small"))
    ids_NL, mask_NL = padded(LENGTHS)
    before = cast(Any, ours)(ids_NL, mask_NL).last_hidden_state
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(copied(ids_NL, mask_NL).last_hidden_state, before)
        for parameter in copied.parameters():
            parameter.data.zero_()
        assert not copied(ids_NL, mask_NL).last_hidden_state.any()
        assert torch.equal(cast(Any, ours)(ids_NL, mask_NL).last_hidden_state, before)


@each_family
def test_a_weight_that_is_missing_is_named(family: str, tmp_path: Path) -> None:
    model = make(family, "small")
    state = model.state_dict()
    lost = next(name for name in state if name.endswith("weight"))
    model.save_pretrained(tmp_path, state_dict={name: state[name] for name in state if name != lost})
    with pytest.raises(DataError, match="lacks 1 weights that its config names"):
        ModernBert.from_pretrained(tmp_path)


@each_family
@pytest.mark.parametrize("value", ["x", -1, 1.5, True, [], {}, 10**30])
def test_whatever_a_setting_holds_it_is_read_or_refused(family: str, value: Any) -> None:
    settings = make(family, "small").config.to_dict()
    for name in settings:
        with suppress(DataError):
            ModernBertConfig.from_hf(settings | {name: value})


@each_family
def test_settings_that_are_not_computed_are_refused(family: str) -> None:
    settings = make(family, "small").config.to_dict()
    with pytest.raises(DataError, match="activation 'mish' is not supported"):
        ModernBertConfig.from_hf(
            dict.fromkeys(settings, None) | settings | {"hidden_act": "mish", "activation": "mish"}
        )
