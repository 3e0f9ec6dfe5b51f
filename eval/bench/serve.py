"""A server under load, beside one that calls sentence-transformers for each request.

Both are real processes, asked over HTTP; each client sends its next request when the last is answered.
The model is dense: the backbone of the model inside, its token vectors averaged.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flatcoat.errors import DataError

_WAIT_SECONDS = 120


class Work(NamedTuple):
    """One kind of request: its name, and its path and bodies at each of the two servers."""

    name: str
    paths: dict[str, str]
    bodies: dict[str, list[Any]]


@dataclass(frozen=True)
class Load:
    """What one server did for so many clients at once; latencies in milliseconds, all but ``rate`` lower.

    ``processor`` is that of the server's process, in milliseconds per request: other work on the machine
    does not change it.
    """

    system: str
    work: str
    clients: int
    rate: float
    p50: float
    p95: float
    p99: float
    processor: float


def bench_serving(
    folder: Path,
    *,
    clients: Sequence[int] = (1, 8, 64),
    requests: int = 512,
    passages: int = 1000,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[Load]:
    """Rates and latencies of both servers; models and index are written into ``folder``."""
    on_progress("preparing the model and the index")
    model, texts = _dense_model(folder / "model"), _texts(passages)
    _index(folder / "index", model, texts)
    (folder / "texts.json").write_text(json.dumps(texts))
    works = _works(texts, requests)
    ours = ["-m", "flatcoat", "serve", "--index", f"docs={folder / 'index'}", "--port", "0", "--preload"]
    theirs = ["-m", "flatcoat.eval.bench.serve_peer", str(model), str(folder / "texts.json")]
    loads = []
    for system, command in (("flatcoat", ours), ("sentence-transformers", theirs)):
        with _running([sys.executable, *command], folder / f"{system}.log") as (process, port):
            for work in works:
                _ask(port, work.paths[system], work.bodies[system][:64], 8)  # Imports, kernels, threads.
                for count in clients:
                    on_progress(f"{system}: {work.name}, {count} clients")
                    loads.append(_measured(system, work, count, port=port, process=process))
    return loads


def _dense_model(folder: Path) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    from flatcoat.retrieval.encoders.int8_files import in_full
    from flatcoat.retrieval.encoders.load import SHIPPED_MODEL

    with in_full(SHIPPED_MODEL) as path:
        backbone = Transformer(str(path), max_seq_length=256)
    pooling = Pooling(backbone.auto_model.config.hidden_size, pooling_mode="mean")
    SentenceTransformer(modules=[backbone, pooling], device="cpu").save(str(folder), create_model_card=False)
    return folder


def _texts(count: int) -> list[str]:
    """Texts of 5 to 60 words, drawn by Zipf's law from the vocabulary of the model inside."""
    from tokenizers import Tokenizer

    from flatcoat.retrieval.encoders.load import SHIPPED_MODEL

    vocabulary = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json")).get_vocab()
    words = sorted(word for word in vocabulary if re.fullmatch("[a-z]{3,}", word))
    random = np.random.default_rng(1)
    lengths = random.integers(5, 60, count)
    return [" ".join(words[at % len(words)] for at in random.zipf(1.3, length)) for length in lengths]


def _index(folder: Path, model: Path, texts: Sequence[str]) -> None:
    from flatcoat import Document, Retriever

    retriever = Retriever.create(folder, model)
    retriever.add([Document(str(number), text) for number, text in enumerate(texts)])
    retriever.close()


def _works(texts: Sequence[str], requests: int) -> list[Work]:
    embed: list[Any] = [{"input": texts[at % len(texts)]} for at in range(requests)]
    queries = [" ".join(texts[at % len(texts)].split()[:5]) for at in range(requests)]
    paths = {"flatcoat": "/v1/embeddings", "sentence-transformers": "/v1/embeddings"}
    both = {"flatcoat": embed, "sentence-transformers": embed}
    search_paths = {"flatcoat": "/indexes/docs/search", "sentence-transformers": "/search"}
    asked: list[Any] = [
        {"query": query, "k": 10, "mode": "vectors", "best_lines": False} for query in queries
    ]
    plain: list[Any] = [{"query": query} for query in queries]
    return [
        Work("embedding", paths, both),
        Work("search", search_paths, {"flatcoat": asked, "sentence-transformers": plain}),
    ]


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream)
    try:
        yield process, _port(process, log)
    finally:
        process.terminate()
        process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    started = time.perf_counter()
    while time.perf_counter() - started < _WAIT_SECONDS and process.poll() is None:
        if found := re.search(r"(?:at|running on) http://127.0.0.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise DataError(f"the server does not start: {log.read_text()[-300:]}")


def _measured(
    system: str, work: Work, clients: int, *, port: int, process: "subprocess.Popen[bytes]"
) -> Load:
    bodies, before = work.bodies[system], _processor_seconds(process.pid)
    started = time.perf_counter()
    latencies = _ask(port, work.paths[system], bodies, clients)
    seconds = time.perf_counter() - started
    processor = _processor_seconds(process.pid) - before
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, [50, 95, 99]) * 1000)
    count = len(bodies)
    return Load(system, work.name, clients, count / seconds, p50, p95, p99, processor / count * 1000)


def _processor_seconds(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _ask(port: int, path: str, bodies: Sequence[Any], clients: int) -> list[float]:
    """Seconds from each request to its answer; DataError for an answer that is none."""
    return asyncio.run(_ask_all(port, path, bodies, clients))


async def _ask_all(port: int, path: str, bodies: Sequence[Any], clients: int) -> list[float]:
    waiting = iter(bodies)
    latencies: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            started = time.perf_counter()
            writer.write(_request(path, body))
            await _answer(reader)
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


def _request(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(content)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    if not head.startswith(b"HTTP/1.1 200") or not length:
        raise DataError(f"the server answers {head[:60]!r}")
    return await reader.readexactly(int(length[1]))
