"""Encoders and indexes in every precision. Axes: T tokens, D width."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.__main__ import app
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.encoders.contract import Precision
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]
AnyEncoder = ColbertEncoder | DenseEncoder

COPIED: list[Precision] = ["fp16", "bf16", "int8"]
Loaded = dict[Precision, AnyEncoder]


@pytest.fixture(scope="module", params=["colbert", "dense"])
def folder(request: pytest.FixtureRequest, make_colbert: MakeFolder, make_dense: MakeFolder) -> Path:
    return make_colbert() if request.param == "colbert" else make_dense(project=True)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return {name: load_encoder(folder, name, device="cpu") for name in get_args(Precision)}


def rows(encoder: AnyEncoder, texts: list[str]) -> np.ndarray:
    """Every vector of documents and queries: [vectors, D]."""
    both = [encoder.encode_documents(texts), encoder.encode_queries(texts)]
    return np.concatenate([np.concatenate(list(v)) if isinstance(v, TokenVectors) else v for v in both])


@pytest.fixture(scope="module")
def expected_TD(loaded: Loaded, texts: list[str]) -> np.ndarray:
    return rows(loaded["fp32"], texts)


@pytest.mark.parametrize("precision", COPIED)
def test_vectors_keep_their_direction(
    loaded: Loaded, texts: list[str], expected_TD: np.ndarray, precision: Precision
) -> None:
    came_TD = rows(loaded[precision], texts)
    assert came_TD.dtype == np.float32
    cosines_T = (came_TD * expected_TD).sum(axis=1)
    assert cosines_T.min() >= 0.97
    assert cosines_T.mean() >= 0.995
    assert np.abs(came_TD - expected_TD).max() > 1e-4


def test_float32_is_what_weights_of_float32_compute_in(folder: Path, loaded: Loaded) -> None:
    assert load_encoder(folder, device="cpu").contract == loaded["fp32"].contract
    assert {name: encoder.contract.precision for name, encoder in loaded.items()} == {n: n for n in loaded}


@pytest.mark.parametrize("precision", COPIED)
def test_the_weights_stay_what_they_were(
    loaded: Loaded, texts: list[str], expected_TD: np.ndarray, tmp_path: Path, precision: Precision
) -> None:
    encoder = loaded[precision]
    assert {parameter.dtype for parameter in encoder.modules.parameters()} == {torch.float32}
    assert encoder.contract.weights == loaded["fp32"].contract.weights
    encoder.save(tmp_path)
    again = load_encoder(tmp_path, device="cpu")
    assert again.contract.weights == encoder.contract.weights
    assert np.array_equal(rows(again, texts[:4]), rows(loaded["fp32"], texts[:4]))


def test_training_sees_the_weights(folder: Path, loaded: Loaded) -> None:
    model = type(loaded["int8"]).load(folder, "int8", device="cpu").model
    kind = "token_embeddings" if isinstance(model, ColbertModel) else "sentence_embedding"
    model(model.tokenize(["cats purr"]))[kind][..., 0].sum().backward()
    parts = ("Wqkv.weight", "Wi.weight", "Wo.weight")
    linears = {name: weight for name, weight in model[0].named_parameters() if name.endswith(parts)}
    assert len(linears) == 16
    for name, weight in linears.items():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    model.zero_grad()


def test_checkpoints_in_half_precision_compute_in_float32_on_a_processor(
    folder: Path, loaded: Loaded, texts: list[str], expected_TD: np.ndarray, tmp_path: Path
) -> None:
    model = type(loaded["fp32"]).load(folder, device="cpu").model
    model.half().save(str(tmp_path), create_model_card=False)
    wide, half = load_encoder(tmp_path, device="cpu"), load_encoder(tmp_path, "fp16", device="cpu")
    assert (wide.contract.precision, half.contract.precision) == ("fp32", "fp16")
    assert half.contract.weights == wide.contract.weights
    assert half.model.dtype == wide.model.dtype == torch.float16
    assert load_encoder(tmp_path, device="meta").precision == "fp16"
    for encoder in (wide, half):
        assert (rows(encoder, texts) * expected_TD).sum(axis=1).min() >= 0.99


def test_precisions_that_there_are_not(
    make_colbert: MakeFolder, make_dense: MakeFolder, foreign_folder: Path
) -> None:
    for make in (make_colbert, make_dense):
        with pytest.raises(FlatcoatError, match="no precision 'fp8': fp32, fp16, bf16, int8 are known"):
            load_encoder(make(), "fp8")  # type: ignore[arg-type]
        assert load_encoder(make(foreign_folder), "fp32").contract.precision == "fp32"
        for precision in COPIED:
            with pytest.raises(FlatcoatError, match=f"precision {precision} is for ModernBERT .* are fp32"):
                load_encoder(make(foreign_folder), precision)


def test_bytes_are_for_the_processor(make_dense: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [sys.modules[kind.__module__] for kind in SentenceTransformer.__mro__]
    module = next(module for module in modules if hasattr(module, "get_device_name"))
    monkeypatch.setattr(module, "get_device_name", lambda: "meta")
    by_library = {"trust_remote_code": False}
    assert load_encoder(make_dense(), **by_library).model.device.type == "meta"
    assert load_encoder(make_dense(), "int8", **by_library).model.device.type == "cpu"
    with pytest.raises(FlatcoatError, match="8-bit inference is for CPUs, and the model is on meta"):
        load_encoder(make_dense(), "int8", device="meta")


DOCUMENTS = [Document(text, text) for text in ("cats purr", "bread rises", "the sky is blue")]


def test_an_index_is_opened_in_the_precision_that_made_it_where_that_is_fast(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = ["fp32", "int8"]
    monkeypatch.setattr("flatcoat.backbone.environment.fast_precisions", lambda device: fast)
    Retriever.create(tmp_path / "index", folder, precision="int8").add(DOCUMENTS)
    plain = load_encoder(folder)
    for model, precision in ((None, "int8"), (folder, "int8"), (plain, "fp32")):
        retriever = Retriever.open(tmp_path / "index", model)
        assert retriever.encoder.contract.precision == precision
        assert retriever.contract.precision == "int8"
        assert len(retriever.search("cats purr", k=3)) == 3
    fast.remove("int8")
    assert Retriever.open(tmp_path / "index").encoder.contract.precision == "fp32"
    retriever = Retriever.create(tmp_path / "other", plain, precision="fp32")
    assert retriever.contract.precision == "fp32"
    with pytest.raises(FlatcoatError, match="the encoder given computes in fp32, not int8: load it in int8"):
        Retriever.create(tmp_path / "third", plain, precision="int8")


def test_the_command_line_indexes_in_a_precision(make_colbert: MakeFolder, tmp_path: Path) -> None:
    def run(*arguments: Any, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == code, done.output
        return " ".join(done.output.replace("│", " ").split())

    (tmp_path / "cats.md").write_text("Cats purr when they are content.\n")
    index = tmp_path / "index"
    command = ("index", tmp_path / "cats.md", "--index", index)
    first = (*command, "--model", make_colbert(), "--precision", "int8", "--passage-tokens", 64)
    run(*first)
    assert json.loads(run("info", "--index", index, "--json"))["contract"]["encoder"]["precision"] == "int8"
    assert "1 unchanged" in run(*first)
    assert "its precision stays int8" in run(*command, "--precision", "fp32", code=2)
    assert "its passage length stays 64" in run(*command, "--passage-tokens", 32, code=2)
    assert "is not one of" in run(*command, "--precision", "fp8", code=2)
    assert "cats.md" in run("search", "cats", "--index", index)
