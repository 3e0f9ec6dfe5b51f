"""Passages that say the same made one, and results one a document.

Two passages are near-duplicates where the Jaccard similarity of their shingles (runs of five words) is 0.9
or more (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900). It is computed exactly, for few pairs: of
sets so similar, those shares of each that come first in any one order have a member in common (prefix
filtering, Bayardo, Ma and Srikant 2007, https://doi.org/10.1145/1242572.1242591).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

SIMILAR = 0.9
SHINGLE = 5
"""Words. A shorter text is one shingle, and has duplicates only in its equals."""


def fold_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts that stay, in their order, each followed by those of its near-duplicates.

    A text is folded into the first similar one that stays; similar ones of folded ones need not be.
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
    """Items of equal keys together, groups and their members in the order they came."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """The share of both sets that they have in common; sets are not empty."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def _shingles(text: str) -> frozenset[int]:
    """Hashes of the runs of words, which blanks separate, case folded."""
    words = text.casefold().split()
    if len(words) <= SHINGLE:
        return frozenset([hash(tuple(words))])
    runs = zip(*(words[start:] for start in range(SHINGLE)), strict=False)
    return frozenset(map(hash, runs))


def _first_shingles(shingles: frozenset[int]) -> list[int]:
    """So many of the lowest that a set as similar has one of its own lowest among them."""
    needed = math.ceil(SIMILAR * len(shingles) - 1e-9)
    return sorted(shingles)[: len(shingles) - needed + 1]
