"""A small BEIR folder, encoders that need no model, and real data where the environment names it."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.contract import Contract

DOCUMENTS = [
    {
        "_id": "cats",
        "title": "Cats",
        "text": "Cats purr when they are content.",
        "metadata": {"a": {"b": [1]}},
    },
    {"_id": "dogs", "title": None, "text": "Dogs bark at strangers and retrieve birds."},
    {"_id": "birds", "text": "Birds sing at dawn."},
    {"_id": "boats", "title": "", "text": "A boat needs wind to sail."},
]
QUERIES = [
    {"_id": "q1", "text": "why does a cat purr"},
    {"_id": "q2", "text": "what do dogs retrieve"},
    {"_id": "q3", "text": "nobody judged this"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\tcats\t2\nq2\tdogs\t1\nq2\tbirds\t1\n"

WriteBeir = Callable[..., Path]


@pytest.fixture
def write_beir(tmp_path: Path) -> WriteBeir:
    """Write a BEIR folder; each file may be given as text, or as None to leave it out."""

    def jsonl(rows: list[dict]) -> str:
        return "".join(json.dumps(row) + "\n" for row in rows)

    def write(
        name: str = "pets",
        corpus: str | None = jsonl(DOCUMENTS),
        queries: str | None = jsonl(QUERIES),
        **qrels: str,
    ) -> Path:
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        files = {"corpus.jsonl": corpus, "queries.jsonl": queries}
        files |= {f"qrels/{split}.tsv": text for split, text in (qrels or {"test": QRELS}).items()}
        for path, text in files.items():
            if text is not None:
                (folder / path).write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, from the environment variable FLATCOAT_DATA."""
    folder = os.environ.get("FLATCOAT_DATA")
    if not folder:
        pytest.skip("FLATCOAT_DATA does not name a folder of BEIR data sets")
    return Path(folder)


def hash_words(text: str, width: int = 64) -> np.ndarray:
    """One unit vector a word [words, width], the same for the same word in every process."""
    words = [word.strip(".,?").lower().rstrip("s") for word in text.split()] or [""]
    rows = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=width) for word in words]
    return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


class BagEncoder:
    """A dense encoder without a model: the normalised sum of the vectors of a text's words."""

    name = "bag"
    contract = Contract("dense", name, "0", 64, "", "", 512, 512)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        sums = np.stack([hash_words(text).sum(axis=0) for text in texts])
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    encode_documents = encode_queries

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def truncate_documents(self, length: int | None) -> None:
        self.contract = replace(self.contract, document_length=length or 512)


class WordEncoder:
    """A late-interaction encoder without a model: one vector a word."""

    name = "words"
    contract = Contract("colbert", name, "0", 64, "", "", 512, 512)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return TokenVectors.from_list([hash_words(text) for text in texts])

    encode_documents = encode_queries

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def truncate_documents(self, length: int | None) -> None:
        self.contract = replace(self.contract, document_length=length or 512)


@pytest.fixture(params=[BagEncoder, WordEncoder])
def encoder(request: pytest.FixtureRequest) -> BagEncoder | WordEncoder:
    return request.param()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Stand the model-less encoders in for checkpoints; the list fills with what was asked for."""
    asked: list[str | None] = []

    def load_encoder(name: str | None = None, precision: object = None) -> BagEncoder | WordEncoder:
        asked.append(name)
        return WordEncoder() if name == "org/words" else BagEncoder()

    monkeypatch.setattr("flatcoat.retrieval.encoders.load.load_encoder", load_encoder)
    return asked
