"""Ranking signals: what else than its score says that a passage of a software project answers a query.

Each signal is one function. All of them see the candidates of one query, scaled so that the best one has the
score 1, and add to that score or take from it:

definition   the passage defines a symbol that the query names
path         words of the query stand in the name of the file or of its folder
file         other passages of the same file are good, too
content      tests, examples, vendored code, documentation and the like come below code
header       imports and licences come below what the file defines
spread       every further passage of a file counts half

They apply where files of code are among the candidates, and leave other results alone. A query that asks for
tests, documentation or the like is answered with them: ``content`` does not lower these.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.reading.content import Content, roles_of
from flatcoat.indexing.terms import query_words

SIGNALS = ("definition", "path", "file", "content", "header", "spread")

RANKED = "ranked"
"""The name in ``Result.scores`` of the score with all signals."""

_SYMBOL_QUERY, _SYMBOL_IN_SENTENCE, _INSIDE_SYMBOL, _OTHER_OWNER = 1.0, 0.5, 0.5, 0.6
_STEM, _WHOLE_STEM, _FOLDER = 0.4, 0.1, 0.05
_FILE, _FILE_PASSAGES = 0.1, 3
_FURTHER = 0.5

_CONTENTS = frozenset(get_args(Content))
_FACTORS = {
    "test": 0.4,
    "example": 0.6,
    "vendored": 0.5,
    "compat": 0.8,
    "entry": 0.85,
    "stub": 0.7,
    "docs": 0.6,
    "config": 0.6,
    "header": 0.6,
}
_SHORTEST_PREFIX = 3

_NAME = re.compile(r"[^\W\d]\w*(?:(?:\.|::|->|#)[^\W\d]\w*)*")
_WRITTEN_AS_CODE = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|\w_\w|^_\w|\w(?:\.|::|->|#)\w")
_JOINT = re.compile(r"\.|::|->|#")
_ASKED = {
    "test": r"tests?|testing|specs?|fixtures?|mocks?",
    "example": r"examples?|demos?|samples?|benchmarks?|bench",
    "vendored": r"vendor(?:ed)?|third[- ]party",
    "compat": r"compat\w*|legacy|deprecat\w*|polyfills?|shims?",
    "entry": r"__init__|index|re-?exports?|exported|package",
    "stub": r"types|typings?|stubs?|declarations?",
    "docs": r"docs?|documentation|readme|change ?log|licen[cs]e|manual|guide|tutorial|contributing|releases?",
    "header": r"imports?|includes?|headers?|licen[cs]e|copyright",
    "config": r"config(?:uration)?s?|settings|ya?ml|toml|ini|ci|workflows?|dependencies|(?:make|docker)file",
}
_ASKED_FOR = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in _ASKED.items()}
_KEYWORDS = (
    r"(?:def|class|func|fn|fun|function|struct|enum|union|interface|trait|protocol|type|typedef|newtype|data|record"
    r"|module|mod|namespace|package|sub|object|const|let|var|val|impl|extension|macro_rules!|\#\s*define|procedure"
    r"|defmodule|defp|defmacro|message|service|rpc|resource|local)"
)


@dataclass(frozen=True)
class Query:
    """The words of a query, and the symbols that it names.

    >>> Query("where does HttpClient.send_request retry?").symbols
    ('HttpClient.send_request',)
    """

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words, without stop words, and the parts of compound ones, in lower case."""
        return tuple(word for word in query_words(self.text) if len(word) > 1)

    def words_like(self, part: str) -> set[str]:
        """The words that begin with ``part``, or with which it begins; short ones must be equal."""
        shorter = {part[:length] for length in range(_SHORTEST_PREFIX, len(part) + 1)} | {part}
        return self._beginnings.get(part, set()) | shorter.intersection(self.words)

    @cached_property
    def _beginnings(self) -> dict[str, set[str]]:
        beginnings: dict[str, set[str]] = {}
        for word in self.words:
            for length in range(_SHORTEST_PREFIX, len(word) + 1):
                beginnings.setdefault(word[:length], set()).add(word)
        return beginnings

    @cached_property
    def is_symbol(self) -> bool:
        """Whether it is one symbol and nothing else."""
        return _NAME.fullmatch(self.text.strip().removesuffix("()")) is not None

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols named: the whole of a query of one name, otherwise names written as only code is."""
        names = dict.fromkeys(_NAME.findall(self.text))
        return tuple(name for name in names if self.is_symbol or _WRITTEN_AS_CODE.search(name))

    def asks_for(self, kind: str) -> bool:
        """Whether the query asks for files of a kind or role of ``indexing.reading.content``."""
        return kind in _ASKED_FOR and _ASKED_FOR[kind].search(self.text) is not None


def checked_signals(signals: Collection[str] | None) -> tuple[str, ...]:
    """The signals to apply in their order, all for None; UsageError for an unknown one."""
    if isinstance(signals, str):
        signals = [signals]
    if signals is not None and (unknown := sorted(set(map(str, signals)).difference(SIGNALS))):
        raise UsageError(f"no ranking signal {unknown[0]!r:.60}: {', '.join(SIGNALS)} are known")
    return tuple(name for name in SIGNALS if signals is None or name in signals)


def apply_signals(
    query: str,
    passages: Sequence[Passage],
    *,
    scores: Sequence[float],
    floor: float = 0.0,
    signals: Collection[str] = SIGNALS,
) -> list[dict[str, float]]:
    """What each signal adds to the score of each passage, and the new score as RANKED.

    ``scores`` are scaled so that ``floor`` becomes 0 and the best 1. A signal that changes nothing is left
    out. Without code among the passages, and without signals, all dicts are empty.

    >>> file = {"content": "code", "path": "http/retry.py"}
    >>> passages = [Passage("http/retry.py", "def backoff(): ...", metadata=file), Passage("a", "On backoff")]
    >>> first, second = apply_signals("backoff", passages, scores=[2.0, 4.0], signals=["definition"])
    >>> first, second
    ({'definition': 1.0, 'ranked': 1.5}, {'ranked': 1.0})
    """
    top = max(scores, default=floor)
    candidates = [
        _Candidate(passage, (score - floor) / (top - floor) if top > floor else 1.0)
        for passage, score in zip(passages, scores, strict=True)
    ]
    if not signals or not any(candidate.is_code for candidate in candidates):
        return [{} for _ in candidates]
    named = Query(query)
    for name, signal in _SIGNALS.items():
        if name in signals:
            for candidate, score in zip(candidates, signal(named, candidates), strict=True):
                candidate.set_score(name, score)
    return [candidate.changes | {RANKED: candidate.score} for candidate in candidates]


@dataclass
class _Candidate:
    """A passage, its score so far, and what signals changed."""

    passage: Passage
    score: float
    changes: dict[str, float] = field(default_factory=dict)

    def set_score(self, signal: str, score: float) -> None:
        if score != self.score:
            self.changes[signal] = score - self.score
            self.score = score

    @property
    def file(self) -> str:
        return self.passage.document_id

    @property
    def path(self) -> str:
        return str(self.passage.metadata.get("path", self.file))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """What the file is for, and whether the passage is its header; nothing for what is no file."""
        metadata = self.passage.metadata
        content = metadata.get("content")
        if content not in _CONTENTS:
            return frozenset()
        is_header = {"header"} if metadata.get("kind") == "header" else set()
        return frozenset({str(content), *roles_of(self.path, str(metadata.get("lang", ""))), *is_header})

    @property
    def is_code(self) -> bool:
        return "code" in self.kinds


def definition(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """A passage of code that defines a symbol of the query rises, most where the query is only that symbol.

    A definition is recognised by the keyword or form with which languages define. A passage from inside
    the definition rises by half, one whose class or module is not the one that the query names by less.
    """
    gain = _SYMBOL_QUERY if query.is_symbol else _SYMBOL_IN_SENTENCE
    symbols = [_Symbol.of(name) for name in query.symbols]
    return [
        one.score + gain * max((symbol.defined_by(one) for symbol in symbols if one.is_code), default=0.0)
        for one in candidates
    ]


def path(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """Passages of files rise whose stem, or else parent folder, has words that begin like words of the query.

    A word counts by its rarity among the names of the candidates' files, a stem by the share of its own words
    that the query has, with an extra where that is all of them.
    """
    matches = {one.file: _PathMatch.of(one.path, query) for one in candidates if one.kinds}
    in_files = Counter(word for match in matches.values() for word in match.words)
    gains = {file: match.gain(in_files, len(matches)) for file, match in matches.items()}
    return [one.score + gains.get(one.file, 0.0) for one in candidates]


def file(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """The best passage of a file rises by a share of the scores of the next best ones."""
    scores = [one.score for one in candidates]
    for places in _by_file(candidates):
        best, *others = places
        if candidates[best].kinds:
            scores[best] += _FILE * sum(scores[place] for place in others[:_FILE_PASSAGES])
    return scores


def content(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """Tests, examples, vendored and compatibility code, documentation, configuration and stubs sink.

    A kind that the query asks for keeps its score.
    """
    return [one.score * _lowered(query, one.kinds - {"header"}) for one in candidates]


def header(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """The imports and licence at the head of a file sink, since many files share them."""
    return [one.score * _lowered(query, one.kinds & {"header"}) for one in candidates]


def spread(query: Query, candidates: Sequence[_Candidate]) -> list[float]:
    """The second best passage of a file counts half, the third a quarter, and so on."""
    scores = [one.score for one in candidates]
    for places in _by_file(candidates):
        for further, place in enumerate(places):
            scores[place] *= _FURTHER**further if candidates[place].kinds else 1.0
    return scores


_SIGNALS: dict[str, Callable[[Query, Sequence[_Candidate]], list[float]]] = {
    signal.__name__: signal for signal in (definition, path, file, content, header, spread)
}


def _lowered(query: Query, kinds: Iterable[str]) -> float:
    return math.prod(_FACTORS[kind] for kind in kinds if kind in _FACTORS and not query.asks_for(kind))


def _by_file(candidates: Sequence[_Candidate]) -> Iterable[list[int]]:
    """The places of each file's passages, best first."""
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(candidates)), key=lambda place: -candidates[place].score):
        places.setdefault(candidates[place].file, []).append(place)
    return places.values()


@dataclass(frozen=True)
class _Symbol:
    """A symbol by its last name, the name before it ("" without one), and the forms that define it."""

    last: str
    owner: str
    forms: re.Pattern[str]

    @staticmethod
    def of(name: str) -> "_Symbol":
        *owners, last = _JOINT.split(name)
        return _Symbol(last, owners[-1] if owners else "", _definition_forms(last))

    def defined_by(self, candidate: _Candidate) -> float:
        """1 where the passage defines the symbol, less where it lies inside it or has another owner."""
        passage = candidate.passage
        names = frozenset(re.findall(r"\w+", passage.section))
        if self.last in passage.text and self.forms.search(passage.text):
            share = 1.0
        elif self.last in names:
            share = _INSIDE_SYMBOL
        else:
            return 0.0
        around = (
            self.owner in names,
            self.owner in passage.text,
            self.owner.lower() in candidate.path.lower(),
        )
        return share if any(around) else share * _OTHER_OWNER


def _definition_forms(name: str) -> re.Pattern[str]:
    """Lines that define a name: a keyword before it, parameters and a body after it, a function as value."""
    n = re.escape(name)
    keyword = rf"(?:[\w@<>\[\](),.:*&]+\s+){{0,6}}{_KEYWORDS}\b[^\n=;]{{0,80}}?(?<![\w.]){n}(?!\w)"
    body = rf"(?:[\w<>\[\],*&:~]+[ \t*&]+){{0,4}}(?:\w+(?:::|\.|:))*{n}[ \t]*\([^;\n]*(?:\{{|,|\)|$)[^;\n]*$"
    value = (
        rf"(?:\w+(?:\.prototype)?[.:])*{n}[ \t]*[:=]+[ \t]*"
        r"(?:async\b|function\b|class\b|lambda\b|\([^)\n]*\)[ \t]*=>|\w+[ \t]*=>)"
    )
    return re.compile(rf"^[ \t]*(?:{keyword}|{body}|{value})", re.MULTILINE)


@dataclass(frozen=True)
class _PathMatch:
    """The words of a query that match the stem of a file, and those that match its folder.

    ``covered`` is the share of the stem's own words that are matched.
    """

    stem: frozenset[str]
    folder: frozenset[str]
    covered: float

    @property
    def words(self) -> frozenset[str]:
        return self.stem | self.folder

    @staticmethod
    def of(path: str, query: Query) -> "_PathMatch":
        own, around = _words_of_path(path)
        stem, folder = ([query.words_like(part) for part in parts] for parts in (own, around))
        covered = sum(map(bool, stem)) / max(1, len(own))
        return _PathMatch(frozenset().union(*stem), frozenset().union(*folder), covered)

    def gain(self, in_files: Counter[str], files: int) -> float:
        """The gain, from the numbers of files in whose paths each word is, among so many files."""

        def rarity(words: Iterable[str]) -> float:
            most = math.log((files + 1) / 0.5)
            return max((math.log((files + 1) / (in_files[word] + 0.5)) / most for word in words), default=0.0)

        stem = (_STEM * self.covered + _WHOLE_STEM * (self.covered == 1)) * rarity(self.stem)
        return stem + _FOLDER * rarity(self.folder)


@lru_cache(maxsize=10_000)
def _words_of_path(path: str) -> tuple[Sequence[str], Sequence[str]]:
    """The words of a file's stem, and of the folder that it is in."""
    place = PurePosixPath(path)
    return query_words(place.name.partition(".")[0] or place.name), query_words(place.parent.name)
