"""Gradient checkpointing: the same gradients, layers computed twice."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import ModernBertConfig as HFConfig

from flatcoat.backbone import hf_model
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "local_attention": 8,
    "pad_token_id": 0,
}


def sequences(lengths: tuple[int, ...] = (1, 7, 7, 64, 30)) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 50, (length,), generator=generator).tolist() for length in lengths]


def gradients(model: nn.Module, hidden: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(hidden.square().sum(), parameters), strict=True))


def count_layers(model: nn.Module) -> list[nn.Module]:
    """A list that grows with every forward of a layer."""
    ran: list[nn.Module] = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda module, _: ran.append(module))
    return ran


@pytest.mark.parametrize("changes", [{}, {"positions": "alibi"}], ids=str)
def test_checkpointed_gradients_are_the_same(changes: dict[str, Any]) -> None:
    model = ModernBert(ModernBertConfig(**TINY, **changes, attention_dropout=0.1)).train()
    batch = PackedBatch.from_sequences(sequences((5, 80, 80)))
    found = []
    for model.gradient_checkpointing in (False, True):
        torch.manual_seed(2)
        found.append(gradients(model, model(batch)))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, msg=name)


def test_only_training_computes_layers_twice() -> None:
    model = ModernBert(ModernBertConfig(**TINY)).train()
    model.gradient_checkpointing = True
    ran = count_layers(model)
    gradients(model, model(PackedBatch.from_sequences(sequences())))
    assert len(ran) == 6
    ran.clear()
    with torch.no_grad():
        model(PackedBatch.from_sequences(sequences()))
    gradients(model, model.eval()(PackedBatch.from_sequences(sequences())))
    assert len(ran) == 6


def test_transformers_switches_checkpointing() -> None:
    config = HFConfig(**ModernBertConfig(**TINY, attention_dropout=0.1).to_hf())
    plain = hf_model.ModernBertModel(config).train()
    saving = copy.deepcopy(plain)
    saving.gradient_checkpointing_enable()
    assert saving.is_gradient_checkpointing
    ids_NL = torch.tensor(sequences((20, 20)))
    ran, found = count_layers(saving), []
    for model in (plain, saving):
        torch.manual_seed(2)
        found.append(gradients(model, model(ids_NL).last_hidden_state))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, msg=name)
    assert len(ran) == 6
    ran.clear()
    gradients(saving, saving.eval()(ids_NL).last_hidden_state)
    assert len(ran) == 3
    ran.clear()
    saving.gradient_checkpointing_disable()
    gradients(saving, saving.train()(ids_NL).last_hidden_state)
    assert len(ran) == 3
