"""After a power cut the index is whole, has every commit that had returned, and goes on."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing import calibration, compaction
from flatcoat.retrieval import adding

from ..retrieval.folders import Contents, Sources, differences, let_files_settle
from .power_cut import Record, Returned, Flush, FlushFolder, Unname, done

ENGINES = {"exact": "dense", "plaid": "colbert", "faiss": "dense"}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory where possible; batches and merges are small."""
    monkeypatch.setattr(adding, "BATCH", 4)
    monkeypatch.setattr(calibration, "THOROUGH", 8)
    monkeypatch.setattr(compaction, "RETRAIN_AT", 2)
    let_files_settle(monkeypatch)
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


class Commits:
    """The states between which a recorded child moved the index, by generation, and which had returned when."""

    def __init__(self, record: Record, sources: Sources, scratch: Path) -> None:
        self._contents: dict[int, Contents] = {}
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
        return wrong + differences(sources.contents(index), self._contents[generation]) + sources.verify(index)


def work(sources: Sources, index: Path) -> None:
    """Create an index, unless there is one, bring it up to date, remove and compact; say what is committed."""
    import faiss

    faiss.omp_set_num_threads(1)  # A forked child has none of OpenMP's threads.
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
    committed_at_rest = sources.open(index)
    committed_at_rest.close()


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
        except FlatcoatError as error:
            wrong = [str(error)]
        broken += [f"seed {seed}, event {at}: {line}" for line in wrong]
        shutil.rmtree(state)
    return broken


def recorded(place: Path, engine: str, seed: int, *, new: bool) -> tuple[Record, Sources]:
    """The work on an index that is new, or that holds an earlier state of the files."""
    (place / "disk").mkdir()
    sources = Sources(place, Random(seed), ENGINES[engine], engine)  # type: ignore[arg-type]
    index = place / "disk" / "index"
    shutil.copytree
    if not new:
        sources.create(index)
        sources.sync(index)
        sources.change()
    else:
        sources.create(place / "other")  # What it imports and compiles is there for the child.
        sources.sync(place / "other")
    return Record.of(lambda: work(sources, index), place / "disk"), sources


@pytest.mark.parametrize("engine", ENGINES)
def test_a_power_cut_anywhere(place: Path, engine: str) -> None:
    record, sources = recorded(place, engine, 1, new=False)
    assert broken_states(record, sources, place, range(40)) == []
