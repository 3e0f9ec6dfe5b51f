"""An encoder whose vectors are kept gives the vectors of the encoder that it asks, each text once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flatcoat.errors import StorageError
from flatcoat.eval.systems.cached_encoder import CachedEncoder
from flatcoat.indexing.vectors import TokenVectors, Vectors

TEXTS = ["cats purr", "dogs bark at night", "cats purr", "", "caf\u00e9"]


def equal(one: Vectors, other: Vectors) -> bool:
    if isinstance(one, TokenVectors):
        assert isinstance(other, TokenVectors)
        return one.offsets.tolist() == other.offsets.tolist() and np.array_equal(
            one.values_TD, other.values_TD
        )
    return np.array_equal(one, other)


@pytest.fixture
def asked(encoder, monkeypatch) -> list[str]:
    """Fills with the texts that the encoder encodes."""
    texts: list[str] = []
    for name in ("encode_documents", "encode_queries"):
        encode = getattr(encoder, name)

        def counted(batch: Sequence[str], encode=encode) -> Vectors:
            texts.extend(batch)
            return encode(batch)

        monkeypatch.setattr(encoder, name, counted)
    return texts


def test_vectors_are_the_encoders_own_and_each_text_is_encoded_once(encoder, asked, tmp_path: Path) -> None:
    expected = encoder.encode_documents(TEXTS)
    asked.clear()
    cached = CachedEncoder(encoder, tmp_path / "vectors")
    assert equal(cached.encode_documents(TEXTS), expected)
    assert sorted(asked) == sorted(set(TEXTS))
    assert equal(cached.encode_documents(TEXTS[::-1]), encoder.encode_documents(TEXTS[::-1]))
    again = CachedEncoder(encoder, tmp_path / "vectors")
    asked.clear()
    assert equal(again.encode_documents([*TEXTS[:2], "new"]), encoder.encode_documents([*TEXTS[:2], "new"]))
    assert asked[:1] == ["new"], "another process finds what is there"
    assert equal(cached.encode_documents([]), cached.encode_documents(TEXTS[:0]))
    assert cached.seconds > 0


def test_queries_are_kept_in_memory(encoder, asked, tmp_path: Path) -> None:
    expected = encoder.encode_queries(TEXTS)
    asked.clear()
    cached = CachedEncoder(encoder)
    assert equal(cached.encode_queries(TEXTS), expected)
    assert len(asked) == 4
    assert len(cached.encode_queries(["cats purr"])) == 1
    assert len(asked) == 4
    cached.forget()
    cached.encode_queries(["cats purr"])
    assert len(asked) == 5


def test_without_a_folder_documents_are_encoded_each_time(encoder, asked) -> None:
    cached = CachedEncoder(encoder)
    for _ in range(2):
        cached.encode_documents(TEXTS[:2])
    assert asked == TEXTS[:2] * 2


def test_other_weights_and_lengths_have_other_vectors(encoder, asked, tmp_path: Path) -> None:
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode_documents(TEXTS[:1])
    encoder.contract = replace(encoder.contract, weights="1")
    cached.encode_documents(TEXTS[:1])
    cached.truncate_documents(16)
    cached.encode_documents(TEXTS[:1])
    assert asked == TEXTS[:1] * 3
    encoder.contract = replace(encoder.contract, model="renamed")
    cached.encode_documents(TEXTS[:1])
    assert len(asked) == 3
    cached.forget()
    assert len(list(tmp_path.glob("*.sqlite"))) == 2, "those of other contracts stay"


def test_what_was_encoded_before_a_cut_stays(encoder, asked, tmp_path: Path, monkeypatch) -> None:
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode_documents(["one", "two"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(encoder, "encode_documents", lambda texts: (_ for _ in ()).throw(KeyboardInterrupt))
        cached.encode_documents(["two", "three"])
    asked.clear()
    CachedEncoder(encoder, tmp_path).encode_documents(["one", "two", "three"])
    assert asked == ["three"]


def test_threads_share_a_folder(encoder, tmp_path: Path) -> None:
    expected = encoder.encode_documents(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        cached = [CachedEncoder(encoder, tmp_path) for _ in range(8)]
        assert all(
            equal(vectors, expected) for vectors in pool.map(lambda one: one.encode_documents(TEXTS), cached)
        )


def test_a_damaged_file_is_named(encoder, tmp_path: Path) -> None:
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode_documents(TEXTS)
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(b"no database " * 1_000)
    with pytest.raises(StorageError, match=f"{file.name}.* delete it"):
        cached.encode_documents(TEXTS)
