"""What finding the results of a data set takes: seconds by stage, bytes on disk and in memory."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

Stage = Literal["encode", "build", "search"]


class Costs(NamedTuple):
    """Seconds and bytes. ``encode`` is of documents and queries, ``search`` starts from their vectors.

    ``peak_bytes`` is the process's resident memory at its highest, the models included; ``index_bytes`` what
    is left on disk, or in memory for BM25, and ``vectors`` how many stand there or were scored.
    """

    encode: float
    build: float
    search: float
    queries: int
    index_bytes: int
    peak_bytes: int
    documents: int
    vectors: int


class Searched(NamedTuple):
    """``run`` is query id -> document id -> score, best first; a query without results has an empty one."""

    run: dict[str, dict[str, float]]
    costs: Costs


class Meter:
    """Adds up the costs of one search while it runs."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {"encode": 0.0, "build": 0.0, "search": 0.0}
        self.vectors = 0
        self.index_bytes = 0
        _forget_peak()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Count the time within to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def save(self, file: Path) -> None:
        """Leave the seconds for a run that goes on from here."""
        unfinished = file.with_name(f"{file.name}.new")
        unfinished.write_text(json.dumps(self._seconds), encoding="utf-8")
        unfinished.replace(file)

    def resume(self, file: Path) -> None:
        """Add what an earlier run has saved, if one has."""
        if file.exists():
            for name, seconds in json.loads(file.read_text(encoding="utf-8")).items():
                self._seconds[name] += seconds

    def costs(self, queries: int, documents: int) -> Costs:
        """All so far."""
        return Costs(
            **self._seconds,
            queries=queries,
            index_bytes=self.index_bytes,
            peak_bytes=peak_bytes(),
            documents=documents,
            vectors=self.vectors,
        )


def joined(first: Costs, second: Costs) -> Costs:
    """The costs of one search after another over the same queries and documents."""
    return Costs(
        first.encode + second.encode,
        first.build + second.build,
        first.search + second.search,
        first.queries,
        first.index_bytes + second.index_bytes,
        max(first.peak_bytes, second.peak_bytes),
        first.documents,
        first.vectors + second.vectors,
    )


def _forget_peak() -> None:
    """Let the peak begin anew (proc(5)); where the system forbids it, it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The process's resident memory at its highest, mapped files counted."""
    if not sys.platform.startswith("linux"):
        # macOS counts in bytes: getrusage(2)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
