"""BM25 engines side by side on growing collections of real text: time of a query, of building, size, memory.

Each engine builds its index in a process of its own, and searches it in another; processor time is measured,
which a busy machine does not change much.
"""

import json
import math
import multiprocessing
import pickle
import re
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flatcoat.errors import DataError, UsageError

Result = TypeVar("Result")
Search = Callable[[str, int], Sequence[Any]]
"""The best passages for a query, at most so many."""


class Engine(NamedTuple):
    """Builds an index of passages in a folder, and opens it; ``package`` must be installed."""

    build: Callable[[Iterator[str], Path], object]
    open: Callable[[Path], Search]
    package: str = "numpy"


@dataclass(frozen=True)
class Bm25Row:
    """One engine on one collection: processor seconds and ms, bytes on disk, MB of memory (RSS) at most."""

    engine: str
    passages: int
    build_s: float
    bytes: int
    ms: float
    ms_p95: float
    build_mb: float
    search_mb: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def bench_bm25(
    texts: Sequence[Path],
    queries: Sequence[str],
    *,
    sizes: Sequence[int],
    engines: Sequence[str],
    k: int,
    words: int,
    on_progress: Callable[[str], None],
) -> list[Bm25Row]:
    """Time ``engines`` on the first passages of ``texts``, as ``passages_of`` makes them, for each size."""
    rows = []
    with TemporaryDirectory() as place:
        for size in sizes:
            lines = Path(place) / f"{size}.txt"
            on_progress(f"{size:,} passages")
            with lines.open("w") as file:
                file.writelines(f"{passage}\n" for passage in islice(passages_of(texts, words), size))
            for name in engines:
                on_progress(f"{name} on {size:,} passages")
                rows.append(_measured(name, size, Path(place) / f"{name}-{size}", lines, queries, k))
    return rows


def passages_of(texts: Sequence[Path], words: int) -> Iterator[str]:
    """Endless passages of so many words: those of the texts, then mixtures of two of one text.

    A text is a ``.jsonl`` file of objects, whose strings are taken (ids apart), or plain text.
    """
    found = [list(_passages(path, words)) for path in texts]
    if not any(len(passages) > 1 for passages in found):
        raise DataError(f"{', '.join(map(str, texts))} hold no two passages of {words} words")
    yield from chain.from_iterable(found)
    for step in count(1):
        for passages in found:
            for number, passage in enumerate(passages):
                other = passages[(number + 7919 * step) % len(passages)]
                one, two = passage.split(), other.split()
                yield " ".join(one[: words // 2] + two[words // 2 :])


def queries_of(path: Path, most: int) -> list[str]:
    """The first queries of a BEIR ``queries.jsonl``."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in islice(lines, most)]


def _passages(path: Path, words: int) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        if path.suffix == ".jsonl":
            parts = [" ".join(_strings(json.loads(line))) for line in lines]
        else:
            parts = [lines.read()]
    for part in parts:
        all_words = part.split()
        for first in range(0, len(all_words), words):
            if len(run := all_words[first : first + words]) >= words // 2:
                yield " ".join(run)


def _strings(values: dict[str, Any]) -> Iterator[str]:
    return (value for name, value in values.items() if isinstance(value, str) and name not in ("id", "_id"))


def _measured(name: str, size: int, folder: Path, lines: Path, queries: Sequence[str], k: int) -> Bm25Row:
    folder.mkdir()
    build_s, build_mb = _in_process(_build, name, folder, lines)
    taken, search_mb = _in_process(_search, name, folder, queries, k)
    bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    ms, ms_p95 = np.percentile(1000 * np.array(taken), [50, 95]).tolist()
    return Bm25Row(name, size, build_s, bytes, ms, ms_p95, build_mb, search_mb)


def _in_process(function: Callable[..., Result], *arguments: object) -> Result:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _build(name: str, folder: Path, lines: Path) -> tuple[float, float]:
    began = time.process_time()
    with lines.open() as passages:
        ENGINES[name].build((line[:-1] for line in passages), folder)
    return time.process_time() - began, _most_mb()


def _search(name: str, folder: Path, queries: Sequence[str], k: int) -> tuple[list[float], float]:
    search = ENGINES[name].open(folder)
    for query in queries:
        search(query, k)  # Reads what is on disk, compiles and loads kernels.
    taken = []
    for query in queries:
        began = time.process_time()
        search(query, k)
        taken.append(time.process_time() - began)
    return taken, _most_mb()


def _most_mb() -> float:
    """Most memory of this process so far; getrusage counts the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) / 1024 if found else math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _build_postings(passages: Iterator[str], folder: Path) -> None:
    from flatcoat.indexing.postings import write_postings
    from flatcoat.indexing.segments import MOST_PASSAGES
    from flatcoat.indexing.store.bm25 import postings_of

    number = 1
    while len(postings := postings_of(islice(passages, MOST_PASSAGES))):
        write_postings(folder, number, postings)
        number += 1


def _open_postings(folder: Path) -> Search:
    from flatcoat.indexing import bm25
    from flatcoat.indexing.postings import open_postings
    from flatcoat.indexing.terms import query_terms

    segments, first = [], 0
    for file in sorted(folder.iterdir()):
        postings = open_postings(file, file.stat().st_size)
        segments.append(bm25.LivePostings(postings, first + np.arange(len(postings))))
        first += len(postings)
    index = bm25.Bm25Index(segments)
    bm25.KERNELS_FROM = 0  # As a server comes to score.
    return lambda query, k: index.search(query_terms(query), k).ids


def _build_bm25s(passages: Iterator[str], folder: Path) -> None:
    from flatcoat.indexing.bm25_baseline import Bm25

    index = Bm25((str(number), passage) for number, passage in enumerate(passages))
    (folder / "bm25s.pickle").write_bytes(pickle.dumps(index))  # It has no format of its own.


def _open_bm25s(folder: Path) -> Search:
    index = pickle.loads((folder / "bm25s.pickle").read_bytes())
    return lambda query, k: next(index.search([query], k)).ids


def _build_fts5(passages: Iterator[str], folder: Path) -> None:
    with closing(sqlite3.connect(folder / "fts5.sqlite")) as connection, connection:
        connection.execute(
            f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize=\"{_TOKENIZER}\")"
        )
        connection.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(passages))


def _open_fts5(folder: Path) -> Search:
    from flatcoat.indexing.terms import query_words

    connection = sqlite3.connect(folder / "fts5.sqlite")
    best = "SELECT rowid, bm25(texts) AS score FROM texts WHERE texts MATCH ? ORDER BY score, rowid LIMIT ?"

    def search(query: str, k: int) -> Sequence[Any]:
        match = " OR ".join(f'"{term}"' for term in query_words(query))
        return connection.execute(best, [match, k]).fetchall()

    return search


def _build_tantivy(passages: Iterator[str], folder: Path) -> None:
    tantivy = import_module("tantivy")

    index = _tantivy(folder)
    writer = index.writer(heap_size=256 << 20, num_threads=1)
    for number, passage in enumerate(passages):
        writer.add_document(tantivy.Document(number=number, text=passage))
    writer.commit()
    writer.wait_merging_threads()


def _open_tantivy(folder: Path) -> Search:
    from flatcoat.indexing.terms import query_words

    index = _tantivy(folder)
    searcher = index.searcher()

    def search(query: str, k: int) -> Sequence[Any]:
        parsed = index.parse_query(" ".join(query_words(query)), ["text"])
        return searcher.search(parsed, k, count=False).hits

    return search


def _tantivy(folder: Path) -> Any:
    tantivy = import_module("tantivy")

    schema = tantivy.SchemaBuilder()
    schema.add_unsigned_field("number", stored=True)
    schema.add_text_field("text", tokenizer_name="en_stem")
    return tantivy.Index(schema.build(), path=str(folder))


_TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
ENGINES = {
    "flatcoat": Engine(_build_postings, _open_postings),
    "bm25s": Engine(_build_bm25s, _open_bm25s),
    "fts5": Engine(_build_fts5, _open_fts5),
    "tantivy": Engine(_build_tantivy, _open_tantivy, "tantivy"),
}


def engines_of(names: Sequence[str]) -> list[str]:
    """The named engines, or all that are installed; UsageError for an unknown or missing one."""
    installed = [name for name, engine in ENGINES.items() if find_spec(engine.package)]
    if unknown := [name for name in names if name not in installed]:
        raise UsageError(f"engine {unknown[0]!r} is not known or not installed: {', '.join(installed)} are")
    return list(names) or installed
