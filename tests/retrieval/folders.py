"""Small files that change at random, an encoder that costs nothing, and what an index of them holds."""

import json
import os
import re
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from flatcoat import Retriever
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.plaid import calibration
from flatcoat.indexing.store import compaction
from flatcoat.indexing.store.engines import Name as Engine
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval import ingest
from flatcoat.retrieval.encoders.contract import Contract
from flatcoat.retrieval.results import Mode

WIDTH = 8
ENGINES: dict[Engine, str] = {"exact": "dense", "plaid": "colbert", "faiss": "dense"}
"""What searches an index, and the vectors for it."""

Contents = dict[str, list[Passage]]
"""The passages of each document, in their order."""

_clock = count(1_600_000_000)
_NAMES = [
    f"{folder}{stem}.{suffix}"
    for folder in ("", "sub/", "sub/deep/")
    for stem in "abcde"
    for suffix in ("txt", "py")
]
_IGNORED = {
    "*.py\n": lambda name: name.endswith(".py"),
    "sub/deep/\n": lambda name: name.startswith("sub/deep/"),
}
_WORD = re.compile(r"content\d{3}")


class HashEncoder:
    """Vectors that the words of a text decide: of each word ("colbert") or summed ("dense")."""

    def __init__(self, kind: str) -> None:
        self.name = "hashes"
        self.contract = Contract(kind, "hashes", "0" * 64, WIDTH, "", "", 32, 64)  # type: ignore[arg-type]
        self._vectors: dict[str, np.ndarray] = {}

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        matrices = [np.stack([self._vector(word) for word in text.split() or [""]]) for text in texts]
        if self.contract.kind == "colbert":
            return TokenVectors.from_list(matrices, WIDTH)
        sums = np.stack([matrix.sum(axis=0) for matrix in matrices])
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def truncate_documents(self, length: int | None) -> None:
        pass

    def _vector(self, word: str) -> np.ndarray:
        if word not in self._vectors:
            vector = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(WIDTH)
            self._vectors[word] = (vector / np.linalg.norm(vector)).astype(np.float32)
        return self._vectors[word]


def text(number: int) -> str:
    """One to three passages, its own word in each of them; as long as text ``number + 3``."""
    return "\n\n".join(f"content{number:03d} " + "filled up with words " * 3 for _ in range(number % 3 + 1))


class Folder:
    """A root whose files are renamed, swapped, copied, replaced, ignored and so on, as ``random`` will."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self._random = random
        self._texts: dict[str, int | None] = {}
        self._renamed: list[tuple[str, str]] = []
        self._alike: tuple[str, ...] = ()
        self._ignored = ""
        self.write("always.txt", 999)

    def numbers(self) -> list[int]:
        """The texts that an index of it holds, a file each."""
        hides = _IGNORED.get(self._ignored, lambda name: False)
        return [number for name, number in self._texts.items() if number is not None and not hides(name)]

    def change(self, steps: int) -> None:
        """So many changes of any kind."""
        # A cut sync and renames there and back are what loses files: they come often.
        kinds = (
            [self._new, self._rename] * 6 + [self._rename_back] * 8 + [self._copy] * 3 + [self._delete] * 2
        )
        kinds += [self._change, self._swap, self._move_over, self._touch, self._spoil, self._ignore]
        kinds += [self._replace_alike, self._swap_alike, self._swap_alike, self._move_folder]
        for _ in range(steps):
            self._random.choice(kinds)()

    def write(self, name: str, number: int | None) -> None:
        """A file of text ``number``, or (None) one that is no text."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\0" if number is None else text(number))
        self._texts[name] = number
        os.utime(path, (now := next(_clock), now))

    def _any(self) -> str | None:
        names = [name for name in self._texts if name != "always.txt"]
        return self._random.choice(names) if names else None

    def _free(self) -> str:
        return self._random.choice([name for name in _NAMES if name not in self._texts])

    def _new(self) -> None:
        if len(self._texts) < len(_NAMES):
            self.write(self._free(), self._random.randrange(40))

    def _change(self) -> None:
        if name := self._any():
            self.write(name, self._random.randrange(40))

    def _spoil(self) -> None:
        if name := self._any():
            self.write(name, None)

    def _touch(self) -> None:
        if name := self._any():
            os.utime(self.path / name, (now := next(_clock), now))

    def delete(self, name: str) -> None:
        """Take out a file."""
        (self.path / name).unlink()
        del self._texts[name]

    def copy(self, name: str, new: str, copy: Callable[[Path, Path], object] = shutil.copy) -> None:
        """One more file of the same text."""
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        copy(self.path / name, self.path / new)
        self._texts[new] = self._texts[name]

    def _delete(self) -> None:
        if name := self._any():
            self.delete(name)

    def _rename(self) -> None:
        if (name := self._any()) and len(self._texts) < len(_NAMES):
            self.move(name, self._free())

    def _rename_back(self) -> None:
        if self._renamed:
            old, new = self._renamed.pop()
            if new in self._texts and old not in self._texts:
                self.move(new, old)

    def _move_over(self) -> None:
        old, new = self._any(), self._any()
        if old and new and old != new:
            self.move(old, new)

    def move(self, old: str, new: str) -> None:
        """Rename a file, over another where there is one."""
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        (self.path / old).rename(self.path / new)
        self._texts[new] = self._texts.pop(old)
        self._renamed.append((old, new))

    def _swap(self) -> None:
        old, new = self._any(), self._any()
        if old and new and old != new:
            self._exchange(old, new)

    def _exchange(self, old: str, new: str) -> None:
        (self.path / old).rename(self.path / "t")
        (self.path / new).rename(self.path / old)
        (self.path / "t").rename(self.path / new)
        self._texts[old], self._texts[new] = self._texts[new], self._texts[old]

    def _copy(self) -> None:
        moved = [new for _, new in self._renamed[-2:] if new in self._texts]
        name = self._random.choice(moved) if moved else self._any()
        if name and len(self._texts) < len(_NAMES):
            self.copy(name, self._free(), self._random.choice([shutil.copy, shutil.copy2]))

    def _replace_alike(self) -> None:
        """By a file of the same size and time, as tar and rsync do."""
        name = self._any()
        if name is None or (number := self._texts[name]) is None:
            return
        path, other = self.path / name, (number + 3) % 39
        was = path.stat()
        new = self.path / "t"
        new.write_text(text(other))
        assert new.stat().st_size == was.st_size
        os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))
        new.replace(path)
        self._texts[name] = other

    def _swap_alike(self) -> None:
        """Two files of one size and time change places; first they are made."""
        if self._alike and set(self._alike) <= set(self._texts):
            self._exchange(*self._alike)
            self._alike = ()
        elif len(self._texts) < len(_NAMES) - 1:
            number = 3 * self._random.randrange(12)
            one = self._free()
            self.write(one, number)
            two = self._free()
            self.write(two, number + 3)
            was = (self.path / one).stat()
            os.utime(self.path / two, ns=(was.st_atime_ns, was.st_mtime_ns))
            self._alike = one, two

    def _ignore(self) -> None:
        self._ignored = "" if self._ignored else self._random.choice(list(_IGNORED))
        (self.path / ".gitignore").write_text(self._ignored)

    def _move_folder(self) -> None:
        """What stands in ``sub/deep`` goes up into ``sub``, where the names are free."""
        for name in [name for name in self._texts if name.startswith("sub/deep/")]:
            if (new := name.replace("deep/", "")) not in self._texts:
                self.move(name, new)


class Rows:
    """A file of rows that come, change and go."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self._random = random
        self._texts = {"row0": 998}
        self.change(1)

    def numbers(self) -> list[int]:
        """The texts of its rows."""
        return list(self._texts.values())

    def change(self, steps: int) -> None:
        """So many rows set or taken out."""
        for _ in range(steps):
            id = f"row{self._random.randrange(1, 6)}"
            if self._texts.pop(id, None) is None or self._random.random() < 0.5:
                self._texts[id] = self._random.randrange(40)
        lines = [json.dumps({"id": id, "text": text(number)}) for id, number in self._texts.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines))
        os.utime(self.path, (now := next(_clock), now))


class Sources:
    """Two folders and rows, and the one encoder of all their indexes."""

    def __init__(self, place: Path, random: Random, engine: Engine = "exact") -> None:
        self.encoder = HashEncoder(ENGINES[engine])
        self._place, self._random, self._engine, self._fresh = place, random, engine, count()
        self.folder = Folder(place / "one", random)
        self._all = [self.folder, Folder(place / "two", random), Rows(place / "rows.jsonl", random)]
        self.change()

    def change(self) -> None:
        """Several changes in each."""
        for source in self._all:
            source.change(self._random.randrange(1, 7))

    def create(self, index: Path) -> None:
        """An empty index for them."""
        Retriever.create(index, self.encoder, passage_tokens=16, index=self._engine).close()  # type: ignore[arg-type]

    def open(self, index: Path) -> Retriever:
        """An index of them."""
        return Retriever.open(index, self.encoder)  # type: ignore[arg-type]

    def sync(self, index: Path) -> None:
        """Bring an index up to date with them."""
        retriever = self.open(index)
        try:
            retriever.add_files(*self.roots)
        finally:
            retriever.close()

    @property
    def roots(self) -> list[Path]:
        return [source.path for source in self._all]

    def require_synced(self, index: Path) -> None:
        """The index holds what a fresh one of the files holds, all is found, and nothing is left to do."""
        fresh = self._place / f"fresh{next(self._fresh)}"
        self.create(fresh)
        self.sync(fresh)
        wanted = self.contents(fresh)
        shutil.rmtree(fresh)
        assert not (wrong := differences(self.contents(index), wanted)), "\n".join(wrong)
        numbers = Counter(number for source in self._all for number in source.numbers())
        assert numbers == Counter(
            int(_WORD.findall(passages[0].text)[0][-3:]) for passages in wanted.values()
        )
        retriever = self.open(index)
        try:
            assert retriever.store.verify() == []
            assert retriever.info().documents == len(wanted)
            assert retriever.info().passages == sum(map(len, wanted.values()))
            assert retriever.info().passages_with_vectors == retriever.info().passages
            for number in numbers:
                results = retriever.search(f"content{number:03d}", mode="bm25")
                assert results, f"text {number} is not found"
                assert {result.text for result in results} <= {p.text for p in _holding(wanted, number)}
            again = retriever.add_files(*self.roots)
            counts = again.documents, again.renamed, again.removed, again.unchanged
            assert counts == (0, 0, 0, len(wanted))
        finally:
            retriever.close()

    def sync_texts(self, index: Path) -> None:
        """Bring texts up to date, and leave vectors to another sync."""
        retriever = self.open(index)
        try:
            retriever.add_files(*self.roots, vectors=False)
        finally:
            retriever.close()

    def encoded(self, index: Path) -> int:
        """How many passages have vectors."""
        retriever = self.open(index)
        try:
            return retriever.store.encoded().passages
        finally:
            retriever.close()

    def generation(self, index: Path) -> int:
        """How many commits an index has seen."""
        retriever = self.open(index)
        try:
            return retriever.store.generation
        finally:
            retriever.close()

    def verify(self, index: Path) -> list[str]:
        """What ``verify`` finds."""
        retriever = self.open(index)
        try:
            return retriever.store.verify()
        finally:
            retriever.close()

    def search(self, index: Path, mode: Mode, query: str = "content001 words") -> None:
        """Any search."""
        retriever = self.open(index)
        try:
            retriever.search(query, mode=mode)
        finally:
            retriever.close()

    def contents(self, index: Path) -> Contents:
        """What an index holds."""
        retriever = self.open(index)
        try:
            found: Contents = {}
            for passage in retriever.store.passages(retriever.store.rows_where([])):
                found.setdefault(passage.document_id, []).append(passage)
            return found
        finally:
            retriever.close()


def differences(came: Contents, wanted: Contents) -> list[str]:
    """What is wrong with the contents of an index, a line for each document."""
    wrong = [f"{id} is missing" for id in wanted.keys() - came.keys()]
    wrong += [f"{id} should be gone" for id in came.keys() - wanted.keys()]
    both = [id for id in came.keys() & wanted.keys() if came[id] != wanted[id]]
    return sorted(wrong + [f"{id} is {came[id][0]}, not {wanted[id][0]}" for id in both])


def _holding(contents: Contents, number: int) -> list[Passage]:
    return [p for passages in contents.values() for p in passages if f"content{number:03d}" in p.text]


@contextmanager
def small_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, in memory where possible, for work in small batches that trains and calibrates often.

    The clock is a minute on: no file is too young to be known by its time.
    """
    monkeypatch.setattr(ingest, "BATCH", 2)
    monkeypatch.setattr(calibration, "THOROUGH", 8)
    monkeypatch.setattr(compaction, "RETRAIN_AT", 2)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60 * 10**9)
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def one_thread() -> None:
    """For a forked child, which has none of OpenMP's threads."""
    import faiss

    faiss.omp_set_num_threads(1)
