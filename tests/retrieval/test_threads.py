"""One encoder and one Retriever in many threads: what each gets is what it would have got alone."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from time import monotonic
from typing import Any

import numpy as np
import pytest
import torch

from flatcoat import Document, Retriever
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import load_encoder
from flatcoat.retrieval.rerank import CrossEncoderReranker, EncoderReranker, load_cross_encoder

MakeFolder = Callable[..., Path]
THREADS = 8
KINDS = [
    "packed colbert",
    "packed dense",
    "pylate packed",
    "sentence-transformers packed",
    "pylate",
    "deberta",
]


@pytest.fixture(autouse=True)
def _switching_often() -> Iterator[None]:
    # Sums depend on the number of threads in their last bits: new threads get that of this one.
    torch.set_num_threads(torch.get_num_threads())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def load(make_colbert: MakeFolder, make_dense: MakeFolder, foreign_folder: Path) -> Callable[[str], Any]:
    """A new encoder: read by flatcoat, or by its own library, packed or run by transformers."""
    return lambda kind: {
        "packed colbert": lambda: load_encoder(make_colbert(), device="cpu"),
        "packed dense": lambda: load_encoder(make_dense(), device="cpu"),
        "pylate packed": lambda: ColbertEncoder.load(make_colbert(), device="cpu"),
        "sentence-transformers packed": lambda: DenseEncoder.load(make_dense(), device="cpu"),
        "pylate": lambda: load_encoder(make_colbert(foreign_folder), device="cpu"),
        "deberta": lambda: load_encoder(make_dense(foreign_folder), device="cpu"),
    }[kind]()


def values(found: Any) -> Any:
    """Vectors as what ``==`` compares bit for bit."""
    if isinstance(found, TokenVectors):
        return found.values_TD.tobytes(), found.offsets.tobytes()
    return found.tobytes() if isinstance(found, np.ndarray) else found


def side_by_side(calls: Sequence[Callable[[], Any]], seconds: float) -> None:
    """Every thread makes the calls over and over, each from another one on; all get what one alone gets."""
    expected = [values(call()) for call in calls]
    together = Barrier(THREADS)

    def work(thread: int) -> int:
        together.wait()
        made, began = 0, monotonic()
        while monotonic() - began < seconds or made < len(calls):
            place = (thread + made) % len(calls)
            assert values(calls[place]()) == expected[place], place
            made += 1
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(work, range(THREADS))) >= THREADS * len(calls)


def encoding(encoder: Any, texts: Sequence[str]) -> list[Callable[[], Any]]:
    """Queries and documents of other lengths, so that each call cuts at another number of tokens."""
    few, many = texts[:6], texts[4:]
    calls = [
        lambda: encoder.encode_queries(many[-2:]),
        lambda: encoder.encode_documents(many),
        lambda: encoder.token_counts(texts),
        lambda: encoder.encode_documents(few),
    ]
    if isinstance(encoder, ColbertEncoder):
        calls += [partial(encoder.token_spans, many, is_query=is_query) for is_query in (True, False)]
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_encodes_and_counts_in_many_threads(
    load: Callable[[str], Any], texts: list[str], kind: str
) -> None:
    side_by_side(encoding(load(kind), texts), 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_encodes_and_counts_in_many_threads_for_long(
    load: Callable[[str], Any], texts: list[str], kind: str
) -> None:
    side_by_side(encoding(load(kind), texts), 8)


@pytest.mark.parametrize("kind", ["packed dense", "deberta"])
def test_a_first_use_may_be_that_of_many_threads(
    load: Callable[[str], Any], texts: list[str], kind: str
) -> None:
    expected, encoder = load(kind), load(kind)
    together = Barrier(THREADS)

    def first(thread: int) -> tuple[Any, ...]:
        together.wait()
        return encoder.contract, encoder.token_counts(texts), values(encoder.encode_documents(texts))

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(first, range(THREADS)))
    alone = (expected.contract, expected.token_counts(texts), values(expected.encode_documents(texts)))
    assert found == [alone] * THREADS


@pytest.fixture
def make_cross_encoder(foreign_folder: Path) -> Callable[[], CrossEncoderReranker]:
    return lambda: CrossEncoderReranker(
        load_cross_encoder(foreign_folder, device="cpu", max_length=64, num_labels=1), "cross"
    )


def make_documents(name: str, count: int, part: int) -> list[Document]:
    words = ["cat", "dog", "river", "bridge", "bread", "yeast", "sky", "light", "wave", "forest"]
    return [
        Document(f"{name}{n}", " ".join(words[n % 7 :] * (1 + n % 30)) + f" n{n}", metadata={"part": part})
        for n in range(count)
    ]


def searching(retriever: Retriever, rerankers: Sequence[Any]) -> list[Callable[[], Any]]:
    calls: list[Callable[[], Any]] = [
        lambda mode=mode, query=query: retriever.search(query, 4, where=["part=1"], mode=mode, explain=True)
        for mode in ("vectors", "bm25", "hybrid")
        for query in ("cat", "how does bread rise over the river, and why is the sky light?")
    ]
    return calls + [
        lambda reranker=reranker: retriever.search("a cat", 3, where=["part=1"], rerank=reranker)
        for reranker in rerankers
    ]


@pytest.mark.parametrize("kind", ["packed colbert", "deberta"])
def test_a_retriever_is_searched_in_many_threads(
    load: Callable[[str], Any],
    make_cross_encoder: Callable[[], CrossEncoderReranker],
    make_dense: MakeFolder,
    tmp_path: Path,
    kind: str,
) -> None:
    Retriever.create(tmp_path / "index", load(kind)).add(make_documents("d", 16, 1))
    retriever = Retriever.open(tmp_path / "index", load(kind))
    side_by_side(
        searching(retriever, [make_cross_encoder(), make_dense(), EncoderReranker(load("pylate"))]), 0.5
    )


@pytest.mark.parametrize("kind", ["packed colbert", "pylate"])
def test_what_is_added_while_others_search_is_what_would_have_been_added_alone(
    load: Callable[[str], Any], tmp_path: Path, kind: str
) -> None:
    encoder, new = load(kind), make_documents("new", 30, 2)
    retriever = Retriever.create(tmp_path / "index", encoder)
    retriever.add(make_documents("d", 20, 1))
    queries = ["cat", "how does bread rise over the river, and why is the sky light?"]

    def ask(query: str) -> list[tuple[str, float]]:
        found = retriever.search(query, 5, where=["part=1"], mode="vectors")
        return [(result.document_id, result.score) for result in found]

    expected = {query: ask(query) for query in queries}
    with ThreadPoolExecutor(THREADS) as pool:
        adding = pool.submit(lambda: [retriever.add(new[start : start + 10]) for start in range(0, 30, 10)])
        while not adding.done():
            found = list(pool.map(ask, queries * 3))
            assert found == [expected[query] for query in queries * 3]
        assert sum(added.documents for added in adding.result()) == 30
    alone = Retriever.create(tmp_path / "alone", encoder)
    alone.add(make_documents("d", 20, 1))
    for start in range(0, 30, 10):
        alone.add(new[start : start + 10])
    for one, other in zip(stored(retriever), stored(alone), strict=True):
        np.testing.assert_array_equal(one, other)


def stored(retriever: Retriever) -> list[Any]:
    segments = retriever.store.snapshot().segments
    return [segment.values_TD if isinstance(segment, TokenVectors) else segment for segment in segments]
