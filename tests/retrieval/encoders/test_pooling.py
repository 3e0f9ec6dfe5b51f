"""Packed pooling against sentence-transformers' module on padded rows. Axes: N texts, L padded, T tokens."""

from typing import Any

import pytest
import sentence_transformers
import torch
from sentence_transformers.models import Pooling

from flatcoat.backbone.packing import PackedBatch, repad
from flatcoat.retrieval.encoders.dense import pooled
from flatcoat.retrieval.encoders.dense_texts import CLS_AFTER_PROMPT, pooling_modes

IS_6 = int(sentence_transformers.__version__.partition(".")[0]) >= 6
WIDTH = 6
LENGTHS = [1, 2, 2, 5, 3, 9]
POOLINGS: dict[str, dict[str, Any]] = {mode: {"pooling_mode": mode} for mode in Pooling.POOLING_MODES}
POOLINGS["several"] = {f"pooling_mode_{name}": True for name in ("weightedmean_tokens", "max_tokens")}


@pytest.mark.parametrize("prompt_tokens", [0, 2])
@pytest.mark.parametrize("name", POOLINGS)
def test_vectors_are_those_of_the_padded_module(name: str, prompt_tokens: int) -> None:
    pooling = Pooling(WIDTH, **POOLINGS[name], include_prompt=prompt_tokens == 0)
    batch = PackedBatch.from_sequences([[7] * length for length in LENGTHS])
    hidden_TD = torch.randn(sum(LENGTHS), WIDTH, generator=torch.Generator().manual_seed(0))
    mask_NL = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    features = {
        "token_embeddings": repad(hidden_TD, mask_NL.view(-1).nonzero()[:, 0], shape=mask_NL.shape),
        "attention_mask": mask_NL.long(),
        "prompt_length": torch.tensor([prompt_tokens]),
    }
    expected = pooling(features)["sentence_embedding"]
    modes = pooling_modes(pooling)
    # Release 5 reads row 0, whatever the mask; 6 looks for the first token that its mask without the prompt
    # has, in its padded code and its flat code alike. A model gets the vectors of the release beside it.
    if IS_6 and name == "cls" and prompt_tokens:
        modes = CLS_AFTER_PROMPT
    came = pooled(hidden_TD, batch, modes=modes, prompt_tokens=prompt_tokens)
    # The module has no last token of a text that is all prompt, and from release 6 on no maximum.
    if name == "lasttoken" or (IS_6 and prompt_tokens and name in ("max", "several")):
        came, expected = came[3:], expected[3:]
    torch.testing.assert_close(came, expected, rtol=1e-6, atol=1e-6)


def test_half_precision_is_summed_in_full() -> None:
    batch = PackedBatch.from_sequences([[7] * 4_000])
    came = pooled(torch.full((4_000, WIDTH), 1.0, dtype=torch.bfloat16), batch, modes="mean")
    assert came.dtype == torch.float32
    assert torch.equal(came, torch.ones(1, WIDTH))
