"""Engines against the clock: built one by one, opened in fresh processes, then asked in turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .search_peers import Engine
from .search_process import Answer, EngineError, EngineProcess, Task, preload

DEEP = 100
"""Passages that the untimed first pass asks for, at least."""

_TURN = 10  # queries: an engine keeps its caches, and a busy machine slows all alike


@dataclass
class Measured:
    """One engine with one choice of settings, as far as it came: where it failed, ``error`` says how.

    ``passes`` are its answers, pass by pass: the first for DEEP passages, those that count for ``k``.
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
        """Keep an engine's failure as ``error``."""
        try:
            yield
        except EngineError as error:
            self.error = str(error)


def measure(
    task: Task,
    engines: Sequence[Engine],
    passes: int,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[Measured]:
    """Measure every engine with each of its settings; where one fails, the others go on."""
    preload(engines)
    with TemporaryDirectory() as place, ExitStack() as stack:
        running: list[tuple[Measured, EngineProcess]] = []
        for number, engine in enumerate(engines):
            on_progress(f"building {engine.name}")
            folder = Path(place, str(number))
            built = _build(task, engine, folder)
            for settings, open_index in engine.settings.items():
                process = stack.enter_context(EngineProcess(engine))
                measured = replace(built, settings=settings, passes=[])
                running.append((measured, process))
                if not measured.error:
                    with measured.attempt():
                        measured.cold_seconds = process.open(open_index, folder, task)
        for number in range(passes + 1):
            on_progress(f"searching, pass {number} of {passes}" if number else "warming up")
            _take_turns(task, running, task.k if number else max(task.k, DEEP))
    return [measured for measured, _ in running]


def _build(task: Task, engine: Engine, folder: Path) -> Measured:
    folder.mkdir()
    measured = Measured(engine.name)
    with measured.attempt(), EngineProcess(engine) as process:
        measured.build_seconds = process.build(folder, task)
        measured.bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return measured


def _take_turns(task: Task, running: Sequence[tuple[Measured, EngineProcess]], k: int) -> None:
    """One pass of all over all queries."""
    for measured, _ in running:
        measured.passes.append([])
    for first in range(0, len(task.queries), _TURN):
        for measured, process in running:
            if not measured.error:
                with measured.attempt():
                    measured.passes[-1] += process.answers(task.queries[first : first + _TURN], k)
