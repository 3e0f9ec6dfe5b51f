"""After a power cut the index is whole, has every commit that had returned, and goes on."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from flatcoat.indexing.store.engines import Name as Engine

from ...retrieval.folders import ENGINES, Contents, Sources, differences, one_thread, small_work
from .power_cut import Flush, FlushFolder, Record, Returned, Unname, done


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with small_work(monkeypatch) as folder:
        yield folder


@pytest.fixture(params=[20, pytest.param(500, marks=pytest.mark.slow)], ids=["some", "many"])
def depth(request: pytest.FixtureRequest) -> int:
    """How many states to look at."""
    return request.param


class Commits:
    """The states between which a recorded child moved the index, and which of them had returned when."""

    def __init__(self, record: Record, sources: Sources, scratch: Path) -> None:
        self._contents: dict[int, Contents] = {}
        self._encoded: dict[int, int] = {}
        self._returned: list[int] = []
        returned = -1
        for at, event in enumerate(record.events):
            self._returned.append(returned)
            if isinstance(event, Returned):
                returned = int(event.what)
            if isinstance(event, Flush | FlushFolder | Unname | Returned):
                record.whole(at, scratch)
                if (scratch / "index" / "index.sqlite").exists():
                    generation = sources.generation(scratch / "index")
                    if generation not in self._contents:
                        self._contents[generation] = sources.contents(scratch / "index")
                        self._encoded[generation] = sources.encoded(scratch / "index")
                shutil.rmtree(scratch)
        self._returned.append(returned)

    def __len__(self) -> int:
        return len(self._contents)

    def problems(self, sources: Sources, index: Path, at: int) -> list[str]:
        """What is wrong with what is left of the index after a cut before event ``at``."""
        if not (index / "index.sqlite").exists():
            return ["the index is gone"] if self._returned[at] >= 0 else []
        generation = sources.generation(index)
        if generation not in self._contents:
            return [f"generation {generation} never was"]
        lost = generation < self._returned[at]
        wrong = [f"generation {self._returned[at]} had returned, {generation} is left"] if lost else []
        if (encoded := sources.encoded(index)) != self._encoded[generation]:
            wrong.append(f"{encoded} passages have vectors, not {self._encoded[generation]}")
        return (
            wrong + differences(sources.contents(index), self._contents[generation]) + sources.verify(index)
        )


def work(sources: Sources, index: Path) -> None:
    """Create an index unless there is one, bring it up to date, remove, compact; say what is committed."""
    one_thread()
    if not index.exists():
        sources.create(index)
        done("0")
    retriever = sources.open(index)

    def committed(*_: object) -> None:
        done(str(retriever.store.generation))

    retriever.add_files(*sources.roots, on_progress=committed)
    committed()
    retriever.remove([next(iter(sources.contents(index)))])
    committed()
    retriever.compact()
    committed()
    retriever.close()


def broken_states(
    record: Record, sources: Sources, place: Path, seeds: range, sync_every: int = 4
) -> list[str]:
    """Cut the power at random; what is wrong afterwards, a line each."""
    commits = Commits(record, sources, place / "scratch")
    assert len(commits) > 3
    broken = []
    for seed in seeds:
        random = Random(seed)
        at = random.randrange(len(record.events) + 1)
        state = place / "state"
        record.cut(at, random, state)
        index = state / "index"
        try:
            wrong = commits.problems(sources, index, at)
            if not wrong and seed % sync_every == 0:
                if not (index / "index.sqlite").exists():
                    sources.create(index)
                sources.sync(index)
                sources.require_synced(index)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        broken += [f"seed {seed}, event {at}: {line}" for line in wrong]
        shutil.rmtree(state)
    return broken


def recorded(
    place: Path, engine: Engine, seed: int, *, new: bool = False, before: Callable[[], object] = lambda: None
) -> tuple[Record, Sources]:
    """Do ``before`` and the work on an index that is new, or that holds an earlier state of the files."""
    (place / "disk").mkdir()
    sources = Sources(place, Random(seed), engine)
    index = place / "disk" / "index"
    if not new:
        sources.create(index)
        sources.sync(index)
        sources.change()
    else:
        sources.create(place / "other")  # What it imports and compiles is there for the child.
        sources.sync(place / "other")
    return Record.of(lambda: (before(), work(sources, index)), place / "disk"), sources


@pytest.mark.parametrize("engine", ENGINES)
def test_a_power_cut_anywhere(place: Path, engine: Engine, depth: int) -> None:
    record, sources = recorded(place, engine, 1, new=False)
    assert broken_states(record, sources, place, range(depth)) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_power_cut_while_an_index_is_made(place: Path, engine: Engine, depth: int) -> None:
    record, sources = recorded(place, engine, 2, new=True)
    assert broken_states(record, sources, place, range(depth)) == []


def flushes_but(skipped: Callable[[int], bool]) -> Callable[[], None]:
    """What makes Python's fsync, in a child, pass over such files."""
    flush = os.fsync

    def some(file: int) -> None:
        if not skipped(os.fstat(file).st_mode):
            flush(file)

    def forget() -> None:
        os.fsync = some

    return forget


@pytest.mark.parametrize("skipped", [stat.S_ISDIR, stat.S_ISREG])
def test_a_missing_flush_of_ours_is_found(place: Path, skipped: Callable[[int], bool]) -> None:
    record, sources = recorded(place, "plaid", 1, before=flushes_but(skipped))
    assert broken_states(record, sources, place, range(40), sync_every=1000)


def test_a_missing_flush_of_the_database_is_found(place: Path) -> None:
    record, sources = recorded(place, "exact", 1)
    lying = record.without_flushes(lambda name: name.startswith("index.sqlite"))
    assert broken_states(lying, sources, place, range(40), sync_every=1000)
