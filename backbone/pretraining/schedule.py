"""Learning rate and batch size by tokens seen: warmup, stable, 1-sqrt decay; growing batches."""

import math

from .settings import Phase


def learning_rate(phase: Phase, tokens: int) -> float:
    """The learning rate after ``tokens`` of a phase (arXiv 2405.18392 for the decay by 1 - sqrt).

    >>> stable = Phase(name="a", tokens=100, learning_rate=1.0, batch_tokens=1, warmup_tokens=10)
    >>> [learning_rate(stable, tokens) for tokens in (0, 5, 10, 100)]
    [0.0, 0.5, 1.0, 1.0]
    >>> annealing = Phase(name="b", tokens=100, learning_rate=1.0, batch_tokens=1, decay="1-sqrt", final=0)
    >>> [learning_rate(annealing, tokens) for tokens in (0, 25, 100)]
    [1.0, 0.5, 0.0]
    """
    if tokens < phase.warmup_tokens:
        return phase.learning_rate * tokens / phase.warmup_tokens
    if phase.decay == "none":
        return phase.learning_rate
    done = (tokens - phase.warmup_tokens) / max(1, phase.tokens - phase.warmup_tokens)
    left = 1 - math.sqrt(min(1.0, done))
    return phase.learning_rate * (phase.final + (1 - phase.final) * left)


def batch_tokens(phase: Phase, tokens: int) -> int:
    """The tokens of the step that begins after ``tokens`` of a phase.

    Batches grow linearly with steps, as FlexBERT's do, hence with the square root of the tokens.

    >>> phase = Phase(name="a", tokens=99, learning_rate=1, batch_tokens=50, first_batch_tokens=10,
    ...               batch_warmup_tokens=24)
    >>> [batch_tokens(phase, tokens) for tokens in (0, 6, 24, 99)]
    [10, 26, 50, 50]
    """
    if phase.first_batch_tokens is None or tokens >= phase.batch_warmup_tokens:
        return phase.batch_tokens
    first, last = phase.first_batch_tokens**2, phase.batch_tokens**2
    return math.isqrt(first + (last - first) * tokens // phase.batch_warmup_tokens)
