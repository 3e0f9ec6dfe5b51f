"""The encoding benchmark on a model small enough for a test."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.__main__ import app
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.eval.encode_speed import BOUND, SETS, compare, document_count, documents, implementations

CONFIG = ModernBertConfig(
    vocab_size=120,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=2,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    cls_token_id=1,
    sep_token_id=2,
)


@pytest.fixture
def shape(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_hf()))
    return str(tmp_path)


def test_document_sets_follow_the_protocol() -> None:
    assert {len(text) for text in documents("fixed-512", 5, 120)} == {512}
    lengths = [len(text) for text in documents("variable-256", 4000, 120)]
    assert min(lengths) >= 32
    assert max(lengths) <= 512
    assert abs(sum(lengths) / 4000 - 256) < 5
    assert documents("variable-256", 9, 120) == documents("variable-256", 9, 120)
    assert document_count("fixed-512", 1) == 8192
    assert document_count("fixed-8192", 1) == 512
    with pytest.raises(FlatcoatError, match="no document set short"):
        documents("short", 1, 120)


def test_every_implementation_encodes_alike() -> None:
    texts = documents("variable-256", 7, CONFIG.vocab_size)
    with torch.inference_mode():
        found = {name: encode(texts) for name, encode in implementations(CONFIG, "fp32", "cpu").items()}
    assert {"flatcoat", "transformers sdpa", "transformers eager"} <= set(found)
    for pooled in found.values():
        assert (pooled - found["flatcoat"]).abs().max() <= 1e-5


def test_rows_hold_every_figure(shape: str) -> None:
    rows = compare(shape, SETS[:1], ["fp32"], scale=0.0005, passes=1)
    assert rows[0].implementation == "flatcoat"
    assert rows[-1].implementation == BOUND
    for row in rows:
        assert row.tokens_per_second > 0
        assert row.ratio_to_ours == pytest.approx(row.tokens_per_second / rows[0].tokens_per_second)
        assert (row.cosine is None) == (row.implementation == BOUND)
    assert rows[0].cosine == pytest.approx(1, abs=1e-6)
    with pytest.raises(FlatcoatError, match="no precision fp8"):
        compare(shape, SETS, ["fp8"], 0.001, 1)
    with pytest.raises(FlatcoatError, match="no shape huge"):
        compare("huge", SETS, ["fp32"], 0.001, 1)


def test_the_command_prints_json_and_draws(shape: str, tmp_path: Path) -> None:
    picture = tmp_path / "speed.png"
    arguments = ["bench", "encode", "--shape", shape, "--set", "fixed-64", "--precision", "fp32"]
    done = CliRunner().invoke(
        app, [*arguments, "--scale", "0.0002", "--passes", "1", "--json", "--plot", str(picture)]
    )
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    names = {
        "set",
        "implementation",
        "precision",
        "tokens_per_second",
        "max_batch",
        "ratio_to_ours",
        "cosine",
    }
    assert set(values) == {"machine", "rows"}
    assert all(set(row) == names for row in values["rows"])
    assert picture.read_bytes().startswith(b"\x89PNG")
