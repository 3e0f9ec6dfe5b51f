"""Filling masks, against transformers' fill-mask pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast, pipeline

from flatcoat import FlatcoatError
from flatcoat.backbone import fill_mask
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.fill_mask import Filled, FillMask
from flatcoat.backbone.heads import MaskedLanguageModel

ONE = "Dogs bark at [MASK], retrieve birds and swim."
TWO = "The [MASK] is blue because air scatters [MASK] waves."
LONG = "Bread rises as yeast turns sugar into carbon dioxide. " * 20 + "[MASK]!"
TEXTS = [ONE, TWO, "[MASK]", LONG, "[MASK] [MASK][MASK]", "a [MASK] b"]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, config: ModernBertConfig, tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A masked language model with its tokenizer; probabilities far apart, so that their order is sure."""
    folder = tmp_path_factory.mktemp("checkpoints") / "masked"
    torch.manual_seed(4)
    model = MaskedLanguageModel(config)
    with torch.no_grad():
        model.decoder.bias.normal_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def fill(folder: Path) -> FillMask:
    return FillMask.from_pretrained(folder)


def per_mask(answer: list[Any]) -> list[list[dict[str, Any]]]:
    """transformers leaves out the level of masks where there is one."""
    return answer if isinstance(answer[0], list) else [answer]


@pytest.mark.parametrize("top_k", [1, 5, 40])
def test_fillings_are_those_of_transformers(folder: Path, fill: FillMask, top_k: int) -> None:
    theirs = pipeline("fill-mask", model=str(folder), device="cpu")
    for text, masks in zip(TEXTS, fill(TEXTS, top_k=top_k), strict=True):
        expected = per_mask(theirs(text, top_k=top_k))
        assert len(masks) == len(expected) == text.count("[MASK]")
        for came, wanted in zip(masks, expected, strict=True):
            assert [(filled.token_id, filled.token, filled.text) for filled in came] == [
                (each["token"], each["token_str"], each["sequence"]) for each in wanted
            ]
            assert [filled.score for filled in came] == pytest.approx(
                [each["score"] for each in wanted], rel=1e-4
            )


def test_one_text_gives_its_masks_and_many_a_list_of_them(fill: FillMask) -> None:
    (fillings,) = fill(ONE, top_k=3)
    assert len(fillings) == 3
    best = fillings[0]
    assert isinstance(best, Filled)
    assert 0 < best.score < 1
    assert best.text.startswith("dogs bark at")
    assert [len(masks) for masks in fill([ONE, TWO])] == [1, 2]
    assert fill([]) == []


def test_all_tokens_together_are_certain(fill: FillMask) -> None:
    (fillings,) = fill(ONE, top_k=fill.model.config.vocab_size)
    assert sum(filled.score for filled in fillings) == pytest.approx(1, abs=1e-4)
    assert len({filled.token_id for filled in fillings}) == fill.model.config.vocab_size
    scores = [filled.score for filled in fillings]
    assert scores == sorted(scores, reverse=True)


def test_small_batches_change_nothing(fill: FillMask, monkeypatch: pytest.MonkeyPatch) -> None:
    together = fill(TEXTS)
    monkeypatch.setattr(fill_mask, "BATCH_TOKENS", 30)
    for came, expected in zip(fill(TEXTS), together, strict=True):
        for masks, wanted in zip(came, expected, strict=True):
            assert [filled.token_id for filled in masks] == [filled.token_id for filled in wanted]


def test_only_the_masks_are_decoded(fill: FillMask, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    fill.model.decoder.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    fill(TEXTS)
    assert sum(decoded) == sum(text.count("[MASK]") for text in TEXTS)


@pytest.mark.parametrize(
    ("text", "top_k", "message"),
    [
        ("Dogs bark at strangers.", 5, r"no \[MASK\] in 'Dogs bark at strangers\.'"),
        ("", 5, r"no \[MASK\] in ''"),
        (ONE, 0, "top_k is 0: the model has 1 to"),
        (ONE, -1, "top_k is -1"),
        (ONE, 10_000, "top_k is 10000: the model has 1 to"),
        ("word " * 1100 + "[MASK]", 5, r"'word .* has \d+ tokens, the model reads 1024: shorten it"),
    ],
)
def test_texts_that_cannot_be_filled(fill: FillMask, text: str, top_k: int, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        fill(text, top_k=top_k)
    with pytest.raises(FlatcoatError, match=message):
        fill([ONE, text], top_k=top_k)


def test_tokenizers_that_do_not_fit(fill: FillMask, tokenizer: PreTrainedTokenizerFast) -> None:
    maskless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(FlatcoatError, match="the tokenizer has no mask token"):
        FillMask(fill.model, maskless)
    config = ModernBertConfig.from_hf(fill.model.config.to_hf() | {"vocab_size": 50})
    with pytest.raises(FlatcoatError, match="the tokenizer has 320 tokens, the model 50"):
        FillMask(MaskedLanguageModel(config), tokenizer)


def test_a_checkpoint_without_a_tokenizer(config: ModernBertConfig, tmp_path: Path) -> None:
    MaskedLanguageModel(config).save_pretrained(tmp_path)
    with pytest.raises(FlatcoatError, match="has no tokenizer that transformers loads: save the one"):
        FillMask.from_pretrained(tmp_path)


def test_a_training_model_is_put_into_evaluation_mode(
    config: ModernBertConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert FillMask(MaskedLanguageModel(config).train(), tokenizer).model.training is False
