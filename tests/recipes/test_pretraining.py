"""Recipes and commands of pretraining: files that load, the paper's values, runs and tokenizers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer
from typer.testing import CliRunner

import flatcoat.recipes
from flatcoat.__main__ import app
from flatcoat.errors import UsageError
from flatcoat.recipes.commands import find_recipe
from flatcoat.recipes.pretraining import PretrainingRecipe

FILES = sorted(Path(flatcoat.recipes.__file__).parent.glob("pretrain-*.yaml"))
TEXT = "The dog sees the cat number {} by the river.\n"


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("".join(TEXT.format(number) for number in range(200)))
    phase = {"name": "a", "tokens": 600, "length": 32, "learning_rate": 0.003, "batch_tokens": 256}
    values = {
        "name": "tiny",
        "model": {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        "tokenizer": {"vocab_size": 384, "unused": 4},
        "data_root": str(tmp_path),
        "data": [{"files": ["text.txt"], "documents": "line"}],
        "held_back": [{"files": ["text.txt"], "documents": "line"}],
        "optimization": {"micro_batch_tokens": 256, "precision": "fp32"},
        "phases": [phase],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "tiny.yaml"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_under_its_name(path: Path, tmp_path: Path) -> None:
    loaded = PretrainingRecipe.load(path)
    assert loaded.name == path.stem
    assert loaded.description and path.read_text().startswith("# ")
    assert loaded.data_root == Path()
    assert all(source.licence for source in loaded.data)
    copy = tmp_path / "recipe.yaml"
    copy.write_text(yaml.safe_dump(loaded.model_dump(mode="json", exclude_defaults=True)))
    assert PretrainingRecipe.load(copy) == loaded


def phases(name: str) -> list[dict[str, Any]]:
    return [phase.model_dump() for phase in PretrainingRecipe.load(find_recipe(name)).phases]


def test_base_has_the_paper_s_values() -> None:
    stable, extended, annealed = phases("pretrain-base")
    assert (stable["tokens"], stable["length"], stable["learning_rate"]) == (1_719 * 10**9, 1024, 8e-4)
    assert (stable["first_batch_tokens"], stable["batch_tokens"]) == (768 * 1024, 4608 * 1024)
    assert (stable["warmup_tokens"], stable["batch_warmup_tokens"]) == (3 * 10**9, 50 * 10**9)
    assert (extended["tokens"], extended["length"], extended["learning_rate"]) == (250 * 10**9, 8192, 3e-4)
    assert [phase["global_rope_theta"] for phase in (stable, extended)] == [10_000, 160_000]
    assert (annealed["tokens"], annealed["decay"], annealed["final"]) == (50 * 10**9, "1-sqrt", 0.001)
    assert {phase["weight_decay"] for phase in (stable, extended, annealed)} == {1e-5}
    settings = PretrainingRecipe.load(find_recipe("pretrain-base"))
    assert (settings.optimization.betas, settings.optimization.eps) == ((0.9, 0.98), 1e-6)
    assert (settings.masking.share, settings.masking.evaluation_share) == (0.3, 0.15)


def test_large_has_the_paper_s_values() -> None:
    high, stable, extended, annealed = phases("pretrain-large")
    assert [phase["tokens"] // 10**9 for phase in (high, stable, extended, annealed)] == [900, 800, 250, 50]
    assert [phase["learning_rate"] for phase in (high, stable, extended, annealed)] == [
        5e-4,
        5e-5,
        5e-5,
        5e-5,
    ]
    assert (high["warmup_tokens"], high["batch_warmup_tokens"]) == (2 * 10**9, 10 * 10**9)
    assert (high["first_batch_tokens"], high["batch_tokens"]) == (448 * 1024, 4928 * 1024)
    assert [phase["weight_decay"] for phase in (high, stable, extended, annealed)] == [1e-5, 1e-6, 1e-6, 1e-6]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("phases.0.tokns=3", "unknown key phases.0.tokns; did you mean tokens?"),
        ("objective={kind: distillation, teacher: x, mach: 3}", "did you mean match?"),
        ("data.0.file=3", "unknown key data.0.file; did you mean files?"),
        ("base=x", "name exactly one of base"),
        ("phases.0.start=b", "phase a starts from b, which is no earlier phase"),
        ("optimization.micro_batch_tokens=16", "phase a has sequences of 32 tokens"),
        ("tokenizer.vocab_size=385", "multiple of 64"),
    ],
)
def test_wrong_values_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        PretrainingRecipe.load(recipe, [override])
    assert message in str(caught.value)


def test_a_recipe_runs_by_command(recipe: Path, tmp_path: Path) -> None:
    output = invoke("pretrain", recipe, "--output", tmp_path / "run", "--set", "watching.log_every=1")
    assert "Held-back accuracy" in output
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert "unknown key" in invoke("pretrain", recipe, "--set", "phase=3", code=2).replace("│", " ")


def test_replaced_tokens_show_what_the_saved_encoder_finds(recipe: Path, tmp_path: Path) -> None:
    objective = "objective={kind: replaced-tokens}"
    output = invoke("pretrain", recipe, "--output", tmp_path / "run", "--set", objective)
    assert "Detection accuracy" in output and "Replaced" in output
    assert "Perplexity" not in output


def test_a_tokenizer_is_trained_and_compared_by_command(recipe: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    for name in ("one", "two"):
        invoke("tokenizer", "train", text, "--output", tmp_path / name, "--vocab-size", 384, "--unused", 4)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "one")) % 64 == 0
    with pytest.raises(flatcoat.FlatcoatError, match="name another --output"):
        invoke("tokenizer", "train", text, "--output", tmp_path / "one")
    rows = json.loads(
        invoke("tokenizer", "compare", tmp_path / "one", tmp_path / "two", "--on", text, "--json")
    )
    assert [row["tokenizer"] for row in rows] == [str(tmp_path / name) for name in ("one", "two")]
    assert rows[0]["tokens_per_word"] == rows[1]["tokens_per_word"] > 0
    assert "Tokens per word" in invoke("tokenizer", "compare", tmp_path / "one", "--on", text)


@pytest.mark.slow
def test_its_speed_is_measured_beside_transformers(recipe: Path) -> None:
    report = json.loads(invoke("bench", "pretrain", recipe, "--steps", 2, "--passes", 1, "--json"))
    ours, theirs = report["rows"]
    assert (ours["ratio_to_ours"], ours["padding"]) == (1, 0)
    assert 0 < theirs["padding"] < 0.5
    assert theirs["tokens_per_second"] > 0
