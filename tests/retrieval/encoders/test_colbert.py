"""ColbertEncoder against plain PyLate on the same folder. Axes: T tokens, D width."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, ModernBertModel

from flatcoat import FlatcoatError
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.backbone import packed_backbone
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.load import is_late_interaction, load_encoder

ColBERT = pytest.importorskip("pylate.models").ColBERT
MakeFolder = Callable[..., Path]

VARIANTS: dict[str, dict[str, Any]] = {
    "expansion": {},
    "attended expansion": {"attend_to_expansion_tokens": True},
    "no expansion": {"do_query_expansion": False},
    "long queries": {"query_length": 200, "document_length": 40},
    "no prefixes": {"query_prefix": "", "document_prefix": ""},
    "no skiplist": {"skiplist_words": []},
    "own skiplist": {"skiplist_words": ["the", "of"], "query_prefix": "[unused0]"},
}


def plain(folder: Path, texts: list[str], is_query: bool) -> list[np.ndarray]:
    """What PyLate makes of them, four at a time, so that it pads to several lengths."""
    model = ColBERT(str(folder), device="cpu")
    return [
        np.asarray(matrix)
        for matrix in model.encode(texts, batch_size=4, is_query=is_query, show_progress_bar=False)
    ]


def assert_equal(came: TokenVectors, expected: list[np.ndarray]) -> None:
    assert len(came) == len(expected)
    for vectors_TD, expected_TD in zip(came, expected, strict=True):
        assert vectors_TD.shape == expected_TD.shape
        assert np.abs(vectors_TD - expected_TD).max() <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_are_those_of_pylate(make_colbert: MakeFolder, texts: list[str], variant: str) -> None:
    folder = make_colbert(**VARIANTS[variant])
    encoder = ColbertEncoder.load(folder, device="cpu")
    assert packed_backbone(encoder.model) is not None
    assert_equal(encoder.encode_queries(texts), plain(folder, texts, is_query=True))
    assert_equal(encoder.encode_documents(texts), plain(folder, texts, is_query=False))


def test_queries_are_as_long_as_the_checkpoint_says(make_colbert: MakeFolder, texts: list[str]) -> None:
    expanded = ColbertEncoder.load(make_colbert(), device="cpu").encode_queries(texts)
    assert np.diff(expanded.offsets).tolist() == [32] * len(texts)
    short = ColbertEncoder.load(make_colbert(do_query_expansion=False), device="cpu").encode_queries(texts)
    assert np.diff(short.offsets)[0] == 3  # CLS, the prefix, SEP
    assert np.diff(short.offsets).max() == 32


def test_punctuation_of_documents_is_left_out(make_colbert: MakeFolder) -> None:
    encoder = ColbertEncoder.load(make_colbert(), device="cpu")
    with_stops, without, stops = encoder.encode_documents(["cat, dog.", "cat dog", "!?.,"])
    assert len(with_stops) == len(without)
    assert len(stops) == 3
    assert encoder.token_counts(["cat, dog.", "cat dog"])[0] == encoder.token_counts(["cat dog"])[0] + 2


@pytest.mark.parametrize("loaded", [ColbertEncoder.load, load_encoder])
def test_what_is_saved_loads_in_plain_pylate_and_transformers(
    make_colbert: MakeFolder, texts: list[str], tmp_path: Path, loaded: Callable[..., ColbertEncoder]
) -> None:
    folder = make_colbert(attend_to_expansion_tokens=True, query_length=20)
    encoder = loaded(folder, device="cpu")
    encoder.save(tmp_path / "saved")
    for is_query, encode in ((True, encoder.encode_queries), (False, encoder.encode_documents)):
        assert_equal(encode(texts), plain(tmp_path / "saved", texts, is_query))
        assert_equal(encode(texts), plain(folder, texts, is_query))
    again = ColbertEncoder.load(tmp_path / "saved", device="cpu").contract
    again.require(encoder.contract)
    model = AutoModel.from_pretrained(tmp_path / "saved").eval()
    assert isinstance(model, ModernBertModel)
    ids = list(range(5, 40))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).last_hidden_state[0]
        bare = ModernBert.from_pretrained(tmp_path / "saved").eval()(PackedBatch.from_sequences([ids]))
    assert (bare - expected).abs().max() <= 1e-5 * float(expected.abs().max())


def test_a_deberta_runs_through_transformers_unchanged(
    make_colbert: MakeFolder, foreign_folder: Path, texts: list[str]
) -> None:
    folder = make_colbert(foreign_folder)
    encoder = ColbertEncoder.load(folder, device="cpu")
    assert packed_backbone(encoder.model) is None
    assert_equal(encoder.encode_queries(texts), plain(folder, texts, is_query=True))
    assert_equal(encoder.encode_documents(texts), plain(folder, texts, is_query=False))


def test_a_bare_backbone_becomes_a_new_colbert(modernbert_folder: Path) -> None:
    encoder = ColbertEncoder.load(modernbert_folder, device="cpu")
    assert encoder.encode_documents(["cat"]).width == 128


def test_the_contract_says_what_made_the_vectors(make_colbert: MakeFolder) -> None:
    contract = ColbertEncoder.load(make_colbert(query_length=20), device="cpu").contract
    assert (contract.kind, contract.width) == ("colbert", 32)
    assert (contract.query_prefix, contract.document_prefix) == ("[Q] ", "[D] ")
    assert (contract.query_length, contract.document_length) == (20, 120)
    assert (contract.query_expansion, contract.attend_to_expansion) == (True, False)
    assert "," in contract.skiplist


def test_files_tell_the_two_kinds_apart(
    make_colbert: MakeFolder, make_dense: MakeFolder, modernbert_folder: Path
) -> None:
    assert is_late_interaction(make_colbert())
    assert not is_late_interaction(make_dense())
    assert not is_late_interaction(modernbert_folder)
    assert load_encoder(make_colbert()).contract.kind == "colbert"
    assert load_encoder(make_dense()).contract.kind == "dense"


@pytest.mark.parametrize("load", [ColbertEncoder.load, load_encoder])
def test_missing_models(load: Callable[[object], object], tmp_path: Path) -> None:
    for name in ("nobody/no-such-model", "no such name!", tmp_path / "nowhere"):
        with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
            load(name)
    with pytest.raises(FlatcoatError, match="cannot be loaded"):
        load(tmp_path)
