"""What searching a data set costs: seconds per stage, bytes on disk and in memory."""

import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from flatcoat.atomic_files import atomic_write_text

Stage = Literal["encode", "build", "search"]

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the number of documents done and the number of all documents."""

_log = logging.getLogger(__name__)


class Costs(NamedTuple):
    """Seconds and bytes. ``encode`` covers documents and queries; ``search`` starts from their vectors.

    What an earlier system of the same run encoded is read, which takes less time than encoding.
    ``peak_bytes`` is the peak of the process's resident memory, models included. ``index_bytes`` is the size
    of the index on disk (BM25: in memory), ``vectors`` the number of vectors indexed or scored.

    >>> zeros = dict.fromkeys(["queries", "index_bytes", "peak_bytes", "documents", "vectors"], 0)
    >>> Costs(encode=2, build=1, search=0.5, **zeros).seconds
    3.5
    """

    encode: float
    build: float
    search: float
    queries: int
    index_bytes: int
    peak_bytes: int
    documents: int
    vectors: int

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return self.encode + self.build + self.search


class Meter:
    """Adds up the costs of one search while it runs.

    >>> meter = Meter()
    >>> with meter.stage("search"):
    ...     pass
    >>> meter.costs(queries=1, documents=2).search < 1
    True
    """

    def __init__(self) -> None:
        self._seconds: dict[Stage, float] = {"encode": 0.0, "build": 0.0, "search": 0.0}
        self.vectors = 0
        self.index_bytes = 0
        self.cut_documents = 0
        self.cut_queries = 0
        _reset_peak()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the time spent in the block to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def add(self, name: Stage, seconds: float) -> None:
        """Add seconds to a stage."""
        self._seconds[name] += seconds

    def save(self, file: Path) -> None:
        """Write the seconds and the documents cut to a file, for the run that resumes this one."""
        atomic_write_text(file, json.dumps([self._seconds, self.cut_documents]))

    def resume(self, file: Path) -> None:
        """Add what an earlier run saved; a missing file adds nothing."""
        if file.exists():
            seconds, cut = json.loads(file.read_text(encoding="utf-8"))
            for name in self._seconds:
                self._seconds[name] += seconds[name]
            self.cut_documents += cut

    def costs(self, queries: int, documents: int) -> Costs:
        """The costs so far."""
        return Costs(
            **self._seconds,
            queries=queries,
            index_bytes=self.index_bytes,
            peak_bytes=peak_bytes(),
            documents=documents,
            vectors=self.vectors,
        )


def add_costs(first: Costs, second: Costs) -> Costs:
    """The costs of two searches, one after the other, with the same queries and documents."""
    return Costs(
        encode=first.encode + second.encode,
        build=first.build + second.build,
        search=first.search + second.search,
        queries=first.queries,
        index_bytes=first.index_bytes + second.index_bytes,
        peak_bytes=max(first.peak_bytes, second.peak_bytes),
        documents=first.documents,
        vectors=first.vectors + second.vectors,
    )


def peak_bytes() -> int:
    """The peak of the process's resident memory, mapped files included."""
    if not sys.platform.startswith("linux"):
        # macOS counts in bytes: getrusage(2)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _reset_peak() -> None:
    """Start a new peak (proc(5)); where the system forbids it, the peak stays the whole process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        _log.debug("the peak of memory is the whole process's, not this search's: %s", error)
