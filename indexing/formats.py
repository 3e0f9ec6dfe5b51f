"""Text out of a file's bytes: plain text, code, HTML, notebooks and PDF."""

from pathlib import PurePosixPath

from .decoding import decode
from .extracted import Extracted, Unreadable, cleaned
from .languages import PROSE, language_of

LONGEST_LINE = 20_000
"""Characters. Code and data with longer lines were written by a machine, for one."""


def extract(name: str, data: bytes) -> Extracted:
    """The text of a file called ``name``, and its language; Unreadable, and why, where there is none."""
    suffix, lang = PurePosixPath(name).suffix.lower(), language_of(name)
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        from .pdf import pdf_text

        extracted = pdf_text(data)
    elif suffix == ".ipynb":
        from .notebooks import notebook_text

        extracted = notebook_text(cleaned(decode(data)))
    elif lang == "html":
        from .html_text import html_text

        extracted = html_text(cleaned(decode(data)))
    else:
        extracted = Extracted(cleaned(decode(data)))
        if lang not in PROSE and max(map(len, map(str.strip, extracted.text.split("\n")))) > LONGEST_LINE:
            raise Unreadable("machine-written")
    if not extracted.text.strip():
        raise Unreadable("empty")
    return extracted._replace(lang=extracted.lang or lang)
