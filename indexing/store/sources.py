"""Where an index's documents come from: folders, files and rows, and what each file was when it was read.

The ids of a folder's documents are paths below it, those of rows their own, that of a single file its name. A
source whose ids could be those of another puts a prefix before them.
"""

import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.reading.charset import require_encoding
from flatcoat.indexing.reading.columns import Columns
from flatcoat.indexing.reading.gitignore import patterns_spec, printable
from flatcoat.indexing.reading.rows import is_rows

from .schema import read_meta, row_checksum
from .user_secret import user_secret

Root: TypeAlias = Path | str
"""A folder or file, or the name of what is none."""

_BYTES = "bytes:"
"""Before the hexadecimal bytes of a path that no text can hold."""


@dataclass(frozen=True)
class Reading:
    """How a source is read; None stands for what is usual, or for what the source remembers.

    ``include`` and ``exclude`` are patterns of a folder's files as in .gitignore, ``columns`` those of rows,
    ``encoding`` the charset of texts (by default it is detected).
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    columns: Columns | None = None
    encoding: str | None = None

    def validate(self) -> None:
        """FlatcoatError where a pattern is malformed or a charset unknown."""
        for patterns in (self.include, self.exclude):
            patterns_spec(patterns or ())
        require_encoding(self.encoding)

    def over(self, remembered: "Reading") -> "Reading":
        """``remembered``, but for what is given here."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(remembered, **given)

    def for_root(self, root: Root) -> "Reading":
        """What of it concerns a source of this kind."""
        if _is_folder(root):
            return replace(self, columns=None)
        return replace(self, include=None, exclude=None, columns=None if _is_file(root) else self.columns)

    def to_json(self) -> dict[str, Any]:
        """JSON values of what is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def describe(self) -> str:
        """What is given, in words behind the source's path."""
        words = []
        for name, value in self.to_json().items():
            if isinstance(value, dict):
                value = [f"{part}={_joined(columns, '+')}" for part, columns in value.items() if columns]
            words.append(f"{name} {_joined(value, ', ')}")
        return f" ({'; '.join(words)})" if words else ""

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Reading":
        """What ``to_json`` gave; FlatcoatError where it is anything else."""
        try:
            columns = values.get("columns")
            return Reading(
                _texts(values.get("include")),
                _texts(values.get("exclude")),
                columns and _columns(columns),
                values.get("encoding"),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise FlatcoatError(f"a source of the index is read in an unknown way: {values!r:.80}") from error


class Source(NamedTuple):
    """``path`` is relative to the index's folder, so that both can move together.

    What is no file has a name there: "-" is stdin, "datasets:..." a data set. ``state`` is that of a file of
    rows when it was read. ``is_own`` tells whether this user named the source on this machine.
    """

    key: int
    path: str
    prefix: str
    reading: Reading = Reading()
    state: str = ""
    is_own: bool = True


class FileState(NamedTuple):
    """A file as it was read: ``state`` as the reader tells, ``digest`` of its content, why it was skipped."""

    state: str
    digest: str = ""
    skipped: str = ""


def sources(connection: sqlite3.Connection) -> list[Source]:
    """All, in the order in which they came."""
    rows = connection.execute("SELECT key, path, prefix, reading, state, seal FROM sources ORDER BY key")
    return [
        Source(
            key,
            path,
            prefix,
            _reading_of(reading),
            state,
            bool(seal) and hmac.compare_digest(_as_bytes(seal), _as_bytes(_seal(connection, path))),
        )
        for key, path, prefix, reading, state, seal in rows.fetchall()
    ]


def _reading_of(text: Any) -> Reading:
    try:
        return Reading.from_json(json.loads(text))
    except (RecursionError, TypeError, ValueError) as error:
        raise damaged("a source of the index", f"it is read as {text!r:.40}") from error


def _as_bytes(value: object) -> bytes:
    return str(value).encode(errors="surrogatepass")


def place(index: Path, source: Source) -> Root:
    """Where a source's files are now."""
    if is_name(source.path):
        return source.path
    path = (
        os.fsdecode(bytes.fromhex(source.path[len(_BYTES) :]))
        if source.path.startswith(_BYTES)
        else source.path
    )
    return Path(os.path.normpath(index.resolve() / path))


def canonical(root: Root, index: Path) -> Root:
    """A root as ``place`` gives it: absolute, and a link still a link, so that it is followed each time.

    Links in the path to the folder that holds both are resolved, so that root and index can move together.
    """
    if isinstance(root, str):
        return root
    path = _without_dots(root)
    home = index.resolve()
    for parent in (path, *path.parents):
        real = parent.resolve()
        if home.is_relative_to(real):
            return real / path.relative_to(parent)
    return path


def enter(
    connection: sqlite3.Connection, index: Path, roots: Sequence[Root], reading: Reading | None = None
) -> list[Source]:
    """The sources at these places, new ones made; one that has moved away under the same name is found again.

    What ``reading`` gives they remember from now on. FlatcoatError where a root is inside another or holds
    one.
    """
    if reading:
        reading.validate()
    wanted = list(dict.fromkeys(canonical(root, index) for root in roots))
    known = {place(index, source): source for source in sources(connection)}
    alone = sum(isinstance(root, Path) for root in {*known, *wanted}) == 1
    found = []
    for root in wanted:
        source = source_at(known, root)
        if source is None and (moved := _moved(known, root)) is not None:
            source = known[root] = known.pop(moved)._replace(path=_relative(root, index))
        if source is None:
            _check_apart(known, root)
            prefix = "" if alone and _is_folder(root) else _prefix(connection, root, known)
            (key,) = connection.execute("SELECT 1 + coalesce(max(key), 0) FROM sources").fetchone()
            source = known[root] = Source(key, _relative(root, index), prefix)
        remembered = (reading or Reading()).for_root(root).over(source.reading)
        if remembered != source.reading:
            source = source._replace(reading=remembered, state="")
        found.append(source._replace(is_own=True))
        _write(connection, found[-1])
    return found


def source_at(known: Mapping[Root, Source], root: Root) -> Source | None:
    """The source at ``root``, under whatever name: two links may lead to one folder."""
    if root in known or isinstance(root, str):
        return known.get(root)
    real = root.resolve()
    same = (source for path, source in known.items() if isinstance(path, Path) and path.resolve() == real)
    return next(same, None)


def set_state(connection: sqlite3.Connection, source: Source, state: str) -> None:
    """Remember what a file of rows was when all of it had been read."""
    _write(connection, source._replace(state=state))


def file_states(connection: sqlite3.Connection, source: int) -> dict[str, FileState]:
    """By name within the source, of read and of skipped files."""
    read = connection.execute("SELECT name, state, digest FROM documents WHERE source = ?", [source])
    states = {name: FileState(state, digest) for name, state, digest in read}
    skipped = connection.execute("SELECT name, state, reason FROM skipped_files WHERE source = ?", [source])
    return states | {name: FileState(state, skipped=reason) for name, state, reason in skipped}


def as_root(root: object) -> Root:
    """What a user means by ``root``, whether it is there or not; FlatcoatError where it can be nothing."""
    return root if isinstance(root, str) and is_name(root) else as_path(root)


def as_path(path: object) -> Path:
    """A path that there may be; FlatcoatError where it is none, or no system has such names."""
    try:
        path = Path(path)  # type: ignore[arg-type]
        if b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):
        pass
    raise FlatcoatError(f"{str(path)[:80]!a} is no path: the name of a folder or file is needed")


def is_name(path: str) -> bool:
    """Whether a root is no file: stdin, or a data set."""
    return path == "-" or path.startswith("datasets:")


def label(root: Root) -> str:
    """A short name of a root, as it may stand before ids."""
    if isinstance(root, str):
        return "stdin" if root == "-" else root
    return normalized(printable(root.name)) or "root"


def _write(connection: sqlite3.Connection, source: Source) -> None:
    reading = json.dumps(source.reading.to_json(), sort_keys=True)
    seal = _seal(connection, source.path) if source.is_own else ""
    row = source.key, source.path, source.prefix, reading, source.state, seal
    connection.execute(
        "INSERT INTO sources VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(key) DO UPDATE SET"
        " path = ?2, prefix = ?3, reading = ?4, state = ?5, seal = ?6, checksum = ?7"
        " WHERE (path, prefix, reading, state, seal) != (?2, ?3, ?4, ?5, ?6)",
        (*row, row_checksum(*row)),
    )


def _seal(connection: sqlite3.Connection, path: str) -> str:
    """Proof that this user named ``path`` for this index; "" where this user can keep no secret."""
    secret = user_secret()
    content = f"{read_meta(connection, 'uuid')} {path}".encode(errors="surrogatepass")
    return hmac.new(secret, content, hashlib.sha256).hexdigest() if secret else ""


def _columns(values: dict[str, Any]) -> Columns:
    text = values["text"]
    text = text if isinstance(text, str) else _texts(text)
    return Columns(**values | {"text": text, "metadata": _texts(values["metadata"])})


def _joined(value: object, separator: str) -> str:
    return value if isinstance(value, str) else separator.join(value)  # type: ignore[arg-type]


def _texts(came: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if came is None else tuple(map(str, came))


def _without_dots(path: Path) -> Path:
    parts = path.absolute().parts
    if ".." not in parts:
        return Path(*parts)
    last = len(parts) - parts[::-1].index("..")
    return Path(*parts[:last]).resolve().joinpath(*parts[last:])


def _moved(known: Mapping[Root, Source], root: Root) -> Root | None:
    """The one known place of the same name where nothing is any more."""
    if isinstance(root, str):
        return None
    found = [path for path in known if isinstance(path, Path) and path.name == root.name]
    return found[0] if len(found) == 1 and not found[0].exists() else None


def _check_apart(known: Iterable[Root], root: Root) -> None:
    for other in known:
        if isinstance(root, Path) and isinstance(other, Path) and _one_holds_the_other(root, other):
            raise FlatcoatError(f"{root} and {other}, which is in the index, hold the same files: name one")


def _one_holds_the_other(root: Path, other: Path) -> bool:
    one, two = root.resolve(), other.resolve()
    return one in two.parents or two in one.parents


def _relative(root: Root, index: Path) -> str:
    if isinstance(root, str):
        return root
    path = os.path.relpath(root, index.resolve())
    return path if path == printable(path) else _BYTES + os.fsencode(path).hex()


def _is_folder(root: Root) -> bool:
    return isinstance(root, Path) and root.is_dir() and not is_rows(root)


def _is_file(root: Root) -> bool:
    return isinstance(root, Path) and not root.is_dir() and not is_rows(root)


def _prefix(connection: sqlite3.Connection, root: Root, known: Mapping[Root, Source]) -> str:
    """Of a new source: empty where no other can have the same ids."""
    if _is_folder(root):
        return _free_prefix(connection, label(root), known)
    if _is_file(root):
        file = Path(root)
        rivals = any(_is_file(other) and Path(other).name == file.name for other in known)
        return _free_prefix(connection, label(file.parent), known) if rivals else ""
    rivals = any(not _is_folder(other) and not _is_file(other) for other in known)
    return _free_prefix(connection, label(root), known) if rivals else ""


def _free_prefix(connection: sqlite3.Connection, name: str, known: Mapping[Root, Source]) -> str:
    """The name, numbered where another source has it as prefix or an id in the index begins with it."""
    taken = {source.prefix for source in known.values()}
    numbered = (f"{name}/" if number == 1 else f"{name}-{number}/" for number in count(1))
    return next(
        prefix for prefix in numbered if prefix not in taken and not _begins_an_id(connection, prefix)
    )


def _begins_an_id(connection: sqlite3.Connection, prefix: str) -> bool:
    after = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
    query = "SELECT EXISTS (SELECT 1 FROM documents WHERE id >= ? AND id < ?)"
    return bool(connection.execute(query, [prefix, after]).fetchone()[0])
