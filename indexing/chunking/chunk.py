"""Chunking: documents split into passages at headings, definitions, paragraphs, sentences and lines."""

from itertools import pairwise
from typing import NamedTuple

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Document, Metadata, Passage, Scalar

from .code import code_structure
from .packing import CountTokens, Packer, Span, even_parts
from .prose import text_structure
from .structure import Structure

_CHARACTERS = 8  # more than most tokens have: longer texts are counted by lines first, not as one


class _Piece(NamedTuple):
    """A span with its text, or a span of one atom with a part of the atom's text."""

    span: Span
    text: str


def chunk(
    document: Document, count_tokens: CountTokens, *, max_tokens: int, overlap: int = 0
) -> list[Passage]:
    """Split ``document`` into passages of at most ``max_tokens``: title, section and special tokens included.

    ``count_tokens`` gives the token counts of a list of texts, special tokens included; it is called a few
    times per document. Each passage is exactly the lines it names, without blank lines at its ends; only a
    line that is too long by itself is split, at the ends of sentences, then at spaces, into parts of similar
    size. All text that is not blank is in exactly one passage, except that a passage of prose may repeat up
    to ``overlap`` tokens of the previous passage of its section. A document that fits is one passage without
    a section. Where the title of a long document fills more than half of ``max_tokens`` it is cut to about
    that half, and sections get the rest of the half. A title without a text is a passage by itself.
    UsageError if ``max_tokens`` is under 1 or ``overlap`` over half of it.

    A passage of code says in its metadata what it defines (``Structure.metadata``), beside the metadata of
    its document, which count where both have a field.

    >>> text = "# Colour\\n\\nIt is blue.\\n\\n# Clouds\\n\\nThey are white."
    >>> document = Document("sky", text, metadata={"lang": "markdown"})
    >>> def count_words(texts):
    ...     return [len(text.split()) for text in texts]
    >>> [(passage.section, passage.lines) for passage in chunk(document, count_words, max_tokens=8)]
    [('Colour', (1, 3)), ('Clouds', (5, 7))]
    """
    if max_tokens < 1:
        raise UsageError(f"passages of {max_tokens} tokens: at least 1 is needed")
    if not 0 <= overlap <= max_tokens // 2:
        raise UsageError(f"an overlap of {overlap} tokens: at most half of the {max_tokens} of a passage")
    if not document.text.strip():
        return _title_alone(document, count_tokens, max_tokens)
    code = None if document.outline else code_structure(document.text, _language(document))
    whole = _whole(document, code)
    likely = len(document.text) <= _CHARACTERS * max_tokens
    if likely and count_tokens([whole.searchable])[0] <= max_tokens:
        return [whole]
    fitting = _Fitting(document, code or _text_structure(document), count_tokens, max_tokens)
    if not likely and fitting.packer.size <= 2 * max_tokens and fitting.fits(whole):
        return [whole]
    return fitting.passages(overlap)


class _Fitting:
    """Splits one document, and splits on until every passage fits."""

    def __init__(
        self, document: Document, structure: Structure, count_tokens: CountTokens, max_tokens: int
    ) -> None:
        self.document, self.count_tokens, self.max_tokens = document, count_tokens, max_tokens
        self.title, most = document.title, max_tokens // 2
        title_size, base = count_tokens([self.title, ""])
        title_size -= base
        if title_size > most:
            self.title, title_size = self.title[: len(self.title) * most // title_size], most
        self.structure = structure
        self.packer = Packer(
            document.text,
            self.structure,
            count_tokens=lambda texts: [max(0, count - base) for count in count_tokens(texts)],
            room=max(1, max_tokens - base - title_size),
            section_room=most - title_size,
        )

    def passages(self, overlap: int) -> list[Passage]:
        spare = 0 if self.structure.is_code else overlap
        pieces = [_Piece(span, self.packer.text(span)) for span in self.packer.spans(spare)]
        pieces = self._fitted(pieces)
        return [self._passage(piece) for piece in (self._overlapped(pieces, spare) if spare else pieces)]

    def fits(self, passage: Passage) -> bool:
        return self.count_tokens([passage.searchable])[0] <= self.max_tokens

    def _passage(self, piece: _Piece) -> Passage:
        lines, section = self.packer.lines(piece.span), self.packer.section(piece.span)
        metadata, own = _metadata(self.document, self.structure, lines)
        return Passage(self.document.id, piece.text, self.title, lines, metadata, section, own)

    def _sizes(self, pieces: list[_Piece]) -> list[int]:
        id, title, section = self.document.id, self.title, self.packer.section
        passages = (Passage(id, piece.text, title, section=section(piece.span)) for piece in pieces)
        return self.count_tokens([passage.searchable for passage in passages])

    def _fitted(self, pieces: list[_Piece]) -> list[_Piece]:
        """Split pieces that are too long as one text: the costs of lines are estimates, this is the count."""
        unsure = list(range(len(pieces)))
        while unsure:
            sizes = dict(zip(unsure, self._sizes([pieces[index] for index in unsure]), strict=True))
            fitted: list[_Piece] = []
            unsure = []
            for index, piece in enumerate(pieces):
                size = sizes.get(index, 0)
                parts = [piece]
                if size > self.max_tokens:
                    parts = self._split(piece, -(-size // self.max_tokens))
                if parts != [piece]:
                    unsure += range(len(fitted), len(fitted) + len(parts))
                fitted += parts
            pieces = fitted
        return pieces

    def _split(self, piece: _Piece, parts: int) -> list[_Piece]:
        """Two pieces, split at a line or sentence, or about ``parts`` pieces of one atom."""
        if piece.span.first == piece.span.last:
            return [piece._replace(text=text) for text in even_parts(piece.text, parts) if text.strip()]
        return [_Piece(span, self.packer.text(span)) for span in self.packer.halve(piece.span)]

    def _overlapped(self, pieces: list[_Piece], overlap: int) -> list[_Piece]:
        longer = pieces[:1]
        for before, piece in pairwise(pieces):
            if piece.text == self.packer.text(piece.span):
                span = self.packer.overlapped(before.span, piece.span, overlap=overlap)
                piece = _Piece(span, self.packer.text(span))
            longer.append(piece)
        sizes = self._sizes(longer)
        return [
            new if size <= self.max_tokens else old
            for old, new, size in zip(pieces, longer, sizes, strict=True)
        ]


def _title_alone(document: Document, count_tokens: CountTokens, max_tokens: int) -> list[Passage]:
    """One passage without text, or none where there is no title; a long title is cut at its end."""
    title = document.title
    while (size := count_tokens([title])[0]) > max_tokens and len(title) > 1:
        title = title[: min(len(title) - 1, len(title) * max_tokens // size)]
    return [Passage(document.id, "", title, (1, 1), document.metadata)] if title.strip() else []


def _whole(document: Document, code: Structure | None) -> Passage:
    lines = document.text.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    first, last = filled[0], filled[-1]
    text = "\n".join(lines[first : last + 1])
    metadata, own = _metadata(document, code, (first + 1, last + 1))
    return Passage(document.id, text, document.title, (first + 1, last + 1), metadata, own=own)


def _metadata(
    document: Document, structure: Structure | None, lines: tuple[int, int]
) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a passage, and the fields of them that are its own."""
    own = structure.metadata(lines[0] - 1, lines[1] - 1) if structure else {}
    added = {field: value for field, value in own.items() if field not in document.metadata}
    return (document.metadata | added, tuple(added)) if added else (document.metadata, ())


def _text_structure(document: Document) -> Structure:
    return text_structure(document.text.split("\n"), _language(document), outline=document.outline)


def _language(document: Document) -> Scalar | None:
    lang = document.metadata.get("lang")
    return None if isinstance(lang, list) else lang
