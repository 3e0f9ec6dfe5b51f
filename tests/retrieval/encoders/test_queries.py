"""Queries encoded by NumPy: the vectors and the contract of the torch encoders, without torch."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flatcoat import Document, Retriever
from flatcoat.backbone.packing import PackedBatch
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.encoders import dense, weights_cache
from flatcoat.retrieval.encoders.checkpoint import Checkpoint
from flatcoat.retrieval.encoders.contract import Precision
from flatcoat.retrieval.encoders.dense_texts import CLS_AFTER_PROMPT
from flatcoat.retrieval.encoders.encoder import Encoder, QueryEncoder
from flatcoat.retrieval.encoders.load import SHIPPED_NAME, load_encoder, load_query_encoder
from flatcoat.retrieval.encoders.queries import ColbertQueries, DenseQueries, pooled

MakeFolder = Callable[..., Path]

LATE: list[dict[str, Any]] = [
    {},
    {"do_query_expansion": False},
    {"query_length": 64},
    {"attend_to_expansion_tokens": True, "query_length": 12},
    {"query_prefix": "", "document_prefix": "", "skiplist_words": ["!"]},
]
BASES = ("modernbert", "bert")
DENSE: list[dict[str, Any]] = [
    {},
    {"pooling": "cls", "project": True},
    {"pooling": "lasttoken", "prompts": {"query": "find: ", "document": "text: "}},
    {"pooling": "max", "prompts": {"all": "text: "}, "default_prompt_name": "all"},
    {"pooling": "weightedmean"},
]


def loaded(folder: Path | str) -> QueryEncoder:
    queries = load_query_encoder(str(folder), is_trusted=True)
    assert isinstance(queries, ColbertQueries | DenseQueries)
    return queries


def matrix(vectors: Vectors) -> np.ndarray:
    return vectors.values_TD if isinstance(vectors, TokenVectors) else vectors


def assert_same(ours: QueryEncoder, theirs: Encoder, texts: list[str]) -> None:
    for length in (None, 60, 9_999):
        ours.truncate_documents(length)
        theirs.truncate_documents(length)
        came, expected = ours.encode_queries(texts), theirs.encode_queries(texts)
        assert matrix(came).dtype == np.float32
        np.testing.assert_allclose(matrix(came), matrix(expected), rtol=0, atol=1e-5)
        if isinstance(came, TokenVectors) and isinstance(expected, TokenVectors):
            assert came.offsets.tolist() == expected.offsets.tolist()
        theirs_settings = theirs.contract.settings
        assert ours.contract.settings == theirs_settings
    assert len(ours.encode_queries([])) == 0
    assert matrix(ours.encode_queries([])).shape == matrix(theirs.encode_queries([])).shape


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", LATE)
def test_late_interaction_is_as_torch_has_it(
    make_colbert: MakeFolder, bases: dict[str, Path], texts: list[str], base: str, options: dict[str, Any]
) -> None:
    folder = make_colbert(bases[base], **options)
    assert_same(loaded(folder), load_encoder(folder, device="cpu"), texts)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", DENSE)
def test_dense_is_as_torch_has_it(
    make_dense: MakeFolder, bases: dict[str, Path], texts: list[str], base: str, options: dict[str, Any]
) -> None:
    folder = make_dense(bases[base], **options)
    assert_same(loaded(folder), load_encoder(folder, device="cpu"), texts)


def test_the_model_inside_is_as_torch_has_it(texts: list[str]) -> None:
    assert_same(loaded(SHIPPED_NAME), load_encoder(device="cpu"), texts)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_prompts_left_out_of_pooling_are_as_in_torch(
    make_dense: MakeFolder, tmp_path: Path, texts: list[str], pooling: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_dense(prompts={"query": "find this: "}, pooling=pooling), folder)
    settings = folder / "1_Pooling" / "config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"include_prompt": False}))
    assert_same(loaded(folder), load_encoder(folder, device="cpu"), texts)


@pytest.mark.parametrize("prompt_tokens", [0, 2, 9])
def test_poolings_are_those_of_torch(prompt_tokens: int) -> None:
    modes = ("cls", CLS_AFTER_PROMPT, "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    for tokens in (1, 2, 9, 30):
        hidden_TD = np.random.default_rng(tokens).normal(size=(tokens, 5)).astype(np.float32)
        expected = dense.pooled(
            torch.from_numpy(hidden_TD),
            PackedBatch.from_sequences([[1] * tokens]),
            modes="+".join(modes),
            prompt_tokens=prompt_tokens,
        )
        came = pooled(hidden_TD, modes, prompt_tokens=prompt_tokens)
        np.testing.assert_allclose(came, expected[0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_saved_in_another_dtype_are_widened(
    make_colbert: MakeFolder, tmp_path: Path, texts: list[str], dtype: torch.dtype
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_colbert(), folder)
    for file in folder.rglob("model.safetensors"):
        state = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
        save_file(state, file, metadata={"dtype": "F32", "format": "pt"})
    theirs = load_encoder(folder, device="cpu")
    assert isinstance(theirs.model, Checkpoint)  # type: ignore[attr-defined]
    assert_same(loaded(folder), theirs, texts)


def test_why_a_model_needs_torch_is_logged(
    make_dense: MakeFolder, foreign_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "flatcoat.retrieval.encoders.load"):
        assert load_query_encoder(str(make_dense(foreign_folder)), is_trusted=True) is None
        assert "encodes queries by torch: its backbone is 'deberta-v2'" in caplog.text
        assert load_query_encoder(str(tmp_path / "nothing"), is_trusted=False) is None
        assert "it is neither a folder nor" in caplog.text


def test_a_model_that_only_a_library_reads_searches_as_ever(
    make_dense: MakeFolder, foreign_folder: Path, tmp_path: Path
) -> None:
    retriever = Retriever.create(tmp_path / "index", make_dense(foreign_folder))
    retriever.add([Document("cats", "Cats purr."), Document("bread", "Bread rises.")])
    assert retriever.query_encoder is retriever.encoder
    again = Retriever.open(tmp_path / "index", make_dense(foreign_folder))
    assert again.search("cats") == retriever.search("cats")


@pytest.mark.parametrize("precision", get_args(Precision))
def test_an_index_of_any_precision_is_searched_in_float32_and_keeps_its_contract(
    make_colbert: MakeFolder, tmp_path: Path, texts: list[str], precision: Precision
) -> None:
    folder = make_colbert()
    retriever = Retriever.create(tmp_path / "index", folder, precision=precision)
    retriever.add([Document(str(number), text) for number, text in enumerate(texts[4:])])
    again = Retriever.open(tmp_path / "index")
    assert again.contract.precision == precision
    for opened in (retriever, again):
        assert isinstance(opened.query_encoder, ColbertQueries)
        assert opened.query_encoder.contract.precision == "fp32"
        opened.contract.require(opened.query_encoder.contract)
    for query in texts[4:8]:
        found = again.search(query, best_lines=True)
        assert query in [result.text for result in found]
        assert found == retriever.search(query, best_lines=True)


def test_an_encoder_that_is_given_encodes_the_queries(make_colbert: MakeFolder, tmp_path: Path) -> None:
    encoder = load_encoder(make_colbert(), device="cpu")
    assert Retriever.create(tmp_path / "index", encoder).query_encoder is encoder
    assert Retriever.open(tmp_path / "index", encoder).query_encoder is encoder


@pytest.mark.parametrize("kind", ["colbert", "dense"])
def test_results_are_those_that_torch_gives(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, texts: list[str], kind: str
) -> None:
    folder = make_colbert() if kind == "colbert" else make_dense(project=True)
    encoder = load_encoder(folder, device="cpu")
    by_torch = Retriever.create(tmp_path / "index", encoder)
    words = " ".join(texts).split()
    by_torch.add(
        [Document(f"d{number}", " ".join(words[number : number + 12])) for number in range(len(words) - 12)]
    )
    by_numpy = Retriever.open(tmp_path / "index")
    queries = [*texts[1:], *words[:20]]
    for mode in ("hybrid", "vectors"):
        for query in filter(str.strip, queries):
            came, expected = (one.search(query, mode=mode) for one in (by_numpy, by_torch))
            assert [result.document_id for result in came] == [result.document_id for result in expected]
            assert [one.score for one in came] == pytest.approx([one.score for one in expected], abs=1e-5)

    def found(query: str) -> list[str]:
        return [result.document_id for result in by_numpy.search(query)]

    alone = [found(query) for query in words[:20]]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found, words[:20] * 4)) == alone * 4


SEARCH = """
import sys
from flatcoat import Retriever
results = Retriever.open(sys.argv[1]).search("why is the sky blue?", where=["path!=x"], group=True)
assert results[0].document_id == "sky.md", results
"""
SHELL = """
import sys
from flatcoat.__main__ import app
app(["search", "why is the sky blue?", "--index", *sys.argv[1:]], standalone_mode=False)
"""
HEAVY = {
    *("torch", "transformers", "sentence_transformers", "pylate", "datasets", "mteb", "matplotlib"),
    *("numba", "scipy", "sklearn", "pandas", "faiss", "pyarrow", "huggingface_hub"),
}


@pytest.mark.parametrize("model", ["shipped", "colbert", "dense"])
def test_a_search_imports_nothing_heavy(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, model: str
) -> None:
    made = {
        "shipped": lambda: SHIPPED_NAME,
        "colbert": make_colbert,
        "dense": lambda: make_dense(project=True),
    }
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "sky.md").write_text("Why is the sky blue? Air scatters short waves of light.\n")
    (tmp_path / "docs" / "cats.md").write_text("Cats purr when they are content.\n")
    engine = "plaid" if model == "colbert" else "auto"
    Retriever.create(tmp_path / "index", made[model](), index=engine).add_files(tmp_path / "docs")
    shell = [(SHELL, options) for options in (["--json"], [], ["--mode", "vectors"], ["--mode", "bm25"])]
    for code, options in [(SEARCH, []), *shell]:
        code += "print('\\n', *sys.modules)"
        command = [sys.executable, "-c", code, str(tmp_path / "index"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        # A process that may search on scores PLAID by kernels.
        possible = {"numba", "scipy"} if engine == "plaid" and code.startswith(SEARCH) else set()
        assert not (HEAVY - possible) & set(done.stdout.splitlines()[-1].split()), options
        assert options == [] or "sky.md" in done.stdout


def test_the_hash_of_large_weights_is_computed_once_per_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    computed: list[str] = []

    def compute() -> str:
        computed.append("")
        return f"{len(computed):064}"

    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for expected in (1, 2):
        assert weights_cache.remembered_hash([weights], compute) == f"{expected:064}"
    monkeypatch.setattr(weights_cache, "_SMALL", 10)
    for _ in range(2):
        assert weights_cache.remembered_hash([weights], compute) == f"{3:064}"
    weights.write_bytes(b"1" * 101)
    for _ in range(2):
        assert weights_cache.remembered_hash([weights], compute) == f"{4:064}"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with caplog.at_level("INFO", weights_cache.__name__):
        for expected in (5, 6):
            assert weights_cache.remembered_hash([weights], compute) == f"{expected:064}"
    assert "cannot be kept" in caplog.text
