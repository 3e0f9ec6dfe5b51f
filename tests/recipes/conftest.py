"""A small recipe and its data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatcoat import Recipe

WORDS = ["cat", "dog", "sky", "bread", "bridge", "river", "light", "steel"]


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder ``pets`` with 24 training pairs, three queries a document, and ``pairs.jsonl``."""
    root = tmp_path_factory.mktemp("data")
    (root / "pets" / "qrels").mkdir(parents=True)
    corpus = [{"_id": word, "title": "", "text": f"The {word} of the house, a {word}."} for word in WORDS]
    queries = [{"_id": f"{word}{n}", "text": f"{word} question {n}"} for word in WORDS for n in range(3)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (root / "pets" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = "".join(f"{query['_id']}\t{query['_id'][:-1]}\t1\n" for query in queries)
    for split in ("train", "dev"):
        (root / "pets" / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    rows = [{"q": f"jsonl {word}", "d": f"a {word}"} for word in WORDS]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def recipe(data_root: Path) -> Callable[..., Recipe]:
    """A scratch ColBERT of two layers, three steps of eight pairs; options change its sections' keys."""

    def make(**changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "name": "tiny",
            "kind": "colbert",
            "scratch": {
                "vocab_size": 120,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
            },
            "encoder": {"query_length": 12, "document_length": 40, "width": 16},
            "data_root": data_root,
            "data": [{"beir": "pets"}],
            "training": {"batch_size": 8, "max_steps": 3, "learning_rate": 1e-3, "document_length": 20},
        }
        for name, change in changes.items():
            values[name] = values[name] | change if isinstance(change, dict) and name in values else change
        return Recipe.model_validate(values)

    return make
