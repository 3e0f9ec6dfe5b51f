"""The engines in ``flatcoat bench search``: exact search, ours and peers, each behind a small adapter.

An engine builds its index in a folder, from which another process opens it. All run on the CPU.

Axes: Q tokens of one query, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from flatcoat.errors import MissingExtraError, UsageError
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.plaid.codec import Codec, sample_size
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.segments import MOST_PASSAGES, open_segment, write_segment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.threads import pieces

from . import OURS

EXACT = "exact"
_CODEC = "codec.npz"

Search = Callable[[np.ndarray, int], list[int]]
"""From a query [Q, D] in float32 and k to the positions of passages, best first."""

Build = Callable[[TokenVectors, Path], None]
"""From passages to an index in an empty folder."""

Open = Callable[[Path, np.ndarray | None], Search]
"""From an index's folder and the positions of the passages to search (None: all) to a search function."""


@dataclass(frozen=True)
class Engine:
    """One way to build an index, and by ``settings`` the ways to search it.

    ``modules`` are its imports, beside this module.
    """

    name: str
    build: Build
    settings: dict[str, Open]
    modules: tuple[str, ...] = ()


def engines(names: Sequence[str] = ()) -> list[Engine]:
    """The engines with these names; by default all that are installed.

    Raises UsageError for an unknown name, MissingExtraError for an engine that is not installed.

    >>> [engine.name for engine in engines(["exact"])]
    ['exact']
    """
    known = {EXACT: _exact, OURS: _flatcoat, "fast-plaid": _fast_plaid, "xtr-warp-rs": _xtr_warp}
    needed = {"fast-plaid": ("pylate", "fast_plaid"), "xtr-warp-rs": ("pylate", "xtr_warp")}
    missing = {name for name, modules in needed.items() if not all(map(find_spec, modules))}
    for name in names:
        if name not in known:
            raise UsageError(f"no engine {name!r}: known are {', '.join(known)}")
        if name in missing:
            raise MissingExtraError(f"{name} is not installed: pip install {name} flatcoat[pylate]")
    chosen = set(names) or known.keys() - missing
    return [engine for name in known if name in chosen for engine in known[name]()]


def _exact() -> list[Engine]:
    return [Engine(EXACT, _write, {"": _open_exact})]


def _open_exact(folder: Path, allowed: np.ndarray | None) -> Search:
    index = ExactIndex.from_snapshot(_read(folder))
    return lambda query_QD, k: index.search(_as_batch(query_QD), k, allowed=allowed)[0].ids


def _flatcoat() -> list[Engine]:
    """The default, more candidates, and 2 bits."""
    four_bits: dict[str, Open] = {
        "4 bits": _open_flatcoat,
        "4 bits, n_candidates 1024": partial(_open_flatcoat, n_candidates=1024),
    }
    return [
        Engine(OURS, partial(_build_flatcoat, 4), four_bits),
        Engine(OURS, partial(_build_flatcoat, 2), {"2 bits": _open_flatcoat}),
    ]


def _build_flatcoat(bits: int, vectors: TokenVectors, folder: Path) -> None:
    tokens = len(vectors.values_TD)
    drawn = np.sort(np.random.default_rng(0).choice(tokens, sample_size(tokens), replace=False))
    codec = Codec.train(vectors.values_TD[drawn], tokens, bits=bits)
    codec.save(folder / _CODEC)
    _write(vectors, folder, codec)


def _open_flatcoat(folder: Path, allowed: np.ndarray | None, **settings: int) -> Search:
    index = PlaidIndex.from_snapshot(_read(folder, Codec.load(folder / _CODEC)))
    return lambda query_QD, k: index.search(_as_batch(query_QD), k, allowed=allowed, **settings)[0].ids


def _write(vectors: TokenVectors, folder: Path, codec: Codec | None = None) -> None:
    """The segments of a store, without its database."""
    for number, here in enumerate(pieces(len(vectors), MOST_PASSAGES)):
        bounds = vectors.offsets[here.start : here.stop + 1]
        block = TokenVectors(vectors.values_TD[bounds[0] : bounds[-1]], bounds - bounds[0])
        write_segment(
            folder,
            number,
            stored=codec.encode(block) if codec else block,
            lists_of=codec and codec.inverted_lists,
        )


def _read(folder: Path, codec: Codec | None = None) -> Snapshot:
    files = sorted(file for file in folder.iterdir() if file.name != _CODEC)
    sizes = [
        {file.name: file.stat().st_size for file in segment}
        for _, segment in groupby(files, key=lambda file: file.name.partition(".")[0])
    ]
    segments = tuple(open_segment(folder, each) for each in sizes)
    rows = np.arange(sum(map(len, segments)))
    return Snapshot(segments, rows, rows // MOST_PASSAGES, rows % MOST_PASSAGES, codec=codec)


def _as_batch(query_QD: np.ndarray) -> TokenVectors:
    return TokenVectors(query_QD, np.array([0, len(query_QD)]))


def _fast_plaid() -> list[Engine]:
    settings: dict[str, Open] = {
        "default": partial(_open_pylate, "PLAID"),
        "n_full_scores 1024, n_ivf_probe 4": partial(
            _open_pylate, "PLAID", n_full_scores=1024, n_ivf_probe=4
        ),
    }
    return [Engine("fast-plaid", partial(_build_pylate, "PLAID"), settings, ("pylate.indexes",))]


def _xtr_warp() -> list[Engine]:
    """Automatic settings, and numbers of cells probed; on every core, where PyLate's default is one."""
    threads = {"num_threads": None}
    automatic = partial(_open_pylate, "WARP", t_prime=None, **threads)
    settings: dict[str, Open] = {"automatic": partial(automatic, n_ivf_probe=None)}
    settings |= {f"nprobe {probes}": partial(automatic, n_ivf_probe=probes) for probes in (32, 64, 128)}
    modules = ("pylate.indexes", "xtr_warp.search")
    return [Engine("xtr-warp-rs", partial(_build_pylate, "WARP", **threads), settings, modules)]


def _build_pylate(kind: str, vectors: TokenVectors, folder: Path, **settings: Any) -> None:
    """In float32, as PyLate's models give them."""
    ids = [str(position) for position in range(len(vectors))]
    documents = [vectors_TD.astype(np.float32) for vectors_TD in vectors]
    _pylate(kind, folder, **settings).add_documents(ids, documents)


def _open_pylate(kind: str, folder: Path, allowed: np.ndarray | None, **settings: Any) -> Search:
    index = _pylate(kind, folder, **settings)
    subset = None if allowed is None else [str(position) for position in allowed.tolist()]
    return lambda query_QD, k: [int(hit["id"]) for hit in index(query_QD[None], k=k, subset=subset)[0]]


def _pylate(kind: str, folder: Path, **settings: Any) -> Any:
    from pylate import indexes

    return getattr(indexes, kind)(str(folder), "index", device="cpu", show_progress=False, **settings)
