"""Checkpoints read without the libraries that wrote them: equal vectors, or left to those libraries."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.encoders.checkpoint import Checkpoint
from flatcoat.retrieval.encoders.checkpoint_files import in_folder
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, load_encoder
from flatcoat.retrieval.encoders.torch_checkpoint import try_load_checkpoint

MakeFolder = Callable[..., Path]
LATE: list[dict[str, Any]] = [
    {},
    {"do_query_expansion": False},
    {"attend_to_expansion_tokens": True, "query_length": 12},
    {"query_prefix": "", "document_prefix": "", "skiplist_words": ["!", "nothing like it"]},
]
BASES = ("modernbert", "bert")
DENSE: list[dict[str, Any]] = [
    {},
    {"pooling": "cls", "project": True},
    {"pooling": "lasttoken", "prompts": {"query": "find: ", "document": "text: "}},
    {"pooling": "max", "prompts": {"all": "text: "}, "default_prompt_name": "all"},
]


def arrays(vectors: Vectors) -> list[np.ndarray]:
    return [vectors.values_TD, vectors.offsets] if isinstance(vectors, TokenVectors) else [vectors]


def assert_same(ours: Any, theirs: Any, texts: list[str]) -> None:
    assert isinstance(ours.model, Checkpoint)
    assert not isinstance(theirs.model, Checkpoint)
    ours.contract.require(theirs.contract)
    for name in ("encode_queries", "encode_documents"):
        for one, other in zip(
            arrays(getattr(ours, name)(texts)), arrays(getattr(theirs, name)(texts)), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert ours.token_counts(texts) == theirs.token_counts(texts)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", LATE)
def test_late_interaction_is_as_pylate_has_it(
    make_colbert: MakeFolder, bases: dict[str, Path], texts: list[str], base: str, options: dict[str, Any]
) -> None:
    folder = make_colbert(bases[base], **options)
    ours, theirs = load_encoder(folder, device="cpu"), ColbertEncoder.load(folder, device="cpu")
    assert_same(ours, theirs, texts)
    assert isinstance(ours, ColbertEncoder)
    for is_query in (True, False):
        assert ours.token_spans(texts, is_query=is_query) == theirs.token_spans(texts, is_query=is_query)
    for encoder in (ours, theirs):
        encoder.truncate_documents(9_999)
    assert ours.contract.document_length == (1024 if base == "modernbert" else 512)
    assert_same(ours, theirs, texts)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", DENSE)
def test_dense_is_as_sentence_transformers_has_it(
    make_dense: MakeFolder, bases: dict[str, Path], texts: list[str], base: str, options: dict[str, Any]
) -> None:
    folder = make_dense(bases[base], **options)
    ours, theirs = load_encoder(folder, device="cpu"), DenseEncoder.load(folder, device="cpu")
    assert_same(ours, theirs, texts)


def test_the_model_inside(texts: list[str]) -> None:
    theirs = ColbertEncoder.load(SHIPPED_MODEL, device="cpu")
    assert_same(load_encoder(device="cpu"), theirs, texts)


def test_a_dense_checkpoint_is_saved_as_it_was_read(
    make_dense: MakeFolder, tmp_path: Path, texts: list[str]
) -> None:
    encoder = load_encoder(make_dense(pooling="cls"), device="cpu")
    assert isinstance(encoder, DenseEncoder)
    encoder.truncate_documents(40)
    encoder.save(tmp_path / "saved")
    assert_same(load_encoder(tmp_path / "saved"), DenseEncoder.load(tmp_path / "saved", device="cpu"), texts)
    load_encoder(tmp_path / "saved").contract.require(encoder.contract)


def test_neither_transformers_nor_its_kin_are_imported() -> None:
    code = """
import sys
from flatcoat.retrieval.encoders.load import load_encoder
load_encoder(device="cpu", precision="int8").encode_queries(["cats"])
heavy = ("transformers", "sentence_transformers", "pylate", "datasets", "torch._dynamo", "sympy")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def changed(folder: Path, copy: Path, file: str, **values: Any) -> Path:
    shutil.copytree(folder, copy)
    said = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(said | values))
    return copy


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("tokenizer_config.json", {"add_prefix_space": True}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"model_args": {}}),
        ("config.json", {"dtype": "float16"}),
        ("1_Dense/config.json", {"activation_function": "torch.nn.modules.activation.GELU"}),
        ("1_Dense/config.json", {"module_input_name": "cls"}),
        ("config_sentence_transformers.json", {"query_prefix": "a token that is not there "}),
        ("config_sentence_transformers.json", {"query_prefix": None}),
        ("config_sentence_transformers.json", {"query_length": None}),
    ],
)
def test_what_is_unknown_is_left_to_the_library(
    make_colbert: MakeFolder, tmp_path: Path, file: str, values: dict[str, Any]
) -> None:
    folder = changed(make_colbert(), tmp_path / "other", file, **values)
    assert try_load_checkpoint(lambda name: _there(folder / name), late=True, device="cpu") is None
    folder = make_colbert()
    assert try_load_checkpoint(lambda name: _there(folder / name), late=True, device="cpu") is not None


def test_why_a_checkpoint_is_left_to_its_library_is_logged(
    make_colbert: MakeFolder, foreign_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_colbert(foreign_folder)
    with caplog.at_level("DEBUG", "flatcoat.retrieval.encoders.torch_checkpoint"):
        assert try_load_checkpoint(lambda name: _there(folder / name), late=True, device="cpu") is None
    assert "left to its own library: its backbone is 'deberta-v2'" in caplog.text


ODD: list[Any] = [None, True, -1, 1.5, float("inf"), 10**30, "", "\ud800", "x", [], [7], {}, {"a": [1]}]


@pytest.mark.parametrize("odd", [["x", [7]], pytest.param(ODD, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("late", [True, False])
def test_whatever_a_setting_holds_it_is_read_or_declined(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, late: bool, odd: list[Any]
) -> None:
    """No other exception: a mistake in the code that reads settings would be one."""
    folder = tmp_path / "model"
    shutil.copytree(make_colbert() if late else make_dense(project=True), folder)
    files = [file for file in folder.rglob("*.json") if file.name not in ("tokenizer.json", "modules.json")]
    assert len(files) >= 4
    for file in files:
        settings = json.loads(file.read_text())
        for name, value in product(settings, odd):
            file.write_text(json.dumps(settings | {name: value}))
            try_load_checkpoint(in_folder(folder), late, device="cpu")
        file.write_text(json.dumps(settings))
    modules = folder / "modules.json"
    for value in (*odd, *({"type": value, "path": value} for value in odd)):
        modules.write_text(json.dumps([*json.loads(modules.read_text())[:1], value]))
        assert try_load_checkpoint(in_folder(folder), late, device="cpu") is None


def test_another_backbone_or_a_bare_one_is_left_to_the_library(
    make_colbert: MakeFolder, foreign_folder: Path, modernbert_folder: Path
) -> None:
    assert not isinstance(load_encoder(make_colbert(foreign_folder)).model, Checkpoint)  # type: ignore[attr-defined]
    assert not isinstance(load_encoder(modernbert_folder).model, Checkpoint)  # type: ignore[attr-defined]


def _there(file: Path) -> Path | None:
    return file if file.is_file() else None
