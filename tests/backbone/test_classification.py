"""Classifiers against transformers'. Axes: N sequences, L padded length, T tokens, C labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    PreTrainedModel,
)
from transformers import ModernBertConfig as HFConfig

from flatcoat import FlatcoatError
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel, SequenceClassifier, TokenClassifier
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch, unpad

LENGTHS = torch.tensor([7, 40, 1, 33])
MASK_NL = (torch.arange(40) < LENGTHS[:, None]).long()
IDS_NL = torch.randint(5, 200, MASK_NL.shape, generator=torch.Generator().manual_seed(0))
LABELS = 3

Classifier = SequenceClassifier | TokenClassifier
Kind = type[SequenceClassifier] | type[TokenClassifier]
THEIRS: dict[Kind, type[PreTrainedModel]] = {
    SequenceClassifier: ModernBertForSequenceClassification,
    TokenClassifier: ModernBertForTokenClassification,
}
AUTO = {
    SequenceClassifier: AutoModelForSequenceClassification,
    TokenClassifier: AutoModelForTokenClassification,
}
CASES: list[tuple[Kind, dict[str, Any]]] = [
    (SequenceClassifier, {"classifier_pooling": "cls"}),
    (SequenceClassifier, {"classifier_pooling": "mean"}),
    (
        SequenceClassifier,
        {"classifier_pooling": "mean", "classifier_bias": True, "classifier_activation": "silu"},
    ),
    (TokenClassifier, {}),
]


class Pair(NamedTuple):
    """The same weights twice."""

    ours: Classifier
    theirs: PreTrainedModel


def stir(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter) / 5)


@pytest.fixture(params=CASES, ids=["cls", "mean", "options", "tokens"])
def pair(request: pytest.FixtureRequest, config: ModernBertConfig) -> Pair:
    kind, options = request.param
    torch.manual_seed(7)
    ours = kind(ModernBertConfig.from_hf(config.to_hf() | options), num_labels=LABELS).eval()
    stir(ours)
    theirs = THEIRS[kind](HFConfig(**ours.config.to_hf())).eval()
    theirs.load_state_dict(ours.state_dict())
    return Pair(ours, theirs)


def our_logits(model: nn.Module) -> Tensor:
    """Logits in the order of the padded rows."""
    batch, positions_T = unpad(IDS_NL, MASK_NL)
    logits = model(batch)
    if isinstance(model, TokenClassifier):
        return logits[positions_T.argsort()]
    return logits[(positions_T[batch.cu_seqlens[:-1]] // IDS_NL.shape[1]).argsort()]


def their_logits(model: PreTrainedModel) -> Tensor:
    logits = model(IDS_NL, attention_mask=MASK_NL).logits
    return logits[MASK_NL.bool()] if logits.dim() == 3 else logits


def assert_near(came: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert came.shape == expected.shape
    assert (came - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def test_logits_are_those_of_transformers(pair: Pair) -> None:
    rows = len(LENGTHS) if isinstance(pair.ours, SequenceClassifier) else int(LENGTHS.sum())
    assert our_logits(pair.ours).shape == (rows, LABELS)
    assert_near(our_logits(pair.ours), their_logits(pair.theirs))
    alone = PackedBatch.from_sequences([IDS_NL[1].tolist()])
    expected = pair.theirs(IDS_NL[1:2]).logits
    assert_near(pair.ours(alone), expected.flatten(0, -2))


def test_gradients_are_those_of_transformers(pair: Pair) -> None:
    for logits in (our_logits(pair.ours), their_logits(pair.theirs)):
        F.cross_entropy(logits, torch.arange(len(logits)) % LABELS).backward()
    expected = dict(pair.theirs.named_parameters())
    for name, parameter in pair.ours.named_parameters():
        gradient, wanted = parameter.grad, expected[name].grad
        assert gradient is not None, name
        assert wanted is not None, name
        assert wanted.abs().max() > 0, name
        assert_near(gradient, wanted, 1e-4)


@torch.no_grad()
def test_transformers_loads_what_is_saved(pair: Pair, tmp_path: Path) -> None:
    pair.ours.save_pretrained(tmp_path)
    loaded, report = AUTO[type(pair.ours)].from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, type(pair.theirs))
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.config.num_labels == LABELS
    assert_near(our_logits(pair.ours), their_logits(loaded))
    again = type(pair.ours).from_pretrained(tmp_path)
    assert torch.equal(our_logits(again), our_logits(pair.ours))


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 2, LABELS])
def test_what_transformers_saves_is_loaded(pair: Pair, tmp_path: Path, labels: int) -> None:
    theirs = type(pair.theirs)(
        HFConfig(**pair.theirs.config.to_dict() | {"id2label": None, "num_labels": labels})
    )
    theirs.eval().save_pretrained(tmp_path)
    ours = type(pair.ours).from_pretrained(tmp_path)
    assert ours.classifier.out_features == labels
    assert_near(our_logits(ours), their_logits(theirs))


def test_a_padded_row_without_tokens_has_no_logits(pair: Pair) -> None:
    mask_NL = MASK_NL.clone()
    mask_NL[1] = 0
    batch, _ = unpad(IDS_NL, mask_NL)
    logits = pair.ours(batch)
    rows = len(LENGTHS) - 1 if isinstance(pair.ours, SequenceClassifier) else int(mask_NL.sum())
    assert logits.shape == (rows, LABELS)
    assert logits.isfinite().all()


def test_the_mean_of_many_tokens_survives_bfloat16(config: ModernBertConfig) -> None:
    torch.manual_seed(1)
    long = PackedBatch.from_sequences([[5, 6, 7] * 340])
    model = SequenceClassifier(replace(config, classifier_pooling="mean"), num_labels=LABELS).eval()
    with torch.no_grad():
        exact = model(long)
        rough = model.bfloat16()(long)
    assert rough.dtype == torch.bfloat16
    assert_near(rough.float(), exact, 0.05)


def test_dropout_stands_before_the_classifier(config: ModernBertConfig) -> None:
    batch = PackedBatch.from_sequences([IDS_NL[0].tolist()])
    model = SequenceClassifier(replace(config, classifier_dropout=0.5), num_labels=LABELS)
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


@pytest.fixture(params=["encoder", "masked", "classifier"])
def start(request: pytest.FixtureRequest, config: ModernBertConfig, tmp_path: Path) -> Path:
    """A checkpoint of another task."""
    torch.manual_seed(8)
    made = {
        "encoder": lambda: ModernBert(config),
        "masked": lambda: MaskedLanguageModel(config),
        "classifier": lambda: SequenceClassifier(config, num_labels=LABELS),
    }[request.param]()
    stir(made)
    folder = tmp_path / request.param
    made.to(torch.bfloat16).save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"problem_type": "single_label_classification"})
    )
    return folder


@pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier])
@pytest.mark.parametrize("labels", [1, LABELS, 5])
def test_a_classifier_is_started_on_any_checkpoint(start: Path, kind: Kind, labels: int) -> None:
    torch.manual_seed(9)
    model = kind.from_pretrained(start, num_labels=labels)
    assert model.classifier.weight.shape == (labels, 64)
    assert not model.classifier.bias.any()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    encoder = ModernBert.from_pretrained(start).state_dict()
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in model.model.state_dict().items())
    if start.name == "encoder":
        assert model.head.dense.weight.abs().max() <= 2 * 0.1 / 8**0.5 + 1e-3
        assert (model.head.norm.weight == 1).all()
    else:
        saved = kind_of(start).from_pretrained(start).head.state_dict()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in model.head.state_dict().items())
    config = model.config.to_hf()
    assert list(config["id2label"].values()) == [f"LABEL_{label}" for label in range(labels)]
    assert "problem_type" not in config


def kind_of(start: Path) -> type[MaskedLanguageModel] | type[SequenceClassifier]:
    return MaskedLanguageModel if start.name == "masked" else SequenceClassifier


def test_a_started_classifier_is_spread_as_the_paper_says() -> None:
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=100, hidden_size=128, num_attention_heads=2, num_hidden_layers=1, intermediate_size=32
    )
    weight = SequenceClassifier(config, num_labels=100).classifier.weight.detach()
    sigma = 128**-0.5
    assert weight.abs().max() <= 2 * sigma
    assert float(weight.std()) == pytest.approx(0.88 * sigma, rel=0.05)


def test_what_cannot_be_a_classifier(
    modernbert_folder: Path, config: ModernBertConfig, tmp_path: Path
) -> None:
    with pytest.raises(FlatcoatError, match="has no classifier: give num_labels to start one"):
        SequenceClassifier.from_pretrained(modernbert_folder)
    with pytest.raises(FlatcoatError, match="num_labels is 0: a classifier needs at least 1"):
        TokenClassifier.from_pretrained(modernbert_folder, num_labels=0)
    with pytest.raises(FlatcoatError, match="classifier_pooling is 'max': known are cls, mean"):
        ModernBertConfig.from_hf(config.to_hf() | {"classifier_pooling": "max"})
    with pytest.raises(FlatcoatError, match="classifier_activation 'mish' is not supported"):
        ModernBertConfig.from_hf(config.to_hf() | {"classifier_activation": "mish"})
    SequenceClassifier(config, num_labels=LABELS).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(
        FlatcoatError, match=r"classifier\.weight has shape \(3, 64\), its config asks for \(2, 64\)"
    ):
        SequenceClassifier.from_pretrained(tmp_path)
