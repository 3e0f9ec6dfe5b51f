"""The order of sequences: every token once per epoch, sources by weight, resumed exactly."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.shards import Shards, write_shards
from flatcoat.backbone.pretraining.stream import SequenceStream, sequences_in_order


def stream(*sources: Shards, weights: list[float | None] | None = None, seed: int = 0) -> SequenceStream:
    return SequenceStream(sources, weights=weights or [None] * len(sources), length=20, seed=seed)


def test_an_epoch_has_every_token_once(shards: Shards) -> None:
    count = len(sequences_in_order(shards, length=20))
    endless = stream(shards)
    epochs = [list(islice(endless, count)) for _ in range(2)]
    for spans in epochs:
        covered = Counter(token for span in spans for token in range(span.start, span.start + span.length))
        assert covered == Counter(range(shards.token_count))
        assert max(span.length for span in spans) == 18
    assert epochs[0] != epochs[1]
    assert endless.epochs == [2.0]


def test_sequences_keep_to_documents_and_are_as_long_as_can_be(shards: Shards) -> None:
    expected = []
    start = 0
    for length in shards.document_lengths().tolist():
        expected += [(0, start + at, min(18, length - at)) for at in range(0, length, 18)]
        start += length
    assert sequences_in_order(shards, length=20) == expected


def test_sources_are_mixed_by_weight(
    shards: Shards, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    small = write_shards(["a dog sees a cat"], tokenizer, tmp_path, fingerprint="x")
    drawn = Counter[int]()
    for span in islice(stream(shards, small, weights=[3.0, 1.0]), 4000):
        drawn[span.source] += span.length + 2
    assert drawn[0] / drawn.total() == pytest.approx(0.75, abs=0.001)


def test_it_goes_on_from_any_state(shards: Shards) -> None:
    whole = list(islice(stream(shards, shards, weights=[2.0, 1.0]), 900))
    first = stream(shards, shards, weights=[2.0, 1.0])
    assert list(islice(first, 411)) == whole[:411]
    second = stream(shards, shards, weights=[2.0, 1.0])
    second.restore(first.state())
    assert list(islice(second, 489)) == whole[411:]
    assert list(islice(stream(shards, shards, weights=[2.0, 1.0], seed=1), 900)) != whole
