"""Objectives against their definitions, written out over padded batches or whole distributions."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import ModernBertConfig as HFConfig
from transformers import ModernBertForMaskedLM

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.pretraining.batches import MaskedBatch, Totals
from flatcoat.backbone.pretraining.distillation import DistilledModel, LogitDivergence, VectorDivergence
from flatcoat.backbone.pretraining.objectives import MaskedLanguageModelling
from flatcoat.backbone.pretraining.replaced_tokens import ReplacedTokenDetection

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "local_attention": 8,
    "pad_token_id": 0,
}
LENGTHS = (4, 7, 7, 30)
MASK = 3


def model(seed: int = 0, **changes: Any) -> MaskedLanguageModel:
    torch.manual_seed(seed)
    made = MaskedLanguageModel(ModernBertConfig(**(SIZES | changes), initializer_range=0.3))
    torch.nn.init.normal_(made.decoder.bias)
    return made


@pytest.fixture
def batch() -> MaskedBatch:
    draw = np.random.default_rng(0)
    sequences = [draw.integers(5, 60, length).tolist() for length in LENGTHS]
    packed = PackedBatch.from_sequences(sequences)
    positions_M = torch.tensor([1, 5, 6, 12, 20, 21, 40])
    original_T = packed.input_ids_T.clone()
    packed.input_ids_T[positions_M] = MASK
    return MaskedBatch(packed, positions_M, original_T[positions_M], original_T, seed=5)


TOTALS = Totals(predicted=7, tokens=48, sequences=4)


def test_masked_language_modelling_is_that_of_transformers(batch: MaskedBatch) -> None:
    ours = model().eval()
    theirs = ModernBertForMaskedLM(HFConfig(**ours.config.to_hf(), attn_implementation="eager")).eval()
    theirs.load_state_dict(ours.state_dict())
    starts = np.cumsum([0, *LENGTHS])
    ids_NL = torch.zeros(4, 30, dtype=torch.long)
    labels_NL = torch.full((4, 30), -100)
    for row, (start, stop) in enumerate(pairwise(starts)):
        ids_NL[row, : stop - start] = batch.batch.input_ids_T[start:stop]
        for position, label in zip(batch.positions_M.tolist(), batch.labels_M.tolist(), strict=True):
            if start <= position < stop:
                labels_NL[row, position - start] = label
    expected = theirs(ids_NL, attention_mask=(ids_NL != 0).long(), labels=labels_NL)
    outcome = MaskedLanguageModelling(ours)(batch, TOTALS)
    torch.testing.assert_close(outcome.loss, expected.loss)
    predicted = labels_NL != -100
    correct = (expected.logits.argmax(-1) == labels_NL)[predicted].float().mean()
    torch.testing.assert_close(outcome.figures["masked_accuracy"], correct)
    # Shares: with twice as many in the step, half of the mean.
    half = MaskedLanguageModelling(ours)(batch, TOTALS._replace(predicted=14))
    torch.testing.assert_close(2 * half.loss, outcome.loss)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logits_are_distilled_by_their_divergence(batch: MaskedBatch, temperature: float) -> None:
    student, teacher = model(0).eval(), model(1, vocab_size=64).eval()
    distilled = DistilledModel(student, LogitDivergence(teacher, temperature=temperature), weight=0.7)
    outcome = distilled(batch, TOTALS)
    p = (teacher(batch.batch, batch.positions_M)[:, :60] / temperature).softmax(-1)
    q = (student(batch.batch, batch.positions_M) / temperature).softmax(-1)
    divergence = temperature**2 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(outcome.figures["divergence"], divergence.detach())
    masked = F.cross_entropy(student(batch.batch, batch.positions_M), batch.labels_M)
    torch.testing.assert_close(outcome.loss, 0.7 * divergence + 0.3 * masked)
    assert DistilledModel(student, LogitDivergence(copy.deepcopy(student), temperature=1), weight=1)(
        batch, TOTALS
    ).loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sentences", [False, True])
def test_vectors_are_distilled_by_their_cosine(batch: MaskedBatch, sentences: bool) -> None:
    student, teacher = model(0).eval(), model(1, hidden_size=32).eval()
    divergence = VectorDivergence(teacher.model, 16, sentences=sentences)
    distilled = DistilledModel(student, divergence, weight=0.5)
    outcome = distilled(batch, TOTALS)
    student_TD = divergence.projection(student.model(batch.batch))
    plain = PackedBatch(batch.original_ids_T, batch.batch.cu_seqlens, batch.batch.lengths)
    pairs = zip(student_TD.split(LENGTHS), teacher.model(plain).split(LENGTHS), strict=True)
    if sentences:
        distances = [1 - F.cosine_similarity(a.mean(0), b.mean(0), dim=0)[None] for a, b in pairs]
    else:
        distances = [1 - F.cosine_similarity(a, b, dim=-1) for a, b in pairs]
    torch.testing.assert_close(outcome.figures["divergence"], torch.cat(distances).mean().detach())
    outcome.loss.backward()
    assert divergence.projection.weight.grad is not None
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_teacher_is_neither_trained_nor_saved(batch: MaskedBatch) -> None:
    student = model(0)
    distilled = DistilledModel(student, LogitDivergence(model(1), temperature=1), weight=1)
    assert distilled.state_dict().keys() == {f"model.{name}" for name in student.state_dict()}
    distilled.train()
    one, two = (distilled(batch, TOTALS).loss for _ in range(2))
    assert torch.equal(one, two)


def test_replaced_tokens_are_found_among_all(batch: MaskedBatch) -> None:
    objective = ReplacedTokenDetection(model().model, generator_share=0.5, weight=50).eval()
    assert objective.generator.config.hidden_size == 8
    torch.manual_seed(9)
    outcome = objective(batch, TOTALS)
    torch.manual_seed(9)
    logits_MV = objective.generator(batch.batch, batch.positions_M)
    sampled_M = torch.multinomial(logits_MV.softmax(-1), 1)[:, 0]
    ids_T = batch.original_ids_T.clone()
    ids_T[batch.positions_M] = sampled_M
    truth_T = (ids_T != batch.original_ids_T).float()
    packed = PackedBatch(ids_T, batch.batch.cu_seqlens, batch.batch.lengths)
    scores_T = objective.classifier(objective.head(objective.discriminator(packed)))[:, 0]
    p = scores_T.sigmoid()
    detection = -(truth_T * p.log() + (1 - truth_T) * (1 - p).log()).mean()
    generation = F.cross_entropy(logits_MV, batch.labels_M)
    torch.testing.assert_close(outcome.loss, generation + 50 * detection)
    assert outcome.figures["replaced"].item() == pytest.approx(truth_T.mean().item())
    # The discriminator does not train the generator: samples have no gradient.
    (50 * detection).backward()
    assert all(weight.grad is None for weight in objective.generator.parameters())
