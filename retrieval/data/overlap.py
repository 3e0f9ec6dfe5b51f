"""Overlap of training text with evaluation sets: whole queries, and runs of 13 words.

A model that was trained on the texts that measure it scores too high. A run of 13 words is what GPT-3's
authors looked for (arXiv 2005.14165, appendix C): shorter ones are common by chance.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from zlib import crc32

import numpy as np

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.reading.beir import BeirFolder

from .examples import plain

_WORDS = re.compile(r"\w+")
_RUN = 13
_NO_RUNS = np.empty(0, np.uint64)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word of a run is multiplied away


class Overlap:
    """The queries of evaluation sets by name, and every run of 13 words in their queries and documents.

    Case, punctuation and white space make no difference. Runs are compared by 64-bit hashes.

    >>> overlap = Overlap({"sky": (["Why is the sky blue?"], ["a b c d e f g h i j k l m n"])})
    >>> overlap.find("why is  the sky BLUE?"), overlap.find("... B, c, d e f g h i j k l m n!")
    ('sky', 'sky')
    >>> overlap.find("why is the sea blue?")
    """

    def __init__(self, sets: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> None:
        """``sets`` are queries and documents by name."""
        self._queries: dict[str, str] = {}
        self._runs: dict[str, np.ndarray] = {}
        for name, (queries, documents) in sets.items():
            listed = list(queries)
            self._queries |= {plain(query): name for query in listed}
            self._runs[name] = np.unique(
                np.concatenate([_NO_RUNS, *(_run_hashes(text) for text in chain(listed, documents))])
            )
        # Few texts overlap: one search for all sets tells that none has a run.
        self._all_runs = np.unique(np.concatenate([_NO_RUNS, *self._runs.values()]))

    @staticmethod
    def of_beir(folders: Sequence[Path]) -> "Overlap":
        """The whole corpus and all queries, of every split, of BEIR folders; raises as ``BeirFolder``."""
        beir = [BeirFolder(folder) for folder in folders]
        return Overlap({one.path.name: (one.queries().values(), _texts(one)) for one in beir})

    def find(self, text: str) -> str | None:
        """The first set that has ``text`` for a query or shares a run of words with it."""
        if (name := self._queries.get(plain(text))) is not None:
            return name
        wanted = _run_hashes(text)
        if not _share(self._all_runs, wanted):
            return None
        return next((name for name, runs in self._runs.items() if _share(runs, wanted)), None)


def _share(sorted_runs: np.ndarray, wanted: np.ndarray) -> bool:
    if not len(sorted_runs):
        return False
    places = np.searchsorted(sorted_runs, wanted).clip(max=len(sorted_runs) - 1)
    return bool((sorted_runs[places] == wanted).any())


def _texts(beir: BeirFolder) -> Iterator[str]:
    for document in beir.documents():
        yield Passage(document.id, document.text, document.title).searchable


def _run_hashes(text: str) -> np.ndarray:
    """One 64-bit hash per run of 13 words."""
    words = np.array([crc32(word.encode(errors="replace")) for word in _WORDS.findall(text.casefold())])
    count = len(words) - _RUN + 1
    if count < 1:
        return _NO_RUNS
    hashes = np.zeros(count, np.uint64)
    for place in range(_RUN):
        hashes = hashes * _FACTOR + words[place : place + count].astype(np.uint64)
    return hashes
