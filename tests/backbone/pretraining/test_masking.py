"""Masking against its definition: 80/10/10 of so many tokens, never a special one, words whole if asked."""

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.masking import Masker

SPECIAL = (0, 1, 2)
MASK = 2


def masker(share: float, **options: object) -> Masker:
    return Masker(MASK, 50, SPECIAL, share, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.3, 0.15])
def test_shares_are_those_of_the_definition(share: float) -> None:
    draw = np.random.default_rng(0)
    ids_T = draw.integers(0, 50, 200_000)
    masked = masker(share)(ids_T, draw)
    eligible = np.isin(ids_T, SPECIAL, invert=True).sum()
    count = len(masked.positions_M)
    # Four standard deviations of a binomial.
    assert abs(count - share * eligible) < 4 * (eligible * share * (1 - share)) ** 0.5
    assert not np.isin(masked.labels_M, SPECIAL).any()
    assert (masked.labels_M == ids_T[masked.positions_M]).all()
    shown = masked.input_ids_T[masked.positions_M]
    kept = (shown == masked.labels_M).mean()
    is_mask = (shown == MASK).mean()
    # A random id is the same token, or the mask, once in 50 draws each.
    assert is_mask == pytest.approx(0.8 + 0.1 / 50, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / 50, abs=0.01)
    others = shown[(shown != MASK) & (shown != masked.labels_M)]
    counts = np.bincount(others, minlength=50)
    assert counts[[0, 1]].min() > 0  # The whole vocabulary, special ids too.
    assert counts[np.arange(50) != MASK].std() < 4 * counts.mean() ** 0.5
    rest = np.ones(len(ids_T), bool)
    rest[masked.positions_M] = False
    assert (masked.input_ids_T[rest] == ids_T[rest]).all()


def test_the_same_generator_gives_the_same_masks() -> None:
    ids_T = np.arange(3, 50)
    one, two = (masker(0.3)(ids_T, np.random.default_rng((7, 1))) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_words_are_chosen_whole() -> None:
    # Ids from 25 on continue a word.
    starts_V = np.arange(50) < 25
    ids_T = np.random.default_rng(0).integers(3, 50, 50_000)
    masked = masker(0.3, starts_word_V=starts_V)(ids_T, np.random.default_rng(1))
    chosen_T = np.zeros(len(ids_T), bool)
    chosen_T[masked.positions_M] = True
    continues = ~starts_V[ids_T[1:]]
    assert (chosen_T[1:][continues] == chosen_T[:-1][continues]).all()
    assert chosen_T.mean() == pytest.approx(0.3, abs=0.01)
    assert (chosen_T[1:][~continues] != chosen_T[:-1][~continues]).any()


def test_a_tokenizer_s_special_tokens_are_never_chosen(tokenizer: PreTrainedTokenizerFast) -> None:
    ids_T = np.array(tokenizer(["The dog sees the cat."] * 200)["input_ids"]).ravel()
    for whole_words in (False, True):
        made = Masker.of(tokenizer, 0.9, whole_words=whole_words)
        masked = made(ids_T, np.random.default_rng(0))
        assert not set(masked.labels_M.tolist()) & set(tokenizer.all_special_ids)
        assert made.vocab_size == len(tokenizer)
