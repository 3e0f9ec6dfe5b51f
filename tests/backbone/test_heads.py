"""Masked language models against transformers, gradients included. Axes: N sequences, L padded length."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ModernBertConfig as HFConfig
from transformers import ModernBertForMaskedLM

from flatcoat.backbone import hf_model
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel, SequenceClassifier, TokenClassifier
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch, unpad

LENGTHS = torch.tensor([7, 40, 1, 33])
MASK_NL = (torch.arange(40) < LENGTHS[:, None]).long()


def ids_like(mask_NL: Tensor, vocab_size: int) -> Tensor:
    return torch.randint(5, vocab_size, mask_NL.shape, generator=torch.Generator().manual_seed(0))


def stir(model: nn.Module) -> None:
    """Move norms and biases off their start, so that a missing one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter) / 5)


@pytest.fixture(
    params=[
        {},
        {"norm_bias": True, "classifier_bias": True, "classifier_activation": "relu", "decoder_bias": False},
        {"tie_word_embeddings": False},
    ],
    ids=["published", "biases", "untied"],
)
def model(request: pytest.FixtureRequest, config: ModernBertConfig) -> MaskedLanguageModel:
    torch.manual_seed(3)
    values = config.to_hf() | request.param
    model = MaskedLanguageModel(ModernBertConfig.from_hf(values))
    stir(model)
    return model


def test_gradients_of_the_masked_language_model_are_those_of_transformers(model: MaskedLanguageModel) -> None:
    theirs = ModernBertForMaskedLM(HFConfig(**model.config.to_hf()))
    theirs.load_state_dict(model.state_dict())
    ids_NL = ids_like(MASK_NL, model.config.vocab_size)
    batch, positions_T = unpad(ids_NL, MASK_NL)
    labels_T = torch.randint(0, model.config.vocab_size, positions_T.shape)
    asked = torch.arange(0, len(positions_T), 3)
    ours = model(batch, asked)
    expected = theirs(ids_NL, attention_mask=MASK_NL).logits.flatten(0, 1)[positions_T][asked]
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()
    for logits in (ours, expected):
        F.cross_entropy(logits, labels_T[asked]).backward()
    assert_equal_gradients(model, theirs)


def assert_equal_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    """Within 1e-4 of the largest entry, parameter by parameter."""
    expected = dict(theirs.named_parameters())
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        gradient, wanted = parameter.grad, expected[name].grad
        assert gradient is not None, name
        assert wanted is not None, name
        assert wanted.abs().max() > 0, name
        assert (gradient - wanted).abs().max() <= 1e-4 * wanted.abs().max(), name


Make = Callable[[ModernBertConfig], nn.Module]


@pytest.mark.parametrize("lengths", [[0, 9, 0, 30], [0, 0]])
@pytest.mark.parametrize("make", [ModernBert, MaskedLanguageModel, SequenceClassifier, TokenClassifier])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_rows_of_padding_only_leave_no_nan(
    config: ModernBertConfig, make: Make, lengths: list[int], pooling: str
) -> None:
    mask_NL = (torch.arange(30) < torch.tensor(lengths)[:, None]).long()
    config = ModernBertConfig.from_hf(config.to_hf() | {"classifier_pooling": pooling})
    model = make(config)
    batch, _ = unpad(ids_like(mask_NL, config.vocab_size), mask_NL)
    assert len(batch.lengths) == sum(length > 0 for length in lengths)
    outputs = model(batch)
    outputs.square().sum().backward()
    assert outputs.isfinite().all()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("lengths", [[0, 9, 0, 30], [0, 0]])
@pytest.mark.parametrize("autocast", [False, True])
def test_padded_rows_of_padding_only_train_without_nan(
    config: ModernBertConfig, lengths: list[int], autocast: bool
) -> None:
    mask_NL = (torch.arange(30) < torch.tensor(lengths)[:, None]).long()
    model = hf_model.ModernBertModel(HFConfig(**config.to_hf()))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden_NLD = model(ids_like(mask_NL, config.vocab_size), mask_NL).last_hidden_state
    pooled_ND = hidden_NLD.float().sum(dim=1) / mask_NL.sum(dim=1, keepdim=True).clamp(min=1)
    pooled_ND.square().sum().backward()
    assert hidden_NLD.isfinite().all()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_head_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=500,
        hidden_size=128,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=64,
        classifier_bias=True,
        tie_word_embeddings=False,
    )
    model = MaskedLanguageModel(config)
    sigma = 0.02 / 4**0.5
    for weight in (model.head.dense.weight, model.decoder.weight):
        assert weight.abs().max() <= 2 * sigma
        assert float(weight.detach().std()) == pytest.approx(0.88 * sigma, rel=0.05)
    assert not model.head.dense.bias.any()
    assert not model.decoder.bias.any()
    tied = MaskedLanguageModel(replace(config, tie_word_embeddings=True))
    assert tied.decoder.weight is tied.model.embeddings.tok_embeddings.weight


def test_the_batch_of_no_sequences_has_no_logits(config: ModernBertConfig) -> None:
    batch = PackedBatch.from_sequences([])
    assert MaskedLanguageModel(config)(batch).shape == (0, config.vocab_size)
    assert SequenceClassifier(config, num_labels=3)(batch).shape == (0, 3)
    assert TokenClassifier(config, num_labels=3)(batch).shape == (0, 3)
