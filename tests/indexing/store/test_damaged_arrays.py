"""Damaged and crafted arrays under PLAID and FAISS: a search answers or raises FlatcoatError, and never
takes the process with it, reads what is not its own, or goes on for ever.
"""

import os
import random
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.array_files import checksum
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.faiss.build import write_faiss
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.plaid import index as plaid
from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.plaid.parts import require_valid
from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import CodedTokens, TokenVectors

WIDTH, COUNT = 32, 300
PARTS = ("codes", "residuals", "scales", "offsets", "lists", "list_offsets")
SECONDS, BYTES = 120, 6 << 30  # of one child, beyond what it inherits

Trial = Callable[[], object]


def survive(trials: Iterable[tuple[str, Trial]]) -> dict[str, str]:
    """Run trials in a child: what each raised, "" where it did not. Only a FlatcoatError is allowed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(SECONDS)
        most = _address_space() + BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for name, trial in trials:
            os.write(write, f"{name}\t{_outcome(trial)}\n".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        outcomes = dict(line.rstrip("\n").split("\t") for line in lines)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"ended by {status} after {list(outcomes)[-1:]}"
    assert [f"{name}: {raised}" for name, raised in outcomes.items() if raised.startswith("!")] == []
    return outcomes


def _address_space() -> int:
    """Bytes of this process, tests before these included."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _outcome(trial: Trial) -> str:
    try:
        trial()
    except FlatcoatError as error:
        return " ".join(str(error).split()) or "FlatcoatError"
    except BaseException as error:
        return " ".join(f"!{type(error).__name__}: {error}".split())
    return ""


# PLAID.


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Snapshot]:
    """Two coded segments with lists, searched by them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plaid, "_SCANNED_TOKENS", 0)
        patch.setattr(plaid, "LISTS_FROM_TOKENS", 0)
        patch.setattr(plaid, "MOST_PASSAGES", 200)
        values = np.random.default_rng(0).standard_normal((COUNT * 7, WIDTH)).astype(np.float32)
        vectors = TokenVectors(values, np.arange(COUNT + 1) * 7)
        index = PlaidIndex.from_vectors([str(i) for i in range(COUNT)], vectors)
        search(index._snapshot)  # Compiled before any child.
        yield index._snapshot


def search(snapshot: Snapshot) -> None:
    queries = np.random.default_rng(1).standard_normal((3 * 40, WIDTH)).astype(np.float32)
    index = PlaidIndex.from_snapshot(snapshot)
    found = index.search(TokenVectors(queries, np.arange(4) * 40), 10, n_candidates=40)
    assert all(0 <= row < COUNT for hits in found for row in hits.ids)


def arrays_of(segment: CodedSegment) -> dict[str, np.ndarray]:
    tokens = segment.tokens
    each = tokens.codes_T, tokens.residuals_TB, tokens.scales_T2, tokens.offsets
    assert segment.lists is not None and segment.list_offsets is not None
    return dict(zip(PARTS, (*each, segment.lists, segment.list_offsets), strict=True))


def with_arrays(snapshot: Snapshot, changed: Mapping[str, np.ndarray | None]) -> Snapshot:
    """The snapshot with other arrays in its first segment."""
    first, *rest = snapshot.segments
    assert isinstance(first, CodedSegment)
    codes, residuals, scales, offsets, lists, ends = (arrays_of(first) | dict(changed)).values()
    segment = CodedSegment(CodedTokens(codes, residuals, scales, offsets), lists, ends)  # type: ignore[arg-type]
    return replace(snapshot, segments=(segment, *rest))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "numbers beyond any array": lambda array: np.full(array.shape, 1 << 40),
    "negative numbers": lambda array: -1 - array.astype(np.int64),
    "negative numbers of four bytes": lambda array: -1 - array.astype(np.int32),
    "NaN": lambda array: np.full(array.shape, np.nan),
    "wider numbers": lambda array: array.astype(np.uint64),
    "narrower numbers": lambda array: array.astype(np.int8),
    "another byte order": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "the largest numbers of the type": lambda array: np.full_like(array, np.iinfo(array.dtype).max),
    "fewer rows": lambda array: array[:-3].copy(),
    "more rows": lambda array: np.concatenate([array, array]),
    "one row": lambda array: array[:1].copy(),
    "no rows": lambda array: array[:0].copy(),
    "no axis": lambda array: array.reshape(-1)[0],
    "another axis": lambda array: array[..., None].copy(),
    "wide rows": lambda array: np.repeat(array.reshape(len(array), -1), 1_000, axis=1),
    "columns after columns": lambda array: np.asfortranarray(array.reshape(len(array), -1)),
    "every second row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "fields": lambda array: np.zeros(array.shape, [("a", "u1"), ("b", "u1")]),
    "objects": lambda array: array.astype(object),
}
HARMLESS = [
    f"{part}: {change}"
    for part in ("residuals", "scales")
    for change in ("another byte order", "the largest numbers of the type")
]
"""Bytes have no order, and any of them is a code."""


def test_arrays_of_another_kind_are_refused(snapshot: Snapshot) -> None:
    segment = snapshot.segments[0]
    assert isinstance(segment, CodedSegment)
    trials: list[tuple[str, Trial]] = []
    for part, array in arrays_of(segment).items():
        for change, make in CHANGES.items():
            damaged = with_arrays(snapshot, {part: make(array)})
            trials.append((f"{part}: {change}", lambda damaged=damaged: search(damaged)))
    for part in ("lists", "list_offsets"):
        damaged = with_arrays(snapshot, {part: None})
        trials.append((f"{part}: missing", lambda damaged=damaged: search(damaged)))
    outcomes = survive(trials)
    unsaid = [name for name, raised in outcomes.items() if "damaged: verify the index" not in raised]
    assert unsaid == HARMLESS
    assert len(outcomes) == len(trials)


def test_a_sound_segment_is_valid(snapshot: Snapshot) -> None:
    assert snapshot.codec
    for segment in snapshot.segments:
        assert isinstance(segment, CodedSegment)
        require_valid(segment, snapshot.codec)
        require_valid(replace(segment, lists=None, list_offsets=None), snapshot.codec)


def test_codes_of_another_codec_are_not_decoded(snapshot: Snapshot) -> None:
    """Decoding is how merging and training anew read them."""
    segment, codec = snapshot.segments[0], snapshot.codec
    assert isinstance(segment, CodedSegment) and codec
    few = Codec.train(np.random.default_rng(0).standard_normal((40, WIDTH)).astype(np.float32), 40)
    wide = Codec.train(np.random.default_rng(0).standard_normal((400, 2 * WIDTH)).astype(np.float32), 400)
    codes = segment.tokens.codes_T
    for other, coded in (
        (few, segment.tokens),
        (wide, segment.tokens),
        (codec, replace(segment.tokens, codes_T=codes.astype(np.int64) - (1 << 40))),
        (codec, replace(segment.tokens, residuals_TB=segment.tokens.residuals_TB[:-1])),
    ):
        with pytest.raises(FlatcoatError, match="damaged: verify the index"):
            other.decode(coded)


def flips(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """``data`` with one bit or byte changed, each time another, half of them near the beginning."""
    chance = random.Random(seed)
    for trial in range(count):
        damaged = bytearray(data)
        place = chance.randrange(min(len(data), 400) if trial % 2 else len(data))
        damaged[place] ^= 1 << chance.randrange(8) if trial % 3 else chance.randrange(1, 256)
        yield f"{place} to {damaged[place]}", bytes(damaged)


def flip_plaid(snapshot: Snapshot, count: int, seed: int) -> None:
    segment = snapshot.segments[0]
    assert isinstance(segment, CodedSegment)

    def trials() -> Iterator[tuple[str, Trial]]:
        for part, array in arrays_of(segment).items():
            for name, data in flips(array.tobytes(), count, seed):
                damaged = np.frombuffer(data, array.dtype).reshape(array.shape)
                changed = with_arrays(snapshot, {part: damaged})
                yield f"{part}: {name}", lambda changed=changed: search(changed)

    assert survive(trials())


def test_flipped_bits_under_plaid(snapshot: Snapshot) -> None:
    flip_plaid(snapshot, 50, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_flipped_bits_under_plaid(snapshot: Snapshot, seed: int) -> None:
    flip_plaid(snapshot, 2_000, seed)


# The codec's file.


def parts_of(codec: Codec) -> dict[str, Any]:
    return {name: getattr(codec, name) for name in codec.__dataclass_fields__}


CODECS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "widened centroids": lambda p: p | {"centroids_KP": np.repeat(p["centroids_KP"], 2, axis=1)},
    "narrowed centroids": lambda p: p | {"centroids_KP": p["centroids_KP"][:, :-8]},
    "centroids of eight bytes": lambda p: p | {"centroids_KP": p["centroids_KP"].astype(np.int64) << 40},
    "centroids of NaN": lambda p: p | {"centroids_KP": np.full(p["centroids_KP"].shape, np.nan)},
    "unsigned centroids": lambda p: p | {"centroids_KP": p["centroids_KP"].astype(np.uint8)},
    "flat centroids": lambda p: p | {"centroids_KP": p["centroids_KP"].ravel()},
    "no centroids": lambda p: p | {"centroids_KP": p["centroids_KP"][:0]},
    "too many centroids": lambda p: p | {"centroids_KP": np.zeros(((1 << 16) + 1, WIDTH), np.int8)},
    "columns of centroids": lambda p: p | {"centroids_KP": np.asfortranarray(p["centroids_KP"])},
    "three levels": lambda p: p | {"levels": p["levels"][:3]},
    "eight levels": lambda p: p | {"levels": p["levels"][:8]},
    "no levels": lambda p: p | {"levels": p["levels"][:0]},
    "levels of floats": lambda p: p | {"levels": p["levels"].astype(np.float32)},
    "levels in rows": lambda p: p | {"levels": p["levels"][None]},
    "another width": lambda p: p | {"width": WIDTH * 2},
    "no width": lambda p: p | {"width": 0},
    "a negative width": lambda p: p | {"width": -8},
    "a width of text": lambda p: p | {"width": "32"},
    "a width of floats": lambda p: p | {"width": 32.0},
    "a width in a row": lambda p: p | {"width": [WIDTH]},
    "no tokens": lambda p: p | {"tokens": -1},
    "step NaN": lambda p: p | {"step": np.nan},
    "step 0": lambda p: p | {"step": 0.0},
    "an endless step": lambda p: p | {"row_step": np.inf},
    "a complex step": lambda p: p | {"row_step": 1j},
    "unit NaN": lambda p: p | {"unit": np.nan},
    "an endless scale": lambda p: p | {"largest_scale": 1e30},
    "scale NaN": lambda p: p | {"largest_scale": np.nan},
    "norms that fall": lambda p: p | {"norm_range": (0.1, -0.1)},
    "three norms": lambda p: p | {"norm_range": (0.1, 0.2, 0.3)},
    "norm NaN": lambda p: p | {"norm_range": (np.nan, 0.3)},
    "an unknown part": lambda p: p | {"more": 1},
    "a missing part": lambda p: {name: value for name, value in p.items() if name != "levels"},
    "an object": lambda p: p | {"step": np.array([print], object)},
}


def load_and_search(path: Path, snapshot: Snapshot) -> None:
    search(replace(snapshot, codec=Codec.load(path)))


def test_codecs_that_do_not_fit_together_are_refused(tmp_path: Path, snapshot: Snapshot) -> None:
    assert snapshot.codec
    trials: list[tuple[str, Trial]] = []
    for number, (name, change) in enumerate(CODECS.items()):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **change(parts_of(snapshot.codec)))
        trials.append((name, lambda path=path: Codec.load(path)))
    np.savez_compressed(tmp_path / "small.npz", **parts_of(snapshot.codec))
    trials.append(("compressed", lambda: Codec.load(tmp_path / "small.npz")))
    outcomes = survive(trials)
    assert [name for name, raised in outcomes.items() if "cannot be read" not in raised] == []


def flip_codec(path: Path, snapshot: Snapshot, count: int, seed: int) -> None:
    assert snapshot.codec
    snapshot.codec.save(path / "whole")

    def trials() -> Iterator[tuple[str, Trial]]:
        for name, data in flips((path / "whole").read_bytes(), count, seed):
            (path / "damaged").write_bytes(data)
            yield name, lambda: load_and_search(path / "damaged", snapshot)

    outcomes = survive(trials())
    assert any(outcomes.values())


def test_flipped_bits_of_a_codec(tmp_path: Path, snapshot: Snapshot) -> None:
    flip_codec(tmp_path, snapshot, 100, 0)


@pytest.mark.slow
def test_many_flipped_bits_of_a_codec(tmp_path: Path, snapshot: Snapshot) -> None:
    flip_codec(tmp_path, snapshot, 5_000, 1)


def test_a_codec_from_somebody_else_is_named_when_an_index_opens(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", {}, engine=EngineSettings("plaid")) as store:
        values = np.random.default_rng(0).standard_normal((90, WIDTH)).astype(np.float32)
        with store.writer() as writer:
            texts = [Passage(f"d{i}", "text") for i in range(30)]
            writer.add(texts, TokenVectors(values, np.arange(31) * 3))
            writer.compact()
        (path,) = (store.path / "segments").glob("*.codec.npz")
        parts = parts_of(Codec.load(path))
        path.unlink()
        np.savez(path, **CODECS["widened centroids"](parts))
        with closing(sqlite3.connect(store.path / "index.sqlite")) as connection, connection:
            values = path.stat().st_size, checksum(path), path.name
            connection.execute("UPDATE files SET bytes = ?, sha256 = ? WHERE name = ?", values)
    with (
        Store.open(tmp_path / "index") as store,
        pytest.raises(FlatcoatError, match=r"codec.*cannot be read"),
    ):
        store.snapshot()


# FAISS.

FACTORIES = ["Flat", "HNSW8", "IVF8,SQ8", "IVF8,SQ8,RFlat", "PCA16,IVF8,Flat", "PQ8x4fs", "BHNSW8", "BIVF"]
VECTORS = np.random.default_rng(0).standard_normal((COUNT, WIDTH)).astype(np.float32)
ROWS = np.arange(COUNT)
DENSE = Snapshot((VECTORS,), ROWS, np.zeros_like(ROWS), ROWS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A forked child has none of OpenMP's threads."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def search_faiss(path: Path, wanted: FaissSettings) -> None:
    index = FaissIndex.from_snapshot(DENSE, path, settings=wanted)
    for allowed in (None, ROWS[::2]):
        found = index.search(VECTORS[:4], 5, allowed=allowed)
        assert all(0 <= row < COUNT for hits in found for row in hits.ids)


def flip_faiss(folder: Path, factory: str, count: int, seed: int) -> None:
    wanted = FaissSettings(factory)
    write_faiss(folder / "whole", DENSE, settings=wanted)

    def trials() -> Iterator[tuple[str, Trial]]:
        for number, (name, data) in enumerate(flips((folder / "whole").read_bytes(), count, seed)):
            path = folder / f"{number}"
            path.write_bytes(data)
            yield name, lambda path=path: search_faiss(path, wanted)
            path.unlink()

    assert survive(trials())


@pytest.mark.parametrize("factory", FACTORIES)
def test_flipped_bits_of_a_faiss_file(tmp_path: Path, factory: str) -> None:
    flip_faiss(tmp_path, factory, 60, 0)


@pytest.mark.slow
@pytest.mark.parametrize("factory", FACTORIES)
def test_many_flipped_bits_of_a_faiss_file(tmp_path: Path, factory: str) -> None:
    flip_faiss(tmp_path, factory, 3_000, 1)


def test_faiss_files_of_other_indexes_are_refused(tmp_path: Path) -> None:
    import faiss

    def written(name: str, index: Any) -> Path:
        path = tmp_path / name
        faiss.write_index(index, str(path))
        with path.open("ab") as file:
            file.write(b"flatcoat" + np.uint64(file.tell()).tobytes())
        return path

    def made(factory: str, metric: int = faiss.METRIC_INNER_PRODUCT, width: int = WIDTH) -> Any:
        index = faiss.index_factory(width, factory, metric)
        index.train(VECTORS[:, :width])
        return index

    l2, plain, narrow, few, none = (
        faiss.IndexIDMap(made("HNSW8", faiss.METRIC_L2)),
        made("Flat"),
        faiss.IndexIDMap(made("Flat", width=WIDTH // 2)),
        faiss.IndexIDMap(made("Flat")),
        faiss.IndexIDMap(made("Flat")),
    )
    l2.add_with_ids(VECTORS, ROWS)
    plain.add(VECTORS)
    narrow.add_with_ids(VECTORS[:, : WIDTH // 2].copy(), ROWS)
    few.add_with_ids(VECTORS, ROWS)
    few.id_map.resize(7)
    none.add_with_ids(VECTORS, ROWS)
    none.ntotal = 1 << 40
    with pytest.raises(FlatcoatError, match="metric_type is 1, the factory has 0"):
        search_faiss(written("l2", l2), FaissSettings("HNSW8"))
    with pytest.raises(FlatcoatError, match="names no passage rows"):
        search_faiss(written("plain", plain), FaissSettings("Flat"))
    with pytest.raises(FlatcoatError, match="has width 16, the vectors 32"):
        search_faiss(written("narrow", narrow), FaissSettings("Flat"))
    with pytest.raises(FlatcoatError, match=r"7 rows are named, there are 300|damaged|cannot be read"):
        search_faiss(written("few", few), FaissSettings("Flat"))
    with pytest.raises(FlatcoatError, match=r"damaged|cannot be read"):
        search_faiss(written("none", none), FaissSettings("Flat"))


@pytest.mark.parametrize("ids", [[1 << 62, -1, -(1 << 62)], [5, 5, 5], [COUNT, COUNT + 1, 1 << 40]])
def test_rows_that_a_faiss_file_cannot_name(tmp_path: Path, ids: list[int]) -> None:
    """What it does not name well is searched as what it does not cover."""
    import faiss

    index = faiss.IndexIDMap(faiss.IndexFlatIP(WIDTH))
    rows = np.concatenate([ids, ROWS[3:]]).astype(np.int64)
    index.add_with_ids(VECTORS, rows)
    faiss.write_index(index, str(tmp_path / "x"))
    with (tmp_path / "x").open("ab") as file:
        file.write(b"flatcoat" + np.uint64(file.tell()).tobytes())
    found = FaissIndex.from_snapshot(DENSE, tmp_path / "x", settings=FaissSettings("Flat")).search(
        VECTORS[:4], 5
    )
    assert [hits.ids for hits in found] == [
        [int(id) for id in hits.ids]
        for hits in ExactIndex.from_vectors([str(row) for row in ROWS], VECTORS).search(VECTORS[:4], 5)
    ]


# Vectors that hold what no writer lets in.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_stored_vector_that_is_not_finite_is_named(value: float) -> None:
    vectors = VECTORS.copy()
    vectors[7, 3] = value
    snapshot = replace(DENSE, segments=(vectors,))
    built = FaissIndex.from_vectors([str(row) for row in ROWS], VECTORS, settings=FaissSettings("Flat"))
    for index in (
        ExactIndex.from_snapshot(snapshot),
        FaissIndex[int](snapshot, None, index=built._faiss._owner, settings=FaissSettings("Flat")),
    ):
        with pytest.raises(FlatcoatError, match="damaged: verify the index"):
            index.search(VECTORS[7:8], COUNT)
