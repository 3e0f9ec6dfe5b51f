"""Workers cut what this process would cut, and lose nothing when they fail."""

import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.documents import Passage
from flatcoat.retrieval import chunking
from flatcoat.retrieval.chunking import Chunker, ParallelChunker, Worker

CODE = 'def name_{n}(one, two):\n    """Adds {n}."""\n    return one + two + {n}\n\n\n'


def documents() -> Iterator[Document]:
    for number in range(40):
        code = "".join(CODE.format(n=number * 100 + n) for n in range(number))
        yield Document(f"code-{number}", code, title=f"{number}.py", metadata={"lang": "python"})
        yield Document(f"text-{number}", f"The river {number} is long.\n\n" * number)


def chunked(chunker: Chunker, *, of: Iterator[Document] | None = None) -> list[tuple[str, list[Passage]]]:
    return list(chunker.each((document.id, document) for document in of or documents()))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Retriever]:
    with Retriever.create(tmp_path / "index", passage_tokens=64) as retriever:
        yield retriever


@pytest.fixture
def parallel(index: Retriever, monkeypatch: pytest.MonkeyPatch) -> Iterator[ParallelChunker]:
    """A chunker that shares from its second group on, and waits for its workers there."""
    monkeypatch.setattr(chunking, "_ALONE", 0)
    monkeypatch.setattr(chunking, "_GROUP", 500)
    store = index.store
    chunker = ParallelChunker(index._model, store.contract, start=lambda: Started(store.path, None), most=2)
    yield chunker
    chunker.close()


class Started(Worker):
    """Counts its answers, and fails after ``answers`` of them."""

    count = 0
    answers = 1_000

    def chunk(self, documents: list[Document | None]) -> list[list[Passage]]:
        if Started.count >= Started.answers:
            self._process.kill()
        passages = super().chunk(documents)
        Started.count += 1
        return passages


@pytest.fixture(autouse=True)
def _none_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Started, "count", 0)


def waiting(chunker: ParallelChunker, *, of: Iterator[Document]) -> Iterator[Document]:
    """Documents that come when a worker is there."""
    for number, document in enumerate(of):
        while number == 30 and not chunker._has_workers:
            sleep(0.01)
        yield document


def test_workers_cut_as_this_process_does(index: Retriever, parallel: ParallelChunker) -> None:
    here = chunked(Chunker(index._model, index.store.contract))
    assert chunked(parallel, of=waiting(parallel, of=documents())) == here
    assert sum(len(passages) for _, passages in here) > 200
    assert Started.count > 5


@pytest.mark.parametrize("answers", [0, 3])
def test_a_worker_that_dies_loses_nothing(
    index: Retriever, parallel: ParallelChunker, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Started, "answers", answers)
    here = chunked(Chunker(index._model, index.store.contract))
    assert chunked(parallel, of=waiting(parallel, of=documents())) == here
    assert answers <= Started.count <= 2 * answers  # Both may be at work when one dies.


def test_where_no_worker_starts(index: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_ALONE", 0)
    monkeypatch.setattr(chunking, "_GROUP", 500)

    def start() -> Worker:
        raise OSError("no processes here")

    chunker = ParallelChunker(index._model, index.store.contract, start=start, most=2)
    assert chunked(chunker) == chunked(Chunker(index._model, index.store.contract))
    chunker.close()


def test_an_error_comes_after_what_is_before_it(parallel: ParallelChunker) -> None:
    def with_error() -> Iterator[Document]:
        yield from documents()
        yield Document("bad", "text", title=7)  # type: ignore[arg-type]

    came = []
    with pytest.raises(TypeError):
        for id, _ in parallel.each((one.id, one) for one in waiting(parallel, of=with_error())):
            came.append(id)
    assert came == [document.id for document in documents()]


def test_no_worker_is_left(index: Retriever, parallel: ParallelChunker) -> None:
    chunked(parallel, of=waiting(parallel, of=documents()))
    processes = [worker._process for worker in parallel._workers]
    assert processes
    parallel.close()
    assert all(process.returncode is not None for process in processes)


def test_a_worker_imports_nothing_of_the_folder(
    index: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "repository"
    there.mkdir()
    for name in ("pickle", "flatcoat", "signal", "queue"):
        (there / f"{name}.py").write_text("open('imported', 'w')\n")
    monkeypatch.chdir(there)
    worker = Worker(index.store.path, None)
    worker.begin()
    assert [len(passages) for passages in worker.chunk([Document("a", "The sky."), None])] == [1, 0]
    worker.close()
    assert not (there / "imported").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are counted by affinity")
def test_an_index_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_ALONE", 0)
    monkeypatch.setattr(chunking, "_GROUP", 500)
    held = []
    for cores in ("1", "2"):
        monkeypatch.setenv("FLATCOAT_CORES", cores)
        with Retriever.create(tmp_path / cores, passage_tokens=64) as retriever:
            added = retriever.add(documents(), vectors=False)
            results = retriever.search("the sum of name_1203", k=20, mode="bm25")
            held.append((added, [(one.document_id, one.lines, one.score) for one in results]))
    assert held[0] == held[1]
    assert held[0][0].documents == 79 and len(held[0][0].skipped) == 1


def test_a_bad_document_is_the_same_error(tmp_path: Path) -> None:
    with Retriever.create(tmp_path / "index") as retriever, pytest.raises(FlatcoatError):
        retriever.add([Document("", "text")], vectors=False)
