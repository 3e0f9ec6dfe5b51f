"""Checkpoints in the layout of Stanford's ColBERT (colbertv2.0): equal vectors to other libraries'."""

import copy
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from flatcoat.retrieval.encoders.checkpoint import LateCheckpoint
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.how_it_runs import how_it_runs
from flatcoat.retrieval.encoders.load import is_late_interaction, load_encoder

METADATA: dict[str, dict[str, Any]] = {
    "as published": {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 20,
        "doc_maxlen": 60,
        "attend_to_mask_tokens": False,
        "mask_punctuation": True,
    },
    "attended": {"query_maxlen": 12, "doc_maxlen": 40, "attend_to_mask_tokens": True},
}


@pytest.fixture(params=METADATA)
def folder(request: pytest.FixtureRequest, tokenizer: Any, tmp_path: Path) -> Path:
    """A BERT and its projection in one file of weights, of random numbers."""
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["[unused0]", "[unused1]"], special_tokens=True)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(vocab_size=len(own), initializer_range=0.1, architectures=["HF_ColBERT"], **sizes)
    torch.manual_seed(0)
    model = BertModel(config)
    weights = {f"bert.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(16, 32)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["HF_ColBERT"]}))
    (tmp_path / "artifact.metadata").write_text(json.dumps(METADATA[request.param]))
    own.save_pretrained(str(tmp_path))
    return tmp_path


def in_its_library(folder: Path, texts: list[str]) -> list[np.ndarray]:
    """Vectors of queries, then of documents, by PyLate or by sentence-transformers 6."""
    if find_spec("pylate"):
        from pylate.models import ColBERT

        plain = ColBERT(str(folder), device="cpu")
        return [
            np.asarray(matrix)
            for is_query in (True, False)
            for matrix in plain.encode(texts, is_query=is_query, show_progress_bar=False)
        ]
    import sentence_transformers

    model: Any = sentence_transformers.MultiVectorEncoder(str(folder), device="cpu")
    vectors = [*model.encode_query(texts), *model.encode_document(texts)]
    return [matrix.numpy() for matrix in vectors]


@pytest.mark.parametrize("load", [load_encoder, ColbertEncoder.load])
def test_vectors_are_those_of_its_library(
    folder: Path, texts: list[str], load: Callable[..., ColbertEncoder]
) -> None:
    texts = [text.strip() for text in texts if text.strip()]
    encoder: Any = load(folder, device="cpu")
    assert isinstance(encoder.model, LateCheckpoint) == (load is load_encoder)
    came = [*encoder.encode_queries(texts), *encoder.encode_documents(texts)]
    for ours_TD, theirs_TD in zip(came, in_its_library(folder, texts), strict=True):
        assert ours_TD.shape == theirs_TD.shape
        assert np.abs(ours_TD - theirs_TD).max() <= 1e-5


def test_it_is_read_by_flatcoat_and_saved_as_a_pylate_checkpoint(folder: Path, tmp_path: Path) -> None:
    assert is_late_interaction(folder)
    found = how_it_runs(str(folder))
    assert (found.kind, found.loaded_by) == ("late interaction", "flatcoat")
    encoder: Any = load_encoder(folder, device="cpu")
    encoder.save(tmp_path / "saved")
    again: Any = load_encoder(tmp_path / "saved", device="cpu")
    again.contract.require(encoder.contract)
    for encode in ("encode_queries", "encode_documents"):
        ours, theirs = (getattr(each, encode)(["cats purr", "a. b"]) for each in (encoder, again))
        np.testing.assert_allclose(ours.values_TD, theirs.values_TD, atol=1e-6)


def test_punctuation_may_be_kept(folder: Path) -> None:
    said = json.loads((folder / "artifact.metadata").read_text())
    (folder / "artifact.metadata").write_text(json.dumps(said | {"mask_punctuation": False}))
    assert load_encoder(folder, device="cpu").contract.skiplist == ()
