"""Checkpoints of sentence-transformers' MultiVectorEncoder, made by multi_vector/make.py: read and written.

What needs release 6 or later itself is skipped without it: it runs in an environment of
constraints-latest.txt.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.retrieval.encoders.backbone import packed_backbone, unpad_backbone
from flatcoat.retrieval.encoders.checkpoint import LateCheckpoint
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.load import load_encoder, load_query_encoder

MakeFolder = Callable[..., Path]

HERE = Path(__file__).parent / "multi_vector"
TEXTS: list[str] = json.loads((HERE / "texts.json").read_text())
NAMES = ("expanded", "meanmaxsim")


def vectors_of(encoder: Any) -> list[np.ndarray]:
    return [*encoder.encode_queries(TEXTS), *encoder.encode_documents(TEXTS)]


def assert_same(came: Any, expected: Any) -> None:
    assert len(came) == len(expected)
    for ours_TD, theirs_TD in zip(came, expected, strict=True):
        assert ours_TD.shape == theirs_TD.shape
        assert np.abs(ours_TD - theirs_TD).max(initial=0) <= 1e-5


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    return HERE / request.param


@pytest.fixture
def library() -> Any:
    """MultiVectorEncoder, where sentence-transformers is new enough."""
    import sentence_transformers

    if not hasattr(sentence_transformers, "MultiVectorEncoder"):
        pytest.skip("sentence-transformers 6 or later has MultiVectorEncoder")
    return sentence_transformers.MultiVectorEncoder


def test_it_is_read_with_equal_vectors(folder: Path) -> None:
    expected = list(np.load(folder / "vectors.npz").values())
    encoder: Any = load_encoder(folder, device="cpu")
    assert isinstance(encoder.model, LateCheckpoint)
    assert_same(vectors_of(encoder), expected)
    through_transformers = ColbertEncoder.load(folder, device="cpu")
    assert_same(vectors_of(through_transformers), expected)
    assert packed_backbone(through_transformers.modules) is not None
    encoder.contract.require(through_transformers.contract)
    queries: Any = load_query_encoder(str(folder), is_trusted=True)
    assert_same(list(queries.encode_queries(TEXTS)), expected[: len(TEXTS)])


def test_its_settings_are_read() -> None:
    expanded, mean = (load_encoder(HERE / name, device="cpu") for name in NAMES)
    assert expanded.contract.query_prefix == "search: "
    assert (expanded.contract.query_expansion, expanded.contract.query_length) == (True, 16)
    assert (mean.contract.query_expansion, mean.contract.query_length) == (False, 12)
    assert "," in expanded.contract.skiplist
    assert not mean.contract.skiplist
    assert mean.model.similarity == "meanmaxsim"  # type: ignore[attr-defined]


def test_tokens_are_found_in_the_text_behind_the_prompt() -> None:
    encoder: Any = load_encoder(HERE / "expanded", device="cpu")
    for is_query, encode in ((True, encoder.encode_queries), (False, encoder.encode_documents)):
        spans = encoder.token_spans(TEXTS, is_query=is_query)
        assert [len(tokens) for tokens in spans] == [len(vectors) for vectors in encode(TEXTS)]
        for text, tokens in zip(TEXTS, spans, strict=True):
            assert all(token.text == text[slice(*token.span)] for token in tokens if token.span)
    (tokens,) = encoder.token_spans(["cats bark"], is_query=False)
    assert "".join(token.text for token in tokens if token.span) == "catsbark"


def test_it_is_saved_as_it_was_read(folder: Path, tmp_path: Path) -> None:
    encoder: Any = load_encoder(folder, device="cpu")
    encoder.save(tmp_path / "saved")
    again: Any = load_encoder(tmp_path / "saved", device="cpu")
    assert_same(vectors_of(again), vectors_of(encoder))
    again.contract.require(encoder.contract)
    assert again.model.similarity == encoder.model.similarity
    with pytest.raises(FlatcoatError, match="prefixes are text"):
        encoder.save(tmp_path / "pylate", layout="pylate")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min", "length": 16}}),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "fixed", "length": 9, "token": "a"}}),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["query", "document"]}),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [7]}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "xtr"}),
    ],
)
def test_what_is_computed_otherwise_is_refused(tmp_path: Path, file: str, change: dict[str, Any]) -> None:
    shutil.copytree(HERE / "expanded", tmp_path / "model")
    settings = json.loads((tmp_path / "model" / file).read_text())
    (tmp_path / "model" / file).write_text(json.dumps(settings | change))
    with pytest.raises(FlatcoatError, match=r"\bits? "):
        load_encoder(tmp_path / "model", device="cpu")


@pytest.mark.parametrize("layout", ["pylate", "multi-vector"])
@pytest.mark.parametrize("options", [{}, {"attend_to_expansion_tokens": True}, {"do_query_expansion": False}])
def test_what_is_saved_here_loads_there(
    make_colbert: MakeFolder, library: Any, tmp_path: Path, layout: Any, options: dict[str, Any]
) -> None:
    encoder: Any = load_encoder(make_colbert(**options), device="cpu")
    encoder.save(tmp_path, layout=layout)
    theirs = library(str(tmp_path), device="cpu")
    texts = [text.strip() for text in TEXTS]  # PyLate leaves blanks around a text out.
    assert_same(list(encoder.encode_queries(texts)), theirs.encode_query(texts, convert_to_numpy=True))
    assert_same(list(encoder.encode_documents(texts)), theirs.encode_document(texts, convert_to_numpy=True))


def test_its_trainer_trains_the_packed_backbone(folder: Path, library: Any) -> None:
    from sentence_transformers.multi_vector_encoder import losses

    found = []
    for packed in (False, True):
        model = library(str(folder), device="cpu")
        assert not packed or unpad_backbone(model)
        loss = losses.MultiVectorMultipleNegativesRankingLoss(model)
        columns = [
            model.preprocess(texts, prompt=model.prompts.get(task), task=task)
            for texts, task in ((["cats bark", "why?"], "query"), (["The sky.", "Dogs. " * 9], "document"))
        ]
        value = loss(columns, None)
        value.backward()
        grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((value.detach(), grads))
    (expected, theirs), (came, ours) = found
    assert abs(float(came - expected)) <= 1e-5
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).abs().max() <= 1e-4 * max(1.0, float(grad.abs().max())), name


def test_an_index_takes_the_model_itself(folder: Path, library: Any, tmp_path: Path) -> None:
    model = library(str(folder), device="cpu")
    retriever = Retriever.create(tmp_path / "index", model)
    retriever.add([Document("sky", "The sky scatters light."), Document("dogs", "Dogs bark.")])
    assert len(retriever.search("dogs bark", 2, mode="vectors")) == 2
    assert retriever.contract.model == str(folder)
    Retriever.open(tmp_path / "index").search("dogs", mode="vectors")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(FlatcoatError, match="made with weights"):
        Retriever.open(tmp_path / "index", model)


def test_an_index_takes_a_sentence_transformer(make_dense: MakeFolder, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(make_dense()), device="cpu")
    retriever = Retriever.create(tmp_path / "index", model)
    retriever.add([Document("sky", "The sky scatters light."), Document("dogs", "Dogs bark.")])
    found = retriever.search("The sky scatters light.", 1, mode="vectors")
    assert found[0].document_id == "sky"
    Retriever.open(tmp_path / "index").search("dogs", mode="vectors")
    with pytest.raises(FlatcoatError, match="the model is int"):
        Retriever.create(tmp_path / "other", 5)  # type: ignore[arg-type]
