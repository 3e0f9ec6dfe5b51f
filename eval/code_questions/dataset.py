"""The questions of the benchmark ``code-questions``, their target files, and the data set of each package.

Questions are of three kinds: a symbol; what a function does, in words that are not its own; where a
behaviour lives. They were written from the sources, before any search. Those that share no word with the
path of a target are reported apart. Half of the packages (dev) are there to choose settings by, the other
half (test) to report.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from flatcoat.errors import DataError, NotFoundError
from flatcoat.eval.datasets import FolderCorpus, Load, Qrels, RetrievalDataset

from .package import Package
from .sources import cache_folder, source_folder

NAME = "code-questions"
PATH_FREE = "path-free"

Kind = Literal["symbol", "function", "place"]

_DATA = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """A question about one package; ``targets`` are paths inside it: 2 for the main place, 1 for others.

    ``path_free`` says that no word of the text, nor its stem or beginning, stands in a target's path.

    >>> next(question.text for question in questions() if question.id == "ajv-05")
    'inlineRef'
    """

    id: str
    package: str
    text: str
    kind: Kind
    path_free: bool
    targets: dict[str, int]


def packages(folder: Path | None = None) -> list[Package]:
    """The packages of ``folder/packages.json`` (None: those of the benchmark), in their order."""
    rows = json.loads(((folder or _DATA) / "packages.json").read_text("utf-8"))
    return [Package(**row | {"exclude": tuple(row.get("exclude", ()))}) for row in rows]


def questions(folder: Path | None = None) -> list[Question]:
    """The questions of ``folder/questions.jsonl`` (None: those of the benchmark), in their order."""
    lines = ((folder or _DATA) / "questions.jsonl").read_text("utf-8").splitlines()
    return [Question(**json.loads(line)) for line in lines if line.strip()]


def is_code_questions(name: str) -> bool:
    """Whether a name is that of the benchmark, or of one package of it (``code-questions:httpx``)."""
    return name.partition(":")[0] == NAME


def plan_code_questions(
    name: str, split: str | None, *, folder: Path | None = None, cache: Path | None = None
) -> dict[object, Load]:
    """A function that loads the data set, by package of a split ("test" by default), or of the one named.

    A package that is named needs no split. Sources that are missing are fetched into ``cache`` when a data
    set is loaded. Raises NotFoundError for an unknown split or package.
    """
    known = packages(folder)
    _, _, wanted = name.partition(":")
    named = [package for package in known if wanted in ("", package.name)]
    if not named:
        names = ", ".join(package.name for package in known)
        raise NotFoundError(f"{NAME} has no package {wanted!r}: choose one of {names}")
    split = split or (named[0].split if wanted else "test")
    chosen = [package for package in named if package.split == split]
    if not chosen:
        splits = ", ".join(sorted({package.split for package in named}))
        raise NotFoundError(f"{name} has no split {split!r}: choose one of {splits}")
    asked = questions(folder)
    place = cache or cache_folder()
    return {(NAME, package.name): partial(_load, package, asked, place) for package in chosen}


def _load(package: Package, asked: Sequence[Question], cache: Path) -> RetrievalDataset:
    own = [question for question in asked if question.package == package.name]
    corpus = FolderCorpus(
        source_folder(package, cache), exclude=tuple(f"/{path}" for path in package.exclude)
    )
    qrels: Qrels = {question.id: dict(question.targets) for question in own}
    _require_targets(package, qrels, corpus)
    return RetrievalDataset(
        name=f"{NAME}:{package.name}",
        split=package.split,
        documents=corpus,
        queries={question.id: question.text for question in own},
        qrels=qrels,
        revision=_revision(package, own),
        benchmark=NAME,
        groups=_groups(own),
    )


def _require_targets(package: Package, qrels: Mapping[str, Mapping[str, int]], corpus: FolderCorpus) -> None:
    missing = {target for targets in qrels.values() for target in targets}
    missing.difference_update(document.id for document in corpus)
    if missing:
        raise DataError(
            f"{package.name} {package.version} has no text file {min(missing)}, which a question names: "
            "remove its sources from the cache to fetch them anew"
        )


def _revision(package: Package, own: Sequence[Question]) -> str:
    asked = [[question.id, question.text, question.targets] for question in own]
    content = json.dumps([package.sha256, package.exclude, asked], sort_keys=True)
    return sha256(content.encode()).hexdigest()[:16]


def _groups(own: Sequence[Question]) -> dict[str, frozenset[str]]:
    """The questions of each kind, and those without a word of a target's path."""
    groups = {
        kind: frozenset(question.id for question in own if question.kind == kind) for kind in get_args(Kind)
    }
    return groups | {PATH_FREE: frozenset(question.id for question in own if question.path_free)}
