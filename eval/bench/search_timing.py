"""Time search engines: built one by one, opened in fresh processes, then searched in turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from .search_peers import Engine
from .search_process import Answer, EngineError, EngineProcess, Task, preload

DEEP = 100
"""Passages per query, at least, in the untimed first pass."""

_TURN = 10  # queries: an engine keeps its caches, and a busy machine slows all alike


@dataclass(kw_only=True)
class EngineTiming:
    """One engine with one choice of settings; ``error`` says why it failed, if it did.

    ``passes`` are its answers, pass by pass: the first for DEEP passages, the timed ones for ``k``.
    """

    engine: str
    settings: str = ""
    build_seconds: float | None = None
    bytes: int | None = None
    cold_seconds: float | None = None
    passes: list[list[Answer]] = field(default_factory=list)
    error: str | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Keep a failure of the engine as ``error``."""
        try:
            yield
        except EngineError as error:
            self.error = str(error)


class _Running(NamedTuple):
    timing: EngineTiming
    process: EngineProcess


def time_engines(
    task: Task,
    engines: Sequence[Engine],
    *,
    passes: int,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[EngineTiming]:
    """Time every engine with each of its settings; where one fails, the others go on."""
    preload(engines)
    with TemporaryDirectory() as place, ExitStack() as stack:
        running: list[_Running] = []
        for number, engine in enumerate(engines):
            on_progress(f"building {engine.name}")
            folder = Path(place, str(number))
            built = _build(task, engine, folder)
            for settings, open_index in engine.settings.items():
                process = stack.enter_context(EngineProcess(engine))
                timing = replace(built, settings=settings, passes=[])
                running.append(_Running(timing, process))
                if not timing.error:
                    with timing.attempt():
                        timing.cold_seconds = process.open(open_index, folder, task=task)
        for number in range(passes + 1):
            on_progress(f"searching, pass {number} of {passes}" if number else "warming up")
            _take_turns(task, running, task.k if number else max(task.k, DEEP))
    return [timing for timing, _ in running]


def _build(task: Task, engine: Engine, folder: Path) -> EngineTiming:
    folder.mkdir()
    timing = EngineTiming(engine=engine.name)
    with timing.attempt(), EngineProcess(engine) as process:
        timing.build_seconds = process.build(folder, task)
        timing.bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return timing


def _take_turns(task: Task, running: Sequence[_Running], k: int) -> None:
    """One pass over all queries, all engines in turns."""
    for timing, _ in running:
        timing.passes.append([])
    for first in range(0, len(task.queries), _TURN):
        for timing, process in running:
            if not timing.error:
                with timing.attempt():
                    timing.passes[-1] += process.answers(task.queries[first : first + _TURN], k)
