"""Code search pairs mined from installed Python source: a docstring's first sentence and its function.

In 70% of the pairs the docstring is removed from the function, so that a model learns to read code.
In the rest it stays, because real code is searched with its docstrings in it.
"""

import ast
import importlib.metadata
import logging
import re
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from flatcoat.errors import ConflictError, NotFoundError

from .files import Pair

logger = logging.getLogger(__name__)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_STDLIB_SKIPPED = {"test", "tests", "idlelib", "turtledemo", "lib2to3", "site-packages", "dist-packages"}
_SKIPPED = {"test", "tests", "testing", "_vendor", "vendored", "third_party", "extern", "externals"}

_PERMISSIVE = re.compile(
    r"""(the\ )?(
        mit | mit-cmu | 0bsd | unlicense | isc | hpnd | zlib | zlib/libpng
        | ((new|modified|[23]-clause)\ )?bsd([-\ ][23]-clause)?
        | apache(\ software)?(\ license)?,?(\ version)?([-\ ]2(\.0)?)?
        | psf(-2\.0)? | python(-2\.0)? | python\ software\ foundation
        | historical\ permission\ notice\ and\ disclaimer
    )(\ licen[cs]e)?(\ \(\w+\)?)?""",
    re.VERBOSE | re.IGNORECASE,
)

_MIN_BODY_LINES = 3
_MAX_CHARACTERS = 4_000
_WORDS = range(3, 41)
_MIN_LETTERS = 0.8
_REMOVED_IN_TEN = 7

_MARKUP = [
    (re.compile(r":(?:[\w+-]+:)+`~?[\w.]*?\.?(\w+(?:\(\))?)`"), r"\1"),  # :class:`~torch.nn.Linear`
    (re.compile(r":(?:[\w+-]+:)+`([^`<]*?)(?:\s*<[^>]*>)?`"), r"\1"),  # :ref:`text <target>`
    (re.compile(r"`([^`<]+?)\s*<[^>]*>`_*"), r"\1"),  # `text <url>`_
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),  # [text](url)
    (re.compile(r"\[`~?([^`\]]*)`\]"), r"\1"),  # [`Trainer`]
    (re.compile(r"`[~_]*|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)"), ""),
    (re.compile(r"\s+"), " "),
]
# A blank line, a list, a field or a section ends the summary.
_SUMMARY_END = re.compile(
    r"\n\s*(?=\n|[-*+] |[:@](?:param|return|r?type|arg|raise)|\w+ ?:\s|(?:Args|Parameters|Returns?)\b)"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[a-z]\.[a-z]\.)\s+(?=[A-Z])")
_NO_QUERY = re.compile(
    r"^[^a-z]|^\w+ ?(\(.*\).*)?:|^(todo|fixme|xxx|deprecated)\b|>>>|->|https?:|[\\={}|]|-{3}|%\("
    r"|^see (?!if|whether)|^this is the configuration class",
    re.IGNORECASE,
)


def docstring_pairs(
    packages: Sequence[str], *, max_pairs: int | None = None, counts: Counter[str] | None = None
) -> Iterator[Pair]:
    """Pairs of a docstring's first sentence and the source it describes, package by package.

    A package is "python", the standard library of this interpreter, or the name of an installed
    distribution. Functions come whole, classes as their signature and the ``def`` lines of their methods.
    The order is the same every time. A query or body is mined once; memory holds only hashes of them.
    ``counts``, where given, is kept up to date: the number of pairs per package.

    Raises at the call: NotFoundError for a package that is not installed, ConflictError for one whose
    metadata name no licence or one that is not permissive.

    >>> pair = next(docstring_pairs(["python"]))
    >>> len(pair.query.split()) >= 3 and "def " in pair.document
    True
    """
    files = [(package, source_files(package)) for package in packages]
    seen: set[bytes] = set()
    counts = Counter() if counts is None else counts
    counts.update(dict.fromkeys(packages, 0))

    def mined() -> Iterator[Pair]:
        for package, paths in files:
            for pair in _mined(package, paths, seen):
                counts[package] += 1
                yield pair

    return islice(mined(), max_pairs)


def source_files(package: str) -> list[Path]:
    """The Python files of a package, sorted, without tests and vendored code; raises as above."""
    if package == "python":
        root, skipped = Path(sysconfig.get_path("stdlib")), _STDLIB_SKIPPED
        files = {path.relative_to(root): path for path in root.rglob("*.py")}
    else:
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise NotFoundError(
                f"no installed package {package!r}: pip install it, or leave it out"
            ) from error
        _check_licence(package, distribution)
        skipped = _SKIPPED | {".."}
        files = {Path(f): Path(str(f.locate())) for f in distribution.files or () if f.suffix == ".py"}
    return [files[path] for path in sorted(files) if skipped.isdisjoint(path.parts[:-1])]


def _check_licence(package: str, distribution: importlib.metadata.Distribution) -> None:
    """Every licence that the metadata name must be permissive, also where an "OR" leaves the choice."""
    metadata = distribution.metadata.json
    claims = [str(metadata.get("license_expression", ""))]
    if claims == [""]:
        claims = [c.split(" :: ")[-1] for c in metadata.get("classifier", []) if c.startswith("License :: ")]
        # A licence field of many lines is the text of the licence: it is too free a form to be judged here.
        claims += [text for text in [str(metadata.get("license", ""))] if text and "\n" not in text]
    names = [name.strip("() ") for claim in claims for name in re.split(r"\s(?:AND|OR)\s", claim)]
    if not names or not all(map(_PERMISSIVE.fullmatch, names)):
        found = "; ".join(claims) or "none in its metadata"
        raise ConflictError(f"{package}: licence not known to be permissive, found: {found}: leave it out")


def _mined(package: str, files: Sequence[Path], seen: set[bytes]) -> Iterator[Pair]:
    unparsed = 0
    for path in files:
        try:
            with tokenize.open(path) as file:
                source = file.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError, RecursionError):
            unparsed += 1
            continue
        yield from _file_pairs(tree, source.split("\n"), seen, path)
    logger.info("%s: %d files, %d of them skipped because they do not parse", package, len(files), unparsed)


def _file_pairs(tree: ast.Module, lines: Sequence[str], seen: set[bytes], path: Path) -> Iterator[Pair]:
    for node in ast.walk(tree):
        if not isinstance(node, _Definition) or re.fullmatch(r"__\w+__", node.name):
            continue
        docstring = ast.get_docstring(node)
        query = first_sentence(docstring) if docstring else None
        if query is None:
            continue
        source = _definition_source(node, lines)
        hashes = {_hash(query.lower()), _hash(source.body)}
        if _code_lines(source.body) < _MIN_BODY_LINES or not seen.isdisjoint(hashes):
            continue
        seen |= hashes
        yield Pair(query, source.document(), f"{path}:{node.lineno}")


class _Source(NamedTuple):
    signature: str
    docstring: str
    body: str

    def document(self) -> str:
        """The source, cut at a line, without its docstring where the hash of the source says so."""
        removed = _hash("".join(self))[0] * 10 // 256 < _REMOVED_IN_TEN
        document = self.signature + ("" if removed else self.docstring) + self.body
        if len(document) > _MAX_CHARACTERS:
            document = document[:_MAX_CHARACTERS].rsplit("\n", maxsplit=1)[0]
        return document.strip("\n")


def _definition_source(node: _Definition, lines: Sequence[str]) -> _Source:
    """The dedented source of a definition whose first statement is its docstring."""
    start, docstring, margin = _first_line(node), node.body[0], lines[node.lineno - 1][: node.col_offset]

    def text(first: int, last: int | None) -> str:
        return "".join(line.removeprefix(margin) + "\n" for line in lines[first - 1 : last])

    if isinstance(node, ast.ClassDef):
        methods = [child for child in node.body if isinstance(child, _FUNCTIONS)]
        body = "".join(text(m.lineno, max(m.lineno, _first_line(m.body[0]) - 1)) for m in methods)
    else:
        body = text((docstring.end_lineno or 0) + 1, node.end_lineno)
    return _Source(text(start, docstring.lineno - 1), text(docstring.lineno, docstring.end_lineno), body)


def _first_line(node: ast.stmt) -> int:
    """The line, from 1, at which a statement starts, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _code_lines(body: str) -> int:
    return sum(1 for line in body.split("\n") if line.strip() and not line.lstrip().startswith("#"))


def first_sentence(docstring: str) -> str | None:
    """The first sentence of a docstring as plain text, or None where it is no use as a query.

    Of use are 3 to 40 words that are mostly ASCII letters: no markup, code, section heading or TODO.
    """
    sentence = _SUMMARY_END.split(docstring.strip(), maxsplit=1)[0]
    for pattern, plain in _MARKUP:
        sentence = pattern.sub(plain, sentence)
    sentence = _SENTENCE_END.split(sentence, maxsplit=1)[0].strip(" .:")
    characters = sentence.replace(" ", "")
    letters = sum(character.isascii() and character.isalpha() for character in characters)
    if len(sentence.split()) not in _WORDS or letters < _MIN_LETTERS * len(characters):
        return None
    return None if _NO_QUERY.search(sentence) else sentence


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="replace"), digest_size=8).digest()
