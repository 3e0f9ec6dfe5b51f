"""Documents from a folder, a file, rows, a data set or standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from flatcoat.errors import NotFoundError, UsageError
from flatcoat.indexing.documents import Document, Metadata

from .charset import decode, require_encoding
from .columns import USUAL, Columns
from .content import content_of
from .extracted import Extracted, Unreadable, cleaned
from .gitignore import MAX_BYTES, UNREADABLE, File, OnSkip, list_files, log_skip, printable
from .languages import PROSE, language_of
from .rows import is_rows, read_dataset, read_rows
from .seen_ids import SeenIds

STDIN = "-"
DATASETS = "datasets:"
LONGEST_LINE = 20_000
"""Characters. Longer lines of code and data were written by a machine, for one."""

_CUT_OUT = "…"
_FIRST_LINE = 256  # bytes, of which the first line of a script has fewer


def read_documents(
    path: str | Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: bool = False,
    columns: Columns = USUAL,
    on_skip: OnSkip = log_skip,
    max_bytes: int = MAX_BYTES,
    encoding: str | None = None,
    seen: SeenIds | None = None,
) -> Iterator[Document]:
    """Read the documents of ``path`` one at a time, in a fixed order.

    A file of rows (``read_rows``), a BEIR folder or a data set ("datasets:NAME[:CONFIG[:SPLIT]]",
    ``read_dataset``) gives one document per row, whose parts ``columns`` names. Any other folder gives one
    document per file of ``list_files`` (which ``include``, ``exclude`` and ``hidden`` choose), with its path
    in the folder as id; a single file gives one document with its name as id; "-" reads standard input, with
    the id "stdin". Files and rows that are left out are reported to ``on_skip`` with the reason, and logged
    by default. ``max_bytes`` limits texts, not files of rows. ``encoding`` is the charset of text files and
    rows; by default it is detected. Ids of rows and of standard input are added to ``seen``. Raises
    NotFoundError where ``path`` is missing, UsageError for a malformed pattern or an unknown encoding, and
    for rows as ``read_rows`` does.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "sky.md").write_text("The sky is blue.")
    >>> [(document.id, document.text) for document in read_documents(folder)]
    [('sky.md', 'The sky is blue.')]
    """
    name, path = str(path), Path(path)
    is_dataset = name.startswith(DATASETS)
    require_encoding(encoding)
    if not is_dataset and name != STDIN and not _exists(path):
        raise NotFoundError(f"{printable(name)} does not exist: give a folder, a file, - or datasets:NAME")
    if (include or exclude) and (is_dataset or name == STDIN or is_rows(path)):
        raise UsageError(f"{printable(name)} is no folder of files: include and exclude choose among those")
    if name == STDIN:
        return _read_stdin(on_skip, max_bytes, encoding, seen)
    if is_dataset:
        return read_dataset(name.removeprefix(DATASETS), columns, on_skip=on_skip, seen=seen)
    if is_rows(path):
        return read_rows(path, columns, on_skip=on_skip, encoding=encoding, seen=seen)
    files = list_files(path, include, exclude=exclude, hidden=hidden, on_skip=on_skip, max_bytes=max_bytes)
    return _read_all(files, on_skip, max_bytes, encoding)


def read_file(file: File, max_bytes: int = MAX_BYTES, *, encoding: str | None = None) -> Document | str:
    """The document of a file, or why it is skipped; ``encoding`` is its charset, by default detected."""
    try:
        data = _read_bytes(file.path, max_bytes)
        return _document(file.name, data, encoding)
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror}"
    except Unreadable as error:
        return str(error)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name too long, a folder closed
        raise NotFoundError(f"{printable(str(path)):.200} cannot be read: {error.strerror}") from error


def _read_all(
    files: Iterator[File], on_skip: OnSkip, max_bytes: int, encoding: str | None
) -> Iterator[Document]:
    for file in files:
        document = read_file(file, max_bytes, encoding=encoding)
        if isinstance(document, str):
            on_skip(file.name, document)
        else:
            yield document


def _read_stdin(
    on_skip: OnSkip, max_bytes: int, encoding: str | None, seen: SeenIds | None
) -> Iterator[Document]:
    try:
        document = _document("stdin", _limited(sys.stdin.buffer, max_bytes), encoding)
    except Unreadable as error:
        on_skip("stdin", str(error))
        return
    if seen is not None:
        seen.add(document.id)
    yield document


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():  # A pipe or device would be waited for forever.
        raise Unreadable("not a regular file" if path.exists() else "gone")
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        data = _limited(file, max_bytes)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unreadable("changed while it was read")
    return data


def _limited(file: IO[bytes], max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Unreadable(f"over {max_bytes:,} bytes")
    return data


def _document(name: str, data: bytes, encoding: str | None) -> Document:
    text, title, lang, outline = extract(name, data, encoding=encoding)
    metadata: Metadata = {"path": name, "lang": lang, "content": content_of(name, lang)}
    return Document(name, text, title or name, metadata, outline)


def extract(name: str, data: bytes, *, encoding: str | None = None) -> Extracted:
    """The text of a file called ``name``, and its language (by ``language_of``).

    ``encoding`` is the charset of text; by default it is detected. Lines of code over LONGEST_LINE are cut
    out. Raises Unreadable where there is no text, with the reason.

    >>> extract("a.py", b"x = 1")
    Extracted(text='x = 1', title='', lang='python', outline=())
    """
    first_line = data[:_FIRST_LINE].partition(b"\n")[0].decode("latin-1")
    suffix, lang = PurePosixPath(name).suffix.lower(), language_of(name, first_line)
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        from .pdf import pdf_text

        extracted = pdf_text(data)
    elif suffix == ".ipynb":
        from .notebooks import notebook_text

        extracted = notebook_text(cleaned(decode(data, encoding)))
    elif lang == "html":
        from .html import html_text

        extracted = html_text(cleaned(decode(data, encoding)))
    else:
        text = cleaned(decode(data, encoding))
        extracted = Extracted(text if lang in PROSE else _by_people(text))
    if not extracted.text.strip() and not extracted.title:
        raise Unreadable("empty")
    return extracted._replace(lang=extracted.lang or lang)


def _by_people(text: str) -> str:
    """``text`` with a mark, indented alike for the parser's sake, in place of each line that is too long.

    Unreadable where most lines are too long.
    """
    lines = text.split("\n")
    long = [number for number, line in enumerate(lines) if len(line.strip()) > LONGEST_LINE]
    if not long:
        return text
    if sum(bool(line.strip()) for line in lines) <= 2 * len(long):
        raise Unreadable("machine-written")
    for number in long:
        line = lines[number]
        lines[number] = line[: len(line) - len(line.lstrip())][:LONGEST_LINE] + _CUT_OUT
    return "\n".join(lines)
