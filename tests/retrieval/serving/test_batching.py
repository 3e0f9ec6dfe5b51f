"""The batcher: what comes together is encoded together, in turns, and errors reach who waits."""

from collections.abc import Sequence
from threading import Event

import numpy as np
import pytest

from flatcoat.retrieval.serving.batching import Batcher, estimated_tokens


class Recorder:
    """Encodes a text as its length, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_encode = Event()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(texts))
        assert self.may_encode.wait(10)
        if "bad" in texts:
            raise ValueError("a bad text")
        return np.array([[len(text)] for text in texts], np.float32)


def lengths(vectors: list[np.ndarray]) -> list[int]:
    return [int(vector[0]) for vector in vectors]


def test_what_comes_while_a_batch_runs_is_the_next_batch() -> None:
    encode = Recorder()
    batcher = Batcher(encode, name="test")
    first = batcher.submit(["first"])
    while not encode.batches:
        pass
    others = [batcher.submit(["a" * size, "b"]) for size in range(1, 20)]
    assert len(batcher) == 38
    encode.may_encode.set()
    assert lengths(first.result(10)) == [5]
    assert [lengths(other.result(10)) for other in others] == [[size, 1] for size in range(1, 20)]
    assert list(map(len, encode.batches)) == [1, 38]
    batcher.close()


def test_a_small_request_does_not_wait_for_all_of_a_large_one() -> None:
    encode = Recorder()
    batcher = Batcher(encode, name="test", max_tokens=10 * estimated_tokens("x"))
    large = batcher.submit(["x"] * 1000)
    while not encode.batches:
        pass
    small = batcher.submit(["y"])
    encode.may_encode.set()
    assert lengths(small.result(10)) == [1]
    assert len(large.result(10)) == 1000
    assert any("y" in batch for batch in encode.batches[:4])
    assert max(map(len, encode.batches)) <= 10
    batcher.close()


def test_an_error_reaches_those_of_the_batch_and_nobody_else() -> None:
    encode = Recorder()
    encode.may_encode.set()
    batcher = Batcher(encode, name="test")
    with pytest.raises(ValueError, match="a bad text"):
        batcher.submit(["bad"]).result(10)
    assert lengths(batcher.submit(["good"]).result(10)) == [4]
    batcher.close()


def test_what_is_cancelled_is_not_encoded() -> None:
    encode = Recorder()
    batcher = Batcher(encode, name="test")
    first = batcher.submit(["first"])
    while not encode.batches:
        pass
    second, third = batcher.submit(["second"]), batcher.submit(["third"])
    assert second.cancel()
    encode.may_encode.set()
    assert lengths(third.result(10)) == lengths(first.result(10)) == [5]
    assert ["second"] not in encode.batches
    assert all("second" not in batch for batch in encode.batches)
    batcher.close()


def test_closing_finishes_what_was_submitted() -> None:
    encode = Recorder()
    encode.may_encode.set()
    batcher = Batcher(encode, name="test", max_tokens=1)
    futures = [batcher.submit(["text"]) for _ in range(50)]
    batcher.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(["late"])
