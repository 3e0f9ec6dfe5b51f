"""Dense checkpoints of every family, read without the library that wrote them: its vectors, its contract."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import load_encoder, load_query_encoder, load_untrusted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MakeFolder = Callable[..., Path]

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
SIZES: dict[str, dict[str, Any]] = {
    "Roberta": SMALL | {"max_position_embeddings": 514},
    "XLMRoberta": SMALL | {"type_vocab_size": 1},
    "MPNet": SMALL | {"pad_token_id": 1},
    "DistilBert": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 96},
    "Electra": SMALL | {"embedding_size": 32},
    "Albert": SMALL | {"embedding_size": 32},
    "EuroBert": SMALL | {"num_key_value_heads": 1},
}


@pytest.fixture(params=SIZES)
def folder(
    request: pytest.FixtureRequest,
    make_dense: MakeFolder,
    tokenizer: "PreTrainedTokenizerFast",
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    base = tmp_path_factory.mktemp("bases") / request.param
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    settings = {"vocab_size": len(tokenizer), "initializer_range": 0.1} | special | SIZES[request.param]
    torch.manual_seed(7)
    config = getattr(transformers, f"{request.param}Config")(**settings)
    getattr(transformers, f"{request.param}Model")(config).save_pretrained(base)
    tokenizer.save_pretrained(str(base))
    return make_dense(base, prompts={"query": "find: "})


def test_vectors_and_contract_are_those_of_its_library(folder: Path, texts: list[str]) -> None:
    ours, queries = load_encoder(folder, device="cpu"), load_query_encoder(str(folder), is_trusted=True)
    theirs, plain = DenseEncoder.load(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")
    expected = plain.encode_query(texts, normalize_embeddings=True)
    assert queries is not None
    for encoder in (ours, queries, theirs):
        assert np.abs(encoder.encode_queries(texts) - expected).max() <= 1e-5
    assert ours.contract.settings == queries.contract.settings
    # Where the checkpoint has no pooler, the library draws one, and hashes it.
    if "pooler" not in dict(plain[0].auto_model.named_children()):
        assert ours.contract.settings == theirs.contract.settings
    load_untrusted(str(folder), named_by="the index").contract.require(ours.contract)


def test_first_checkpoints_without_prompts_or_a_length_are_read(
    bert_folder: Path, make_dense: MakeFolder, tmp_path: Path, texts: list[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_dense(bert_folder), folder)
    (folder / "config_sentence_transformers.json").unlink()
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_seq_length": None}))
    ours, plain = load_encoder(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")
    assert ours.contract.document_length == plain.max_seq_length == 120
    expected = plain.encode(texts, normalize_embeddings=True)
    assert np.abs(ours.encode_documents(texts) - expected).max() <= 1e-5
