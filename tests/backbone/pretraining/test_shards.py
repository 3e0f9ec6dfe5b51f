"""Tokenised text on disk: the tokenizer's ids, without duplicates, continued where it was cut off."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.shards import Shards, write_shards
from flatcoat.errors import ConflictError, DataError


def documents(shards: Shards) -> list[list[int]]:
    stops = np.cumsum(shards.document_lengths()).tolist()
    return [shards.tokens(start, stop).tolist() for start, stop in zip([0, *stops], stops, strict=False)]


def test_they_hold_what_the_tokenizer_says(
    shards: Shards, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    assert len(shards.shards) > 2
    assert documents(shards) == tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert len(shards) == len(texts)
    assert shards.token_count == sum(map(len, documents(shards)))


def test_texts_that_came_before_are_left_out(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    made = write_shards(
        ["a dog", "a cat", "a  dog\n", "a Dog"], tokenizer, tmp_path, fingerprint="x", shard_tokens=1
    )
    assert [tokenizer.decode(ids) for ids in documents(made)] == ["a dog", "a cat", "a Dog"]
    assert made.duplicates == 1


def test_a_run_that_was_cut_off_goes_on(
    shards: Shards, texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def interrupted() -> Iterator[str]:
        yield from texts[:130]
        raise KeyboardInterrupt

    doubled = [*texts, *texts[:20]]
    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(), tokenizer, tmp_path, fingerprint="x", shard_tokens=3_000)
    assert 0 < len(Shards(tmp_path)) < 130
    tokenised: list[int] = []
    made = write_shards(
        doubled, tokenizer, tmp_path, fingerprint="x", shard_tokens=3_000, on_progress=tokenised.append
    )
    assert tokenised[0] > 3_000  # It did not begin again.
    assert documents(made) == documents(shards)
    assert made.duplicates == 20
    for file in shards.folder.glob("*.npy"):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    write_shards(doubled, tokenizer, tmp_path, fingerprint="x")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_other_text_or_none_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    write_shards(["a dog"], tokenizer, tmp_path / "one", fingerprint="x")
    with pytest.raises(ConflictError, match="other text or another tokenizer"):
        write_shards(["a dog"], tokenizer, tmp_path / "one", fingerprint="y")
    with pytest.raises(DataError, match="two holds no text"):
        write_shards([], tokenizer, tmp_path / "two", fingerprint="x")
    (tmp_path / "one" / "00000.tokens.npy").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read, remove"):
        Shards(tmp_path / "one")
