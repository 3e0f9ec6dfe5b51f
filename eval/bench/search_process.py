"""A search engine in a process of its own: fresh, silent, timed from inside; a crash becomes an error.

A server process imports the engines' modules once and forks, so that a fresh process costs 50 ms, and starts
as an installed program does after its imports.

Axes: Q tokens of one query, D width.
"""

import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from flatcoat.errors import FlatcoatError, first_line

from .collections import read_vectors
from .search_peers import Engine, Open, Search

P = ParamSpec("P")
Result = TypeVar("Result")

_opened: Search
"""The index that this process searches."""


class EngineError(FlatcoatError):
    """An engine raised, or its process died."""


@dataclass(frozen=True)
class Task:
    """Find the best ``k`` of the first ``passages`` in the folder ``vectors``.

    ``allowed`` are the positions of the passages to search (None: all); ``queries`` are [Q, D], float32.
    """

    vectors: Path
    passages: int
    queries: Sequence[np.ndarray]
    k: int
    allowed: np.ndarray | None = None


class Answer(NamedTuple):
    """Positions of passages, best first, and the seconds of the search."""

    seconds: float
    passages: list[int]


class EngineProcess:
    """One engine in a process: every method raises EngineError where the engine fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        context = multiprocessing.get_context("forkserver")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_silence)

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def build(self, folder: Path, task: Task) -> float:
        """Build an index of all passages of the task in ``folder``; the seconds of building.

        One search after it compiles kernels for the processes to come.
        """
        return self._run(_build, self._engine, folder, task)

    def open(self, open_index: Open, folder: Path, *, task: Task) -> float:
        """Open an index for ``answers``; the seconds until the first answer."""
        return self._run(_open, self._engine, open_index, folder, task)

    def answers(self, queries: Sequence[np.ndarray], k: int) -> list[Answer]:
        """Search the opened index, one query at a time."""
        return self._run(_answers, queries, k)

    def _run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return self._pool.submit(_guarded, function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise EngineError("its process died") from None


def preload(engines: Sequence[Engine]) -> None:
    """Let the server of processes import these engines; without effect once it runs."""
    modules = dict.fromkeys(module for engine in engines for module in engine.modules)
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, *modules])


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    logging.disable()
    warnings.simplefilter("ignore")


def _guarded(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Rust's panics are not an ``Exception`` and cannot be pickled: raise EngineError for them too."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        raise EngineError(f"{type(error).__name__}: {first_line(error)}") from None


def _build(engine: Engine, folder: Path, task: Task) -> float:
    _import_modules(engine)
    vectors = read_vectors(task.vectors, task.passages)
    began = time.perf_counter()
    engine.build(vectors, folder)
    seconds = time.perf_counter() - began
    next(iter(engine.settings.values()))(folder, task.allowed)(task.queries[0], task.k)
    return seconds


def _open(engine: Engine, open_index: Open, folder: Path, task: Task) -> float:
    global _opened
    _import_modules(engine)
    began = time.perf_counter()
    _opened = open_index(folder, task.allowed)
    _opened(task.queries[0], task.k)
    return time.perf_counter() - began


def _import_modules(engine: Engine) -> None:
    """Import the engine's modules: cheap where the server of processes has them."""
    for module in engine.modules:
        import_module(module)


def _answers(queries: Sequence[np.ndarray], k: int) -> list[Answer]:
    answers: list[Answer] = []
    for query_QD in queries:
        began = time.perf_counter()
        passages = _opened(query_QD, k)
        answers.append(Answer(time.perf_counter() - began, passages))
    return answers
