"""DenseEncoder against plain sentence-transformers on the same folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, ModernBertModel

from flatcoat import FlatcoatError
from flatcoat.retrieval.encoders.backbone import packed_backbone
from flatcoat.retrieval.encoders.dense import DenseEncoder

MakeFolder = Callable[..., Path]

PROMPTS = {"query": "search for: ", "document": "passage: "}
VARIANTS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"pooling": "cls"},
    "max": {"pooling": "max"},
    "last token": {"pooling": "lasttoken"},
    "projected": {"project": True},
    "prompts": {"prompts": PROMPTS},
}


def plain(folder: Path, texts: list[str], is_query: bool) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu")
    encode = model.encode_query if is_query else model.encode_document
    return encode(texts, batch_size=4, normalize_embeddings=True, show_progress_bar=False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_are_those_of_sentence_transformers(
    make_dense: MakeFolder, texts: list[str], variant: str
) -> None:
    folder = make_dense(**VARIANTS[variant])
    encoder = DenseEncoder.load(folder, device="cpu")
    assert packed_backbone(encoder.model) is not None
    assert np.abs(encoder.encode_queries(texts) - plain(folder, texts, is_query=True)).max() <= 1e-5
    assert np.abs(encoder.encode_documents(texts) - plain(folder, texts, is_query=False)).max() <= 1e-5


def test_prompts_are_counted_and_make_a_difference(make_dense: MakeFolder) -> None:
    encoder = DenseEncoder.load(make_dense(prompts=PROMPTS), device="cpu")
    assert np.abs(encoder.encode_queries(["cat"]) - encoder.encode_documents(["cat"])).max() > 1e-3
    bare = DenseEncoder.load(make_dense(), device="cpu")
    (counted,), (expected,) = encoder.token_counts(["cat"]), bare.token_counts(["passage: cat"])
    assert counted == expected
    asked = encoder.token_counts(["cat"], is_query=True)
    assert asked == bare.token_counts(["search for: cat"])
    assert (encoder.contract.query_prefix, encoder.contract.document_prefix) == ("search for: ", "passage: ")
    assert bare.contract.query_prefix == bare.contract.document_prefix == ""


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": {"query": "q: ", "passage": "p: "}},
        {"prompts": {"query": "q: ", "document": "d: ", "passage": "p: "}},
        {"prompts": {"corpus": "c: "}},
        {"prompts": {"any": "any: "}, "default_prompt_name": "any"},
    ],
)
def test_prompts_are_chosen_as_sentence_transformers_does(
    make_dense: MakeFolder, options: dict[str, Any]
) -> None:
    folder = make_dense(**options)
    encoder, model = DenseEncoder.load(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")
    for came, expected in (
        (encoder.encode_queries(["cats purr"]), model.encode_query(["cats purr"], normalize_embeddings=True)),
        (
            encoder.encode_documents(["cats purr"]),
            model.encode_document(["cats purr"], normalize_embeddings=True),
        ),
    ):
        assert np.abs(came - expected).max() <= 1e-5


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_prompt_that_is_left_out_of_pooling_is_left_out(
    make_dense: MakeFolder, texts: list[str], tmp_path: Path, pooling: str
) -> None:
    folder = make_dense(prompts=PROMPTS, pooling=pooling)
    model = SentenceTransformer(str(folder), device="cpu")
    model[1].include_prompt = False
    model.save(str(tmp_path), create_model_card=False)
    encoder = DenseEncoder.load(tmp_path, device="cpu")
    assert np.abs(encoder.encode_queries(texts) - plain(tmp_path, texts, is_query=True)).max() <= 1e-5
    with_prompt = DenseEncoder.load(folder, device="cpu")
    # Before release 6 of sentence-transformers CLS was the first token, prompt or not.
    differs = pooling != "cls" or sentence_transformers.__version__ >= "6"
    assert (np.abs(encoder.encode_queries(texts) - with_prompt.encode_queries(texts)).max() > 1e-3) == differs
    assert (encoder.contract.pooling != pooling) == (pooling == "cls" and differs)


def test_what_is_saved_loads_in_plain_sentence_transformers_and_transformers(
    make_dense: MakeFolder, texts: list[str], tmp_path: Path
) -> None:
    folder = make_dense(pooling="cls", prompts=PROMPTS)
    encoder = DenseEncoder.load(folder, device="cpu")
    encoder.save(tmp_path)
    assert np.abs(encoder.encode_queries(texts) - plain(tmp_path, texts, is_query=True)).max() <= 1e-5
    assert np.abs(encoder.encode_documents(texts) - plain(tmp_path, texts, is_query=False)).max() <= 1e-5
    assert isinstance(AutoModel.from_pretrained(tmp_path), ModernBertModel)
    DenseEncoder.load(tmp_path, device="cpu").contract.require(encoder.contract)


def test_a_deberta_runs_through_sentence_transformers_unchanged(
    make_dense: MakeFolder, foreign_folder: Path, texts: list[str]
) -> None:
    folder = make_dense(foreign_folder, prompts=PROMPTS)
    encoder = DenseEncoder.load(folder, device="cpu")
    assert packed_backbone(encoder.model) is None
    assert np.abs(encoder.encode_queries(texts) - plain(folder, texts, is_query=True)).max() <= 1e-5


def test_the_contract_says_what_made_the_vectors(make_dense: MakeFolder) -> None:
    contract = DenseEncoder.load(make_dense(pooling="cls", project=True), device="cpu").contract
    assert (contract.kind, contract.width, contract.pooling) == ("dense", 24, "cls")
    assert contract.query_length == contract.document_length == 120


def test_missing_models(tmp_path: Path) -> None:
    for name in ("nobody/no-such-model", tmp_path / "nowhere"):
        with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
            DenseEncoder.load(name)
