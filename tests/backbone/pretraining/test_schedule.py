"""Learning rate and batch size against their definitions."""

import math

import pytest
from pydantic import ValidationError

from flatcoat.backbone.pretraining.schedule import batch_tokens, learning_rate
from flatcoat.backbone.pretraining.settings import Phase


def phase(**values: object) -> Phase:
    defaults = {"name": "a", "tokens": 1_000, "learning_rate": 2.0, "batch_tokens": 100}
    return Phase.model_validate(defaults | values)


def test_the_rate_warms_up_stays_and_falls_by_one_minus_sqrt() -> None:
    whole = phase(warmup_tokens=200, decay="1-sqrt", final=0.001)
    for tokens in range(0, 201, 20):
        assert learning_rate(whole, tokens) == pytest.approx(2.0 * tokens / 200)
    for tokens in range(200, 1001, 50):
        left = 1 - math.sqrt((tokens - 200) / 800)
        assert learning_rate(whole, tokens) == pytest.approx(2.0 * (0.001 + 0.999 * left))
    assert learning_rate(whole, 5_000) == pytest.approx(0.002)
    assert {learning_rate(phase(), tokens) for tokens in (0, 1, 999, 10**9)} == {2.0}


def test_batches_grow_by_as_many_steps_for_each_size() -> None:
    first, last, warmup = 768, 4608, 50_000_000
    growing = phase(tokens=10**9, batch_tokens=last, first_batch_tokens=first, batch_warmup_tokens=warmup)
    # FlexBERT: sizes first, first + 1, ... in turn, each for the same number of steps.
    steps_per_size = warmup / sum(range(first, last))
    tokens = 0.0
    for size in range(first, last):
        assert batch_tokens(growing, int(tokens)) == pytest.approx(size, abs=2)
        tokens += steps_per_size * size
    assert batch_tokens(growing, warmup) == batch_tokens(growing, 10**9) == last


def test_what_does_not_go_together_is_refused() -> None:
    for values in ({"first_batch_tokens": 10}, {"first_batch_tokens": 200, "batch_warmup_tokens": 5}):
        with pytest.raises(ValidationError):
            phase(**values)
