"""Text and BM25 first, vectors after: what is found in between, and what a cut-off second step costs."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.__main__ import app
from flatcoat.errors import ConflictError, UsageError
from flatcoat.indexing.fusion import Fusion
from flatcoat.indexing.store.engines import Name as Engine
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.ingest import Added
from flatcoat.retrieval.results import Mode

from .folders import ENGINES, HashEncoder, small_work, text

MakeFolder = Callable[..., Path]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Batches of two passages."""
    with small_work(monkeypatch) as folder:
        yield folder


class Counting(HashEncoder):
    """Counts what it encodes, and is interrupted at the batch ``stop_at``."""

    def __init__(self, kind: str, stop_at: int = 10**9) -> None:
        super().__init__(kind)
        self.texts: list[str] = []
        self.batches, self.stop_at = 0, stop_at

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.batches += 1
        if self.batches > self.stop_at:
            raise KeyboardInterrupt
        self.texts += texts
        return super().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return super().encode_documents(texts)


def documents(count: int, first: int = 0) -> list[Document]:
    return [Document(f"d{number}", text(number)) for number in range(first, first + count)]


def make(place: Path, engine: Engine, encoder: HashEncoder | None = None) -> Retriever:
    encoder = encoder or HashEncoder(ENGINES[engine])
    return Retriever.create(place / "index", encoder, passage_tokens=16, index=engine)  # type: ignore[arg-type]


def held(retriever: Retriever) -> tuple[int, int]:
    return retriever.info().passages_with_vectors, retriever.info().passages


def found(retriever: Retriever, number: int, mode: Mode = "hybrid") -> list[str]:
    results = retriever.search(f"content{number:03d}", k=50, mode=mode)
    return list(dict.fromkeys(result.document_id for result in results))


def vectors_by_text(retriever: Retriever) -> dict[str, np.ndarray]:
    """The vectors of each passage as the index holds them, by text."""
    snapshot = retriever.store.snapshot()
    passages = retriever.store.passages(snapshot.rows)
    of = {}
    for passage, segment, position in zip(passages, snapshot.segment_of, snapshot.positions, strict=True):
        stored = snapshot.segments[segment]
        assert isinstance(stored, np.ndarray | TokenVectors)
        of[f"{passage.document_id} {passage.lines}"] = np.array(stored[position])
    return of


@pytest.mark.parametrize("engine", ENGINES)
def test_texts_are_found_before_the_first_vector(place: Path, engine: Engine) -> None:
    retriever = make(place, engine)
    seen: list[tuple[int, int]] = []

    def look(added: Added) -> None:
        if added.waiting and not added.encoded:
            with closing(Retriever.open(place / "index", retriever.encoder)) as other:
                seen.append(held(other))
                assert found(other, 3)[0] == found(other, 3, "bm25")[0] == "d3"
                assert found(other, 3, "vectors") == []

    added = retriever.add(documents(8), on_progress=look)
    assert seen == [(0, added.passages)]
    assert (added.encoded, added.waiting) == (added.passages, 0)
    assert held(retriever) == (added.passages, added.passages)
    assert "d3" in found(retriever, 3, "vectors")
    assert retriever.store.verify() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_step_that_is_cut_off_encodes_nothing_twice(place: Path, engine: Engine) -> None:
    kind = ENGINES[engine]
    encoder = Counting(kind, stop_at=3)
    with closing(make(place, engine, encoder)) as retriever, pytest.raises(KeyboardInterrupt):
        retriever.add(documents(12))
    again = Counting(kind)
    retriever = Retriever.open(place / "index", again)  # type: ignore[arg-type]
    done, total = held(retriever)
    assert 2 <= done < total
    assert retriever.store.verify() == []
    added = retriever.add(documents(12))
    assert (added.unchanged, added.encoded) == (12, total - done)
    assert len(again.texts) == total - done
    assert held(retriever) == (total, total)
    assert retriever.store.verify() == []
    assert {f"d{number}" for number in range(12)} == set(found(retriever, 3, "vectors"))


def test_the_vectors_are_those_of_one_go(place: Path) -> None:
    for kind in ("dense", "colbert"):
        one = Retriever.create(place / f"{kind}1", HashEncoder(kind), passage_tokens=16)  # type: ignore[arg-type]
        one.add(documents(9))
        two = Retriever.create(place / f"{kind}2", HashEncoder(kind), passage_tokens=16)  # type: ignore[arg-type]
        two.add(documents(9), vectors=False)
        two.remove(["d1", "d4"])
        two.add([Document("d2", "replaced"), *documents(2, 4)], vectors=False)
        two.add(documents(9))
        for each in (one, two):
            each.compact()
        wanted, came = vectors_by_text(one), vectors_by_text(two)
        assert came.keys() == wanted.keys()
        assert all(np.array_equal(came[key], wanted[key]) for key in wanted)
        assert two.store.verify() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_passages_come_and_go_while_they_wait_for_vectors(place: Path, engine: Engine) -> None:
    retriever = make(place, engine)
    retriever.add(documents(9))
    assert retriever.add(documents(6, 9), vectors=False).waiting == 12
    retriever.remove(["d1", "d10"])
    retriever.add([Document("d11", text(3)), Document("d2", text(8))], vectors=False)
    assert retriever.store.verify() == []
    retriever.compact()
    assert retriever.store.verify() == []
    done, total = held(retriever)
    assert 0 < done < total
    assert found(retriever, 13, "bm25") == ["d13"]
    assert "d13" in found(retriever, 13)[:2]
    assert "d13" not in found(retriever, 13, "vectors")
    added = retriever.add([Document("new", text(20))])
    assert (added.encoded, held(retriever)[0]) == (total - done + 3, held(retriever)[1])
    assert "d13" in found(retriever, 13, "vectors")
    assert retriever.store.verify() == []


def test_an_index_without_a_model(place: Path) -> None:
    retriever = Retriever.create(place / "index", None, passage_tokens=30)
    for first in range(0, 90, 2):
        retriever.add(documents(2, first))
    assert retriever.store.contract["encoder"] is None
    assert retriever.info().segments < 45, "they are merged"
    assert not retriever.has_model
    assert found(retriever, 7) == found(retriever, 7, "bm25") == ["d7"]
    retriever.remove("d7")
    retriever.compact()
    assert retriever.info().segments == 1
    assert found(retriever, 7) == []
    assert retriever.store.verify() == []
    for wanted in (lambda: found(retriever, 7, "vectors"), lambda: retriever.encoder):
        with pytest.raises(ConflictError, match=r"made without vectors: .*flatcoat index --vectors"):
            wanted()
    explained = retriever.search("content008", explain=True, best_lines=True)[0]
    assert explained.explanation and explained.best_lines
    with pytest.raises(ConflictError, match="made without vectors"):
        Retriever.open(place / "index", HashEncoder("dense"))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dense", "colbert"])
def test_a_model_is_added_later(place: Path, kind: str) -> None:
    retriever = Retriever.create(place / "index", None, passage_tokens=16)
    retriever.add(documents(20))
    retriever.compact()
    encoder = Counting(kind, stop_at=4)
    retriever.add_model(encoder)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="has the model hashes"):
        retriever.add_model(encoder)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        retriever.add([])
    assert held(retriever)[0] >= 6, "one large segment was encoded in parts"
    again = Retriever.open(place / "index", HashEncoder(kind))  # type: ignore[arg-type]
    again.add([])
    done, total = held(again)
    assert done == total > 20
    assert again.store.verify() == []
    assert "d3" in found(again, 3, "vectors")


def test_a_model_must_read_the_passages(place: Path) -> None:
    retriever = Retriever.create(place / "index", None, passage_tokens=65)
    with pytest.raises(UsageError, match="up to 65 tokens, the model reads 64"):
        retriever.add_model(HashEncoder("dense"))  # type: ignore[arg-type]
    assert not retriever.has_model
    for tokens in (15, 10_000):
        with pytest.raises(UsageError, match="from 16 to 8192"):
            Retriever.create(place / "other", None, passage_tokens=tokens)


def test_lost_vectors_are_no_passages_that_wait(place: Path) -> None:
    retriever = make(place, "exact")
    retriever.add(documents(3))
    with retriever.store.writer() as writer:
        writer._connection.execute("DELETE FROM files")
    assert retriever.store.verify() != []
    retriever.close()


def test_vectors_rank_once_half_of_the_passages_have_some(place: Path) -> None:
    with closing(make(place, "exact")) as retriever:
        retriever.add(documents(4))
        retriever.add(documents(5, first=4), vectors=False)
        assert all("vectors" not in one.scores for one in retriever.search(text(1)))
        retriever.remove(["d7", "d8"])
        assert held(retriever) == (7, 13)
        assert any("vectors" in one.scores for one in retriever.search(text(1)))


@pytest.mark.parametrize("fusion", [None, Fusion("rrf"), Fusion("weighted"), Fusion("adaptive")])
def test_passages_without_vectors_are_ranked_among_the_others(place: Path, fusion: Fusion | None) -> None:
    """Every second one of 30 passages that match a query alike has vectors."""
    others = [" ".join(f"word{number}x{place}" for place in range(5 + number // 2)) for number in range(30)]
    same = [Document(f"s{number:02}", f"wren nest {words}") for number, words in enumerate(others)]
    retriever = Retriever.create(place / "index", HashEncoder("dense"), passage_tokens=40)  # type: ignore[arg-type]
    retriever.add(same[::2])
    retriever.add(same[1::2], vectors=False)
    assert held(retriever) == (15, 30)
    results = retriever.search("wren nest", k=30, mode=fusion)
    ranks = [result.rank for result in results if "vectors" not in result.scores]
    assert len(ranks) == 15
    assert 10 < np.mean(ranks) < 21, "neither first nor last"


NO_TORCH = """
import sys
from flatcoat import Document, Retriever
retriever = Retriever.create(sys.argv[1])
retriever.add([Document("a", "The wren builds a nest of moss."), Document("b", "Dogs bark.")], vectors=False)
assert retriever.search("wren nest", explain=True, best_lines=True)[0].document_id == "a"
assert not {"torch", "transformers", "faiss"} & set(sys.modules)
retriever.add([Document("c", "Cats purr.")])
assert "torch" in sys.modules
"""

NO_TORCH_WHERE_SOME_WAIT = """
import sys
from flatcoat import Document, Retriever
retriever = Retriever.open(sys.argv[1])
retriever.add([Document("d", "A wren, its nest and its moss.")], vectors=False)
results = retriever.search("wren nest moss", explain=True, best_lines=True)
assert {"a", "d"} <= {result.document_id for result in results}
assert all(result.explanation for result in results if result.document_id in "ad")
assert not {"torch", "transformers"} & set(sys.modules)
"""


def test_no_torch_in_the_first_step_nor_where_passages_wait(tmp_path: Path) -> None:
    for code in (NO_TORCH, NO_TORCH_WHERE_SOME_WAIT):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "index")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def invoke(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout, " ".join(done.stderr.replace("│", " ").split())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (tmp_path / "tree" / "dogs.md").write_text("# Dogs\n\nDogs bark at strangers.\n")
    return tmp_path / "tree"


def test_the_command_leaves_vectors_out_and_adds_them_later(
    tree: Path, tmp_path: Path, make_colbert: MakeFolder
) -> None:
    index = tmp_path / "i"
    report = json.loads(invoke("index", tree, "--index", index, "--no-vectors", "--json")[0])
    assert (report["added"], report["passages"], report["passages_with_vectors"]) == (2, 2, 0)
    shown = invoke("info", "--index", index)[0]
    assert "2 passages, no vectors" in shown
    assert "searched by: BM25 alone, made without vectors" in shown
    assert json.loads(invoke("info", "--index", index, "--json")[0])["contract"]["encoder"] is None
    (tree / "birds.md").write_text("Birds sing; cats listen.")
    assert json.loads(invoke("index", "--index", index, "--json")[0])["passages_with_vectors"] == 0
    out, err = invoke("search", "cats purr", "--index", index)
    assert "cats.md:3" in out and err == ""
    for command in ("compact", "verify"):
        invoke(command, "--index", index)
    with pytest.raises(ConflictError, match="flatcoat index --vectors"):
        invoke("search", "cats", "--index", index, "--mode", "vectors")
    model = make_colbert()
    assert "--vectors adds them" in invoke("index", "--index", index, "--model", model, code=2)[1]
    report = json.loads(invoke("index", "--index", index, "--vectors", "--model", model, "--json")[0])
    assert (report["added"], report["unchanged"], report["encoded"]) == (0, 3, 3)
    assert json.loads(invoke("search", "cats", "--index", index, "--mode", "vectors", "--json")[0])["results"]
    assert "has a model" in invoke("index", "--index", index, "--no-vectors", code=2)[1]
    assert invoke("verify", "--index", index)[0] == f"{index} is whole\n"


def test_no_vectors_and_a_model_is_a_contradiction(tree: Path, tmp_path: Path) -> None:
    for option in (("--model", "any"), ("--precision", "int8")):
        err = invoke("index", tree, "--index", tmp_path / "i", "--no-vectors", *option, code=2)[1]
        assert "no model and no precision" in err
    assert not (tmp_path / "i").exists()


def test_the_command_says_how_far_the_vectors_are(
    tree: Path, tmp_path: Path, make_colbert: MakeFolder
) -> None:
    index = tmp_path / "i"
    invoke("index", tree, "--index", index, "--model", make_colbert())
    assert invoke("search", "cats", "--index", index)[1] == ""
    (tree / "birds.md").write_text("Birds sing; cats listen.")
    out, err = invoke("search", "cats listen", "--index", index)
    assert "birds.md" in out
    assert (
        err
        == "vectors for 2 of 3 passages: the others are ranked by BM25 alone; flatcoat index encodes the rest"
    )
    assert "are not searched" in invoke("search", "cats", "--index", index, "--mode", "vectors")[1]
    assert invoke("search", "cats", "--index", index, "--mode", "bm25")[1] == ""
    held = json.loads(invoke("search", "cats", "--index", index, "--json")[0])["index"]
    assert held == {"passages": 3, "passages_with_vectors": 2, "behind": None, "missing_shards": []}
    assert "vectors for 2 of 3 passages" in invoke("info", "--index", index)[0]
    assert json.loads(invoke("index", "--index", index, "--json")[0])["encoded"] == 1


@pytest.mark.parametrize("kill_in", ["first", "second"])
def test_a_killed_command_goes_on_and_another_process_searches_meanwhile(
    tmp_path: Path, kill_in: str
) -> None:
    """With the model inside flatcoat and batches as they are."""
    index, rows = tmp_path / "i", tmp_path / "rows.jsonl"
    count = 4_000
    rows.write_text(
        "".join(f'{{"_id": "d{n}", "text": "the wren number n{n} nests"}}\n' for n in range(count))
    )
    command = [sys.executable, "-m", "flatcoat", "index", str(rows), "--index", str(index)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        done, total = wait_until(index, lambda done, total: total > 0 and (kill_in == "first" or done > 0))
        assert process.poll() is None
        searched = [sys.executable, "-m", "flatcoat", "search", "wren n77", "--index", str(index), "-l"]
        assert subprocess.run(searched, capture_output=True, text=True).stdout == f"{rows}\n"
        process.kill()
    retriever = Retriever.open(index)
    done, total = held(retriever)
    assert retriever.store.verify() == []
    assert done < count and (done > 0 or kill_in == "first")
    report = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert (report["added"], report["unchanged"]) == (count - total, total)
    assert report["encoded"] == count - done
    assert held(retriever) == (count, count)
    assert retriever.store.verify() == []


def wait_until(index: Path, reached: Callable[[int, int], bool]) -> tuple[int, int]:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        with suppress(FlatcoatError), closing(Retriever.open(index)) as retriever:
            if reached(*held(retriever)):
                return held(retriever)
        time.sleep(0.02)
    raise AssertionError("it never came so far")


def test_threads_search_while_others_add(place: Path) -> None:
    retriever = make(place, "exact")
    retriever.add(documents(4))
    stop = threading.Event()

    def search() -> int:
        searches = 0
        while not stop.is_set():
            for mode in ("hybrid", "bm25", "vectors"):
                assert retriever.search("content001 words", k=20, mode=mode)  # type: ignore[arg-type]
                searches += 1
        return searches

    def add(first: int) -> int:
        added = [
            retriever.add(documents(5, number), vectors=number % 10 == 0)
            for number in range(first, first + 40, 5)
        ]
        return sum(one.documents for one in added)

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search) for _ in range(2)]
        adding = [pool.submit(add, first) for first in (100, 200)]
        try:
            assert [one.result() for one in adding] == [40, 40]
        finally:
            stop.set()
        assert all(one.result() > 3 for one in searching)
    retriever.add([])
    assert held(retriever)[0] == held(retriever)[1]
    assert retriever.store.verify() == []
