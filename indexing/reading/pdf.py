"""The text of a PDF, page after page."""

import logging
from io import BytesIO
from typing import TYPE_CHECKING

from flatcoat.indexing.documents import Heading

from .extracted import Extracted, Unreadable, cleaned

if TYPE_CHECKING:
    from pypdf import PdfReader

logger = logging.getLogger(__name__)

_MOST_TEXT = 10_000_000  # characters; a small file may hold one page a thousand times


def pdf_text(data: bytes) -> Extracted:
    """The texts of all pages with text; the pages are the outline.

    Raises Unreadable where the file is encrypted or broken, has only pictures, or pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, FileNotDecryptedError
    except ImportError as error:
        raise Unreadable("a PDF: pip install flatcoat[pdf]") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # It warns of each oddity of each file.
    try:
        pages = _pages(PdfReader(BytesIO(data)))
    except (FileNotDecryptedError, DependencyError) as error:
        raise Unreadable("an encrypted PDF") from error
    except Unreadable:
        raise
    except Exception as error:  # A broken file makes pypdf raise errors of any kind.
        logger.debug("pypdf cannot read a PDF", exc_info=True)
        raise Unreadable(f"a broken PDF: {error or type(error).__name__}") from error
    outline, line = [], 1
    for number, text in enumerate(pages, start=1):
        if text.strip():
            outline.append(Heading(line, 1, f"page {number}"))
            line += text.count("\n") + 1
    if not outline:
        raise Unreadable("a PDF without text: scanned pages?")
    return Extracted("\n".join(text for text in pages if text.strip()), outline=tuple(outline))


def _pages(reader: "PdfReader") -> list[str]:
    pages, size = [], 0
    for page in reader.pages:
        pages.append(cleaned(page.extract_text()).strip("\n"))
        size += len(pages[-1])
        if size > _MOST_TEXT:
            raise Unreadable(f"over {_MOST_TEXT:,} characters")
    return pages
