"""The heads of every family against its own library: logits, gradients, files.

Axes: N sequences, L padded length, T tokens, C labels or the vocabulary.
"""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, pipeline

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.fill_mask import FillMask
from flatcoat.backbone.heads import Classifier, MaskedLanguageModel, SequenceClassifier, TokenClassifier
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.weights import published
from flatcoat.errors import DataError

LABELS = 3
LENGTHS = (1, 2, 17, 40, 5)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
EURO = SMALL | {"bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4, "num_key_value_heads": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("Bert", SMALL),
    "BERT, tanh": ("Bert", SMALL | {"hidden_act": "gelu_new", "tie_word_embeddings": False}),
    "RoBERTa": ("Roberta", SMALL),
    "XLM-RoBERTa": ("XLMRoberta", SMALL | {"type_vocab_size": 1}),
    # transformers 5.3 ties nothing where its config does not say so, unlike the releases before and after.
    "CamemBERT": ("Camembert", SMALL | {"type_vocab_size": 1, "tie_word_embeddings": True}),
    "MPNet": ("MPNet", SMALL),
    "DistilBERT": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 40}),
    "ELECTRA": ("Electra", SMALL | {"embedding_size": 20}),
    "ELECTRA, as wide": ("Electra", SMALL | {"embedding_size": 32}),
    "ALBERT": ("Albert", SMALL | {"embedding_size": 20}),
    "EuroBERT": ("EuroBert", EURO),
    "EuroBERT, first": ("EuroBert", EURO | {"classifier_pooling": "bos", "tie_word_embeddings": True}),
    "EuroBERT, mean": ("EuroBert", EURO | {"classifier_pooling": "mean", "mlp_bias": True}),
}
TASKS: dict[str, type[MaskedLanguageModel] | type[Classifier]] = {
    "MaskedLM": MaskedLanguageModel,
    "SequenceClassification": SequenceClassifier,
    "TokenClassification": TokenClassifier,
}
NO_DROPOUT: dict[str, Any] = dict.fromkeys(
    (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout_prob",
        "seq_classif_dropout",
        "dropout",
        "attention_dropout",
    ),
    0.0,
)

each_family = pytest.mark.parametrize("family", FAMILIES)
each_task = pytest.mark.parametrize("task", TASKS)


def make(family: str, task: str, vocab_size: int = 90, **changes: Any) -> PreTrainedModel:
    """A random model in evaluation mode; norms and biases are random too."""
    name, sizes = FAMILIES[family]
    settings = {"vocab_size": vocab_size, "max_position_embeddings": 70, "pad_token_id": 1}
    labels = {} if task == "MaskedLM" else {"num_labels": LABELS}
    arguments = settings | labels | {"initializer_range": 0.1} | sizes | changes
    torch.manual_seed(5)
    config = getattr(transformers, f"{name}Config")(**arguments)
    model = getattr(transformers, f"{name}For{task}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def padded() -> tuple[Tensor, Tensor]:
    """Random ids and the mask of real tokens."""
    generator = torch.Generator().manual_seed(1)
    ids_NL = torch.randint(2, 90, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask_NL = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    return torch.where(mask_NL.bool(), ids_NL, 1), mask_NL


def their_logits(model: PreTrainedModel) -> Tensor:
    ids_NL, mask_NL = padded()
    logits = cast(Any, model)(ids_NL, attention_mask=mask_NL).logits
    return logits[mask_NL.bool()] if logits.dim() == 3 else logits


def our_logits(model: torch.nn.Module) -> Tensor:
    ids_NL, _ = padded()
    rows = [row[:length].tolist() for row, length in zip(ids_NL, LENGTHS, strict=True)]
    return model(PackedBatch.from_sequences(rows))


@each_family
@each_task
def test_logits_are_those_of_transformers(family: str, task: str, tmp_path: Path) -> None:
    model = make(family, task)
    model.save_pretrained(tmp_path)
    ours = TASKS[task].from_pretrained(tmp_path)
    with torch.inference_mode():
        came, expected = our_logits(ours), their_logits(model)
    assert came.shape == expected.shape
    assert (came - expected).abs().max() <= 1e-5


@each_family
@each_task
def test_files_are_written_as_they_were_read(family: str, task: str, tmp_path: Path) -> None:
    model = make(family, task)
    model.save_pretrained(tmp_path / "theirs")
    TASKS[task].from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    settings, written = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours")
    )
    assert written == settings
    again = type(model).from_pretrained(tmp_path / "ours").eval()
    with torch.inference_mode():
        assert torch.equal(their_logits(again), their_logits(model))


@each_family
@each_task
def test_one_step_of_training_is_that_of_transformers(family: str, task: str, tmp_path: Path) -> None:
    config = FAMILIES[family][0] + "Config"
    known = vars(getattr(transformers, config)())
    model = make(family, task, **{name: value for name, value in NO_DROPOUT.items() if name in known})
    model.save_pretrained(tmp_path)
    ours = TASKS[task].from_pretrained(tmp_path).train()
    losses = []
    for logits in (our_logits(ours), their_logits(model.train())):
        losses.append(F.cross_entropy(logits, torch.arange(len(logits)) % LABELS))
        losses[-1].backward()
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    gradients = {name: it.grad for name, it in ours.named_parameters() if it.grad is not None}
    expected = dict(model.named_parameters(remove_duplicate=False))
    for name, gradient in published(gradients, ours.config, ours.task).items():
        wanted = expected[name].grad
        assert wanted is not None, name
        assert (gradient - wanted).abs().max() <= 1e-4, name


@each_family
def test_masks_are_filled_as_by_transformers(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    make(family, "MaskedLM", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(str(tmp_path))
    text = "The [MASK] is blue."
    came = FillMask.from_pretrained(tmp_path)(text)[0]
    expected = pipeline("fill-mask", model=str(tmp_path), device="cpu")(text)
    assert [filled.token_id for filled in came] == [each["token"] for each in expected]
    assert [filled.score for filled in came] == pytest.approx([each["score"] for each in expected], rel=1e-4)


@each_family
@pytest.mark.parametrize("start", ["MaskedLM", "SequenceClassification", "encoder"])
def test_a_classifier_is_started_on_any_checkpoint(family: str, start: str, tmp_path: Path) -> None:
    model: Any = make(family, "MaskedLM" if start == "encoder" else start)
    (model.base_model if start == "encoder" else model).save_pretrained(tmp_path / "start")
    SequenceClassifier.from_pretrained(tmp_path / "start", num_labels=5).save_pretrained(tmp_path / "new")
    name = FAMILIES[family][0]
    again, report = getattr(transformers, f"{name}ForSequenceClassification").from_pretrained(
        tmp_path / "new", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert again.config.num_labels == 5
    states = again.base_model.state_dict()
    for key, tensor in model.base_model.state_dict().items():
        assert "pooler" in key or torch.equal(states[key], tensor), key


def test_what_a_checkpoint_has_beside_the_head_stays(tmp_path: Path) -> None:
    """As BERT's published files have the pooler and the head of next sentences, and norms of old names."""
    name, sizes = FAMILIES["BERT"]
    config = getattr(transformers, f"{name}Config")(vocab_size=90, **sizes)
    torch.manual_seed(2)
    model = transformers.BertForPreTraining(config)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    before = load_file(file)
    old = {
        key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for key, tensor in before.items()
    }
    old["cls.predictions.decoder.bias"] = before["cls.predictions.bias"].clone()
    save_file(old, file)
    ours = MaskedLanguageModel.from_pretrained(tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make("BERT", "TokenClassification").save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"lacks 2 weights that its config names, first head\.dense\.bias"):
        SequenceClassifier.from_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"classifier_dropout": "much"}))
    with pytest.raises(DataError, match="the dropout of its classifier is 'much'"):
        TokenClassifier.from_pretrained(tmp_path)
    settings = make("EuroBERT", "MaskedLM").config.to_dict()
    with pytest.raises(DataError, match="classifier_pooling is 'max'"):
        ModernBertConfig.from_hf(settings | {"classifier_pooling": "max"})
    assert ModernBertConfig(classifier_pooling="late").to_hf()["model_type"] == "flatcoat-flexbert"
