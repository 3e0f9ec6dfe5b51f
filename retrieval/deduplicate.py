"""Fold near-duplicate passages; group results by document.

Two passages are near-duplicates where the Jaccard similarity of their shingles (runs of five words) is 0.9
or more (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900). It is computed exactly, but only for pairs
that pass prefix filtering: if both sets are sorted in one order, two similar sets have a common member among
their first few (Bayardo, Ma and Srikant 2007, https://doi.org/10.1145/1242572.1242591).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from flatcoat.indexing.words import find_units, find_words, has_runs, is_run

T = TypeVar("T")

SIMILAR = 0.9
"""Least Jaccard similarity of near-duplicates."""

SHINGLE = 5
"""Words per shingle. A shorter text is one shingle: its duplicates are only the equal texts."""


def fold_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Groups of near-duplicates: the position of the text that stays, then the positions folded into it.

    A text is folded into the first similar text that stays, and never into a folded one.

    >>> fold_duplicates(["a cat purrs", "A CAT  purrs", "a dog barks"])
    [[0, 1], [2]]
    """
    groups: list[list[int]] = []
    kept: list[frozenset[int]] = []
    sharing: dict[int, list[int]] = {}
    for position, text in enumerate(texts):
        shingles = _shingles(text)
        first = _first_shingles(shingles)
        candidates = sorted({group for shingle in first for group in sharing.get(shingle, ())})
        similar = next((group for group in candidates if jaccard(shingles, kept[group]) >= SIMILAR), None)
        if similar is not None:
            groups[similar].append(position)
            continue
        for shingle in first:
            sharing.setdefault(shingle, []).append(len(groups))
        groups.append([position])
        kept.append(shingles)
    return groups


def group_by(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items grouped by ``key``; groups and their members keep the order of ``items``.

    >>> group_by([1, 2, 3, 4], lambda number: number % 2)
    [[1, 3], [2, 4]]
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Jaccard similarity of two sets that are not empty: the size of the intersection over the union."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def _shingles(text: str) -> frozenset[int]:
    """Hashes of all runs of SHINGLE words, case folded; words are separated by whitespace.

    In scripts that do not tell words apart, characters take their place.
    """
    text = text.casefold()
    words = _words_and_units(text) if has_runs(text) else text.split()
    if len(words) <= SHINGLE:
        return frozenset([hash(tuple(words))])
    runs = zip(*(words[start:] for start in range(SHINGLE)), strict=False)
    return frozenset(map(hash, runs))


def _words_and_units(text: str) -> list[str]:
    words = find_words(text)
    return [part[0] for word in words for part in (find_units(word[0]) if is_run(word[0]) else [word])]


def _first_shingles(shingles: frozenset[int]) -> list[int]:
    """The prefix of the sorted shingles: any set with Jaccard >= SIMILAR shares one of its own prefix."""
    needed = math.ceil(SIMILAR * len(shingles) - 1e-9)
    return sorted(shingles)[: len(shingles) - needed + 1]
