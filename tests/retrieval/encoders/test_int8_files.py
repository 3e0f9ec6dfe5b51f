"""Checkpoints with int8 weights: what reads them, how near their vectors are, and the way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from flatcoat.backbone.model import ModernBert
from flatcoat.errors import ConflictError, NotFoundError
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.int8_files import restore, shrink
from flatcoat.retrieval.encoders.load import load_encoder, load_query_encoder

MakeFolder = Callable[..., Path]
TEXTS = ["why is the sky blue?", "def parse(raw): return raw", "cats " * 30]


def late(folder: Path) -> ColbertEncoder:
    encoder = load_encoder(folder, device="cpu")
    assert isinstance(encoder, ColbertEncoder)
    return encoder


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))


def test_a_shrunk_colbert_is_read_by_every_way_in(make_colbert: MakeFolder, tmp_path: Path) -> None:
    folder, small = make_colbert(), tmp_path / "small"
    shrink(folder, small)
    assert size(small) < 0.3 * size(folder)
    whole = late(folder).encode_documents(TEXTS).values_TD
    ours = late(small)
    vectors_TD = ours.encode_documents(TEXTS).values_TD
    cosines_T = (vectors_TD * whole).sum(axis=1)
    assert 0.99 < cosines_T.min() < 1
    pylate = ColbertEncoder.load(small, device="cpu").encode_documents(TEXTS).values_TD
    assert np.abs(pylate - vectors_TD).max() < 1e-5
    queries = load_query_encoder(str(small), is_trusted=True)
    assert queries is not None
    expected = ours.encode_queries(TEXTS).values_TD
    in_numpy: Any = queries.encode_queries(TEXTS)
    assert np.abs(in_numpy.values_TD - expected).max() < 1e-4
    assert queries.contract.weights == ours.contract.weights
    ModernBert.from_pretrained(small)


def test_other_libraries_say_that_they_find_no_weights(make_colbert: MakeFolder, tmp_path: Path) -> None:
    shrink(make_colbert(), tmp_path / "small")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        pytest.importorskip("pylate.models").ColBERT(str(tmp_path / "small"), device="cpu")


def test_restored_weights_are_those_that_were_read(make_colbert: MakeFolder, tmp_path: Path) -> None:
    ColBERT = pytest.importorskip("pylate.models").ColBERT
    shrink(make_colbert(), tmp_path / "small")
    restore(tmp_path / "small", tmp_path / "full")
    plain = ColBERT(str(tmp_path / "full"), device="cpu")
    ours = late(tmp_path / "small")
    theirs: Any = plain.encode(TEXTS, is_query=False, show_progress_bar=False)
    assert np.abs(np.concatenate(theirs) - ours.encode_documents(TEXTS).values_TD).max() < 1e-5
    assert late(tmp_path / "full").contract.weights == ours.contract.weights
    ours.save(tmp_path / "saved")
    saved: Any = ColBERT(str(tmp_path / "saved"), device="cpu").encode(TEXTS, is_query=False)
    assert np.abs(np.concatenate(saved) - np.concatenate(theirs)).max() < 1e-6


def test_a_shrunk_dense_model(make_dense: MakeFolder, tmp_path: Path) -> None:
    shrink(make_dense(), tmp_path / "small")
    ours = load_encoder(tmp_path / "small", device="cpu")
    assert isinstance(ours, DenseEncoder)
    loaded = DenseEncoder.load(tmp_path / "small", device="cpu")
    assert np.abs(ours.encode_documents(TEXTS) - loaded.encode_documents(TEXTS)).max() < 1e-5
    ours.save(tmp_path / "saved")
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs: Any = plain.encode_document(TEXTS, normalize_embeddings=True)
    assert np.abs(theirs - ours.encode_documents(TEXTS)).max() < 1e-5


def test_only_folders_with_weights_and_new_outputs(make_colbert: MakeFolder, tmp_path: Path) -> None:
    folder = make_colbert()
    with pytest.raises(NotFoundError, match=r"has no model\.int8\.safetensors"):
        restore(folder, tmp_path / "full")
    with pytest.raises(NotFoundError, match=r"has no model\.safetensors"):
        shrink(tmp_path, tmp_path / "small")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConflictError, match="exists: name another"):
        shrink(folder, tmp_path / "taken")
