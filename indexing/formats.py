"""Text out of a file's bytes: plain text, code, HTML, notebooks and PDF."""

from pathlib import PurePosixPath

from .decoding import decode
from .extracted import Extracted, Unreadable, cleaned
from .languages import PROSE, language_of

LONGEST_LINE = 20_000
"""Characters. Lines of code and data that are longer were written by a machine, for one."""

_CUT_OUT = "…"


def extract(name: str, data: bytes, encoding: str | None = None) -> Extracted:
    """The text of a file called ``name``, and its language; Unreadable, and why, where there is none.

    ``encoding`` is the charset of what is text; by default it is told from the bytes. Lines of code over
    LONGEST_LINE are cut out.
    """
    suffix, lang = PurePosixPath(name).suffix.lower(), language_of(name)
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        from .pdf import pdf_text

        extracted = pdf_text(data)
    elif suffix == ".ipynb":
        from .notebooks import notebook_text

        extracted = notebook_text(cleaned(decode(data, encoding)))
    elif lang == "html":
        from .html_text import html_text

        extracted = html_text(cleaned(decode(data, encoding)))
    else:
        text = cleaned(decode(data, encoding))
        extracted = Extracted(text if lang in PROSE else _by_people(text))
    if not extracted.text.strip() and not extracted.title:
        raise Unreadable("empty")
    return extracted._replace(lang=extracted.lang or lang)


def _by_people(text: str) -> str:
    """``text`` with a mark in place of each line that is too long, as deeply indented, for the parser's sake.

    Unreadable unless there are more other lines than those.
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
