"""What the tests of pretraining share: a little text, a tokenizer and shards of it, a small run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from flatcoat.backbone.pretraining.settings import PretrainingSettings
from flatcoat.backbone.pretraining.shards import Shards, write_shards
from flatcoat.backbone.pretraining.tokenizer import train_byte_level_bpe

NOUNS = ("dog", "cat", "river", "captain", "letter", "garden", "window", "horse")
VERBS = ("sees", "follows", "remembers", "paints", "carries")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Documents of one to twelve sentences, all different."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"The {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} of {draw.randrange(99)}."
            for _ in range(draw.randint(1, 12))
        )
        + f" So ends story {number}."
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return sentences(150)


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    return train_byte_level_bpe(texts, 384, unused=10)


@pytest.fixture(scope="session")
def shards(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(texts, tokenizer, folder, fingerprint="texts", shard_tokens=3_000)


@pytest.fixture
def make_settings(texts: list[str], tmp_path: Path) -> Callable[..., PretrainingSettings]:
    """Settings of a run of three phases of a tiny model, with some sections changed."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text("\n".join(texts))
    (data / "held-back.txt").write_text("\n".join(sentences(10, seed=1)))
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    batch = {"batch_tokens": 512, "learning_rate": 0.003}
    values: dict[str, Any] = {
        "data_root": data,
        "shards": tmp_path / "shards",
        "model": shape | {"local_attention": 8},
        "tokenizer": {"vocab_size": 384, "unused": 10},
        "data": [{"files": ["train.txt"], "documents": "line"}],
        "held_back": [{"files": ["held-back.txt"], "documents": "line"}],
        "optimization": {"micro_batch_tokens": 256, "precision": "fp32"},
        "phases": [
            batch | {"name": "stable", "tokens": 3000, "length": 32, "global_rope_theta": 10_000},
            batch | {"name": "extended", "tokens": 1500, "length": 64, "global_rope_theta": 160_000},
            batch | {"name": "annealed", "tokens": 1500, "length": 64, "decay": "1-sqrt"},
        ],
        "watching": {"log_every": 1, "evaluate_every": 4, "save_every": 2, "evaluation_tokens": 600},
    }

    def make(**changes: Any) -> PretrainingSettings:
        return PretrainingSettings.model_validate(values | changes)

    return make
