"""Engines against the clock: built one by one, opened in fresh processes, then asked in turns.

An engine runs in a process of its own: fresh, silent, timed from inside, and its crash is only a message.

A server process imports the engines' modules once and forks, so that a fresh process costs 50 ms. What a
process does first is therefore what an installed program does first, its imports aside.

Axes: U tokens of one query, D width.
"""

import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from flatcoat.errors import FlatcoatError

from .collections import read_vectors
from .search_peers import Engine, Open, Search

P = ParamSpec("P")
Result = TypeVar("Result")


class EngineError(FlatcoatError):
    """An engine raised, or its process died."""


@dataclass(frozen=True)
class Task:
    """Find ``k`` of the first ``passages`` in ``vectors``, of the ``allowed`` alone (positions; None: all).

    ``queries`` are [U, D] each, float32.
    """

    vectors: Path
    passages: int
    queries: Sequence[np.ndarray]
    k: int
    allowed: np.ndarray | None = None


class Answer(NamedTuple):
    """Passages by position, best first, and the seconds that finding them took."""

    seconds: float
    passages: list[int]


class EngineProcess:
    """Runs one engine's work, one call after the other; every method raises EngineError where that fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        context = multiprocessing.get_context("forkserver")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_silence)

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def build(self, folder: Path, task: Task) -> float:
        """Build an index of the task's passages, allowed or not, in ``folder``; the seconds it took.

        It is searched once, so that every process after this one finds kernels compiled.
        """
        return self._run(_build, self._engine, folder, task)

    def open(self, open_index: Open, folder: Path, task: Task) -> float:
        """Open an index for ``answers``; the seconds until the first query was answered."""
        return self._run(_open, self._engine, open_index, folder, task)

    def answers(self, queries: Sequence[np.ndarray], k: int) -> list[Answer]:
        """Ask the opened index one query after the other."""
        return self._run(_answers, queries, k)

    def _run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return self._pool.submit(_guarded, function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise EngineError("its process died") from None


def preload(engines: Sequence[Engine]) -> None:
    """Let the server of all processes import these engines; without effect once it runs."""
    modules = dict.fromkeys(module for engine in engines for module in engine.modules)
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, *modules])


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    logging.disable()
    warnings.simplefilter("ignore")


def _guarded(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Rust's panics are no ``Exception``, and cannot be pickled."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        lines = str(error).strip().splitlines() or [""]
        raise EngineError(f"{type(error).__name__}: {lines[0]}") from None


def _build(engine: Engine, folder: Path, task: Task) -> float:
    _import_all(engine)
    vectors = read_vectors(task.vectors, task.passages)
    began = time.perf_counter()
    engine.build(vectors, folder)
    seconds = time.perf_counter() - began
    next(iter(engine.settings.values()))(folder, task.allowed)(task.queries[0], task.k)
    return seconds


_opened: Search


def _open(engine: Engine, open_index: Open, folder: Path, task: Task) -> float:
    global _opened
    _import_all(engine)
    began = time.perf_counter()
    _opened = open_index(folder, task.allowed)
    _opened(task.queries[0], task.k)
    return time.perf_counter() - began


def _import_all(engine: Engine) -> None:
    """Cheap where the server did."""
    for module in engine.modules:
        import_module(module)


def _answers(queries: Sequence[np.ndarray], k: int) -> list[Answer]:
    answers: list[Answer] = []
    for query_UD in queries:
        began = time.perf_counter()
        passages = _opened(query_UD, k)
        answers.append(Answer(time.perf_counter() - began, passages))
    return answers


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
            built = _built(task, engine, folder)
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


def _built(task: Task, engine: Engine, folder: Path) -> Measured:
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
