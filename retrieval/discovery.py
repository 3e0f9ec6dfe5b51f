"""Which index a command means that names none: ``.flatcoat`` of the folder or of one above it, as git has it.

The search goes up to the root of the repository, or of the file system where there is no repository. An index
remembers where it was when its owner named its sources: one that was moved or copied since is never used
silently, since its documents may be those of another folder.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import ConflictError, NotFoundError
from flatcoat.indexing.store.source_paths import located

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store

    from .retriever import Retriever

FOLDER = ".flatcoat"
_DATABASE = "index.sqlite"
_REPOSITORY = ".git"  # A file in a worktree or submodule.


class Target(NamedTuple):
    """The index that is to be written (of a collection its URL), and the roots to name.

    Without roots all its sources are meant.
    """

    folder: Path | str
    roots: Sequence[str | Path]


def repository_of(folder: Path) -> Path | None:
    """The root of the git repository, worktree or submodule around a folder; None outside of any."""
    return next((above for above in _upwards(folder) if os.path.lexists(above / _REPOSITORY)), None)


def find_index(folder: Path | None = None) -> Path | None:
    """The nearest ``.flatcoat`` that is an index, from a folder (here) up to the root of its repository."""
    for above in _upwards(folder or Path.cwd()):
        if (above / FOLDER / _DATABASE).is_file():
            return above / FOLDER
        if os.path.lexists(above / _REPOSITORY):
            break
    return None


def required_index() -> Path:
    """The index that ``find_index`` finds here; NotFoundError, which says what to do, where there is none."""
    found = find_index()
    if found is None:
        root = repository_of(Path.cwd())
        where = f"{Path.cwd()} has no {FOLDER}"
        if root is not None and root != Path.cwd():
            where = f"no folder from {Path.cwd()} up to its repository {root} has a {FOLDER}"
        raise NotFoundError(f"there is no index here, {where}: make one with flatcoat index, or give --index")
    return found


def open_index(named: Path | str | None, model: str | None = None) -> "Retriever":
    """The index that was named, or the one found here, which must be in its place. Raises as both."""
    from .retriever import Retriever

    retriever = Retriever.open(named or required_index(), model)
    if named is None:
        require_in_place(retriever.store)
    return retriever


def require_in_place(store: "Store") -> None:
    """ConflictError where an index has no sources, or is not in the place for which they were named."""
    if not is_in_place(store):
        raise ConflictError(f"{_moved(store)}: run flatcoat index to make it this folder's, or give --index")


def is_in_place(store: "Store") -> bool:
    """Whether an index is where it was when its sources were named."""
    return store.location == located(store.path)


def target_of(named: Path | str | None, roots: Sequence[str | Path]) -> Target:
    """What ``flatcoat index`` writes: the index that was named or is found, or a new one around here.

    A new one is of the repository, or of this folder outside of any. An index that was moved or copied names
    its sources anew. ConflictError where another user made it, or this user on another machine.
    """
    if named is not None:
        return Target(named, roots)
    index = find_index()
    if index is None:
        home = repository_of(Path.cwd()) or Path.cwd()
        return Target(home / FOLDER, roots or [home])
    return Target(index, roots or _known_roots(index))


def take_over(store: "Store") -> str | None:
    """Check an index that was found and is to be written; says so in a line where it was moved or copied.

    ConflictError where another user made it, or this user on another machine: its documents and its model
    are theirs.
    """
    if is_in_place(store):
        return None
    sources = store.sources()
    if sources and not any(source.is_own for source in sources):
        raise ConflictError(
            f"{store.path} was made by another user or on another machine: delete it to make your own, or "
            "give it with --index"
        )
    return f"{_moved(store)}: it is made the index of this folder" if sources else None


def make_folder(index: Path) -> None:
    """Make the folder of a new index that nobody named, which git does not see."""
    index.mkdir(exist_ok=True)
    (index / ".gitignore").write_text("*\n", encoding="utf-8")


def _known_roots(index: Path) -> Sequence[str | Path]:
    from flatcoat.indexing.store.sources import place
    from flatcoat.indexing.store.store import Store

    with Store.open(index) as store:
        sources = store.sources()
        if sources and is_in_place(store):
            return []
        roots = [place(index, source) for source in sources if source.is_own and source.path != "-"]
    return [root for root in roots if isinstance(root, str) or root.exists()] or [index.parent]


def _moved(store: "Store") -> str:
    if not store.sources():
        return f"{store.path} has no folder or file as its source yet"
    if store.location is None:
        return f"{store.path} does not say of which folder it is the index"
    return f"{store.path} was made as {store.location}, and was moved or copied here"


def _upwards(folder: Path) -> Iterator[Path]:
    folder = folder.resolve()
    return iter((folder, *folder.parents))
