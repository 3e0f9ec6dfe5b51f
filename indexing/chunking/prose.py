"""The structure of prose, by its lines: headings, paragraphs, sentences, definitions by keyword."""

import re
from collections.abc import Iterator, Sequence

from flatcoat.indexing.documents import Heading, Scalar
from flatcoat.indexing.reading.languages import PROSE

from .structure import DEEPEST, LINE, PARAGRAPH, SENTENCE, WORST, Part, Structure, label

_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})\s*$")
_RULE = re.compile(r" {0,3}([!-/:-@\[-`{-~])\1+\s*$")
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]*>|[*`]+|\s\{#[^}]*\}|:\w+:(?=`)")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s")
_DEFINITION = re.compile(
    r"\s*(?:(?:export|default|pub(?:\(\w+\))?|public|private|protected|static|async|abstract|final)\s+)*"
    r"(?:def|class|function|func|fn|impl|interface|struct|enum|trait|module|namespace)\b"
)
_ATTACHED = re.compile(r"\s*(?:@|#|//|/\*|\*|--)")
_LONGEST_HEADING = 300  # characters
_CLOSING = re.compile(r"\s*[)\]}]")
_STOPS = ".!?…‽؟۔॥։።፧។៕།"
"""Marks that end a sentence where a space follows: Latin, Arabic, Indic, Ethiopic, Khmer, Tibetan."""
_WIDE_STOPS = "。！？｡।။"
"""Marks that end a sentence always: Chinese and Japanese, the danda of India, the section of Burmese."""
_CLOSING_MARKS = "\"'”’»)\\]」』｣）】》〉"
_SENTENCE_END = re.compile(
    rf"(?<![{_STOPS}])[{_STOPS}]+[{_CLOSING_MARKS}]*\s+"
    rf"|[{_WIDE_STOPS}]+(?![」』｣]+[とっ])[{_CLOSING_MARKS}]*\s*"  # quoted, then "said" in Japanese
)
_LINE_END_OF_SENTENCE = re.compile(rf"[{_STOPS}{_WIDE_STOPS}]+[{_CLOSING_MARKS}*_`]*\s*$")
_ABBREVIATION = re.compile(
    r"al|approx|ca|capt|cf|chs?|col?|corp|dept|dr|eds?|eqs?|esp|est|etc|figs?|gen|gov|inc|jr|ltd?|max|min"
    r"|m(?:r|rs|s)|nos?|op|pp?|prof|refs?|rev|secs?|sen|sr|st|ver|viz|vols?|vs"
    r"|abb|bd|bzw|evtl|ggf|hrsg|nr|usw|vgl|гг|др|им|рис|руб|см|стр|тыс|ул|डॉ|श्री"
    r"|[^\W\d_](?:\.[^\W\d_])*",
    re.IGNORECASE,
)
"""Words whose full stop ends no sentence (English, German, Russian, Hindi), initials and "e.g." included."""


def text_structure(lines: list[str], lang: Scalar | None, *, outline: Sequence[Heading] = ()) -> Structure:
    """Structure by lines and by the headings of ``outline``, or else of Markdown and reStructuredText.

    >>> [part.label for part in text_structure(["# One", "text", "## Two", "text"], "markdown").parts]
    ['One', 'One > Two']
    """
    fenced = _fenced(lines) if lang == "markdown" else [False] * len(lines)
    headings = list(outline)
    if not headings and lang == "markdown":
        headings = list(_markdown_headings(lines, fenced))
    elif not headings and lang == "restructuredtext":
        headings = list(_rst_headings(lines))
    is_code = not outline and lang is not None and lang not in PROSE
    ranks = _ranks(lines, fenced)
    if lang is not None and lang not in PROSE:
        _rank_definitions(ranks, lines)
    _rank_headings(ranks, lines, headings)
    return Structure(ranks, _parts(headings, len(lines)), is_code=is_code)


def _parts(headings: list[Heading], count: int) -> list[Part]:
    """The parts below headings; each ends before the next heading of the same or an outer level."""
    parts: list[Part] = []
    around: list[int] = []
    for index, heading in enumerate(headings):
        first = heading.line - 1
        while around and headings[around[-1]].level >= heading.level:
            ended = around.pop()
            parts[ended] = parts[ended]._replace(last=max(parts[ended].first, first - 1))
        around.append(index)
        names = [headings[part].name for part in around if headings[part].name]
        parts.append(Part(first, count - 1, label(names, " > ")))
    return parts


def _fenced(lines: list[str]) -> list[bool]:
    """Whether each line is fenced code, including the closing fence but not the opening one."""
    fenced, fence = [], ""
    for line in lines:
        fenced.append(bool(fence))
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and match[1].startswith(fence) and not line[match.end() :].strip():
            fence = ""
    return fenced


def _markdown_headings(lines: list[str], fenced: list[bool]) -> Iterator[Heading]:
    first = _after_front_matter(lines)
    for number in range(first, len(lines)):
        line = lines[number]
        heading = None if fenced[number] else _HEADING.match(line)
        if heading:
            yield Heading(number + 1, len(heading[1]), _plain(_unclosed(line[heading.end() :])))
        elif (
            number > first
            and not fenced[number]
            and (underline := _SETEXT.match(line))
            and _is_paragraph(lines[number - 1])
            and (number - 1 == first or not lines[number - 2].strip())
        ):
            yield Heading(number, 1 if underline[1][0] == "=" else 2, _plain(lines[number - 1]))


def _after_front_matter(lines: list[str]) -> int:
    if lines[0].rstrip() == "---" and "---" in (rest := [line.rstrip() for line in lines[1:]]):
        return rest.index("---") + 2
    return 0


def _is_paragraph(line: str) -> bool:
    return bool(line.strip()) and not re.match(r"\s*(?:[-*+>|#=]|\d+[.)]\s|```|~~~)|\s{4}", line)


def _rst_headings(lines: list[str]) -> Iterator[Heading]:
    """Titles with a rule below, and perhaps above; levels are numbered as their styles first appear."""
    styles: list[tuple[str, bool]] = []
    for number in range(1, len(lines)):
        rule, title = _RULE.match(lines[number]), lines[number - 1]
        if not rule or not title.strip() or _RULE.match(title):
            continue
        above = lines[number - 2].rstrip() if number > 1 else ""
        overlined = above == lines[number].rstrip()
        if (above and not overlined) or len(title.rstrip()) > len(lines[number].rstrip()) + 2:
            continue
        if title[0].isspace() and not overlined:
            continue
        if (style := (rule[1], overlined)) not in styles:
            styles.append(style)
        yield Heading(number - overlined, styles.index(style) + 1, _plain(title))


def _unclosed(name: str) -> str:
    """A heading without the closing # that Markdown allows."""
    bare = name.strip().rstrip("#")
    return bare if not bare or bare[-1].isspace() else name


def _plain(name: str) -> str:
    """A heading without its markup."""
    return " ".join(_MARKUP.sub(lambda match: match[1] or "", name.strip()[:_LONGEST_HEADING]).split())


def _ranks(lines: list[str], fenced: list[bool]) -> list[int]:
    ranks, blank, above = [], True, ""
    for line, inside in zip(lines, fenced, strict=True):
        indent = min(len(line) - len(line.lstrip()), DEEPEST)
        if not line.strip() or _CLOSING.match(line):
            ranks.append(WORST)
        elif blank and not inside and not above.endswith(":"):
            ranks.append(PARAGRAPH + indent)
        elif blank or (not inside and (_ITEM.match(line) or ends_sentence(above))):
            ranks.append(SENTENCE)
        else:
            ranks.append(LINE + indent)
        blank = not line.strip()
        above = above if blank else line.rstrip()
    return ranks


def _rank_headings(ranks: list[int], lines: list[str], headings: list[Heading]) -> None:
    """Break before a heading, never between a heading, its rules and the first line below."""
    below = 0
    for heading in headings:
        number = heading.line - 1
        if number >= below:
            ranks[number] = min(heading.level, PARAGRAPH - 1)
        below = number + 1 + bool(_RULE.match(lines[number]))
        while below < len(lines) and (not lines[below].strip() or _RULE.match(lines[below])):
            below += 1
        ranks[number + 1 : below + 1] = [WORST] * len(ranks[number + 1 : below + 1])
        below += 1


def _rank_definitions(ranks: list[int], lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if _DEFINITION.match(line):
            ranks[number] = WORST
            indent = min(len(line) - len(line.lstrip()), DEEPEST)
            ranks[_start_of_definition(lines, number)] = PARAGRAPH + indent


def _start_of_definition(lines: list[str], number: int) -> int:
    """The line at which the decorators and comments directly above the definition at ``number`` begin."""
    definition = lines[number]
    indent = len(definition) - len(definition.lstrip())
    start = number
    for above in range(number - 1, -1, -1):
        line = lines[above]
        depth = len(line) - len(line.lstrip())
        if not line.strip() or depth < indent:
            break
        if depth == indent and _ATTACHED.match(line):
            start = above
        elif depth == indent and not _CLOSING.match(line):
            break
    return start


def sentences(text: str) -> list[str]:
    """The sentences of ``text``, each with the spaces behind it.

    A sentence ends at . ! ? or … and their like in other scripts with closing quotes, before a space and no
    lower-case letter, and at 。！？ and their like always. Common abbreviations, initials and "e.g." do not
    end one.

    >>> sentences("Dr. Who? Yes. 終わり。次")
    ['Dr. Who? ', 'Yes. ', '終わり。', '次']
    """
    starts = [0]
    for match in _SENTENCE_END.finditer(text):
        start = match.end()
        if start < len(text) and not text[start].islower() and not _abbreviates(text, match.start()):
            starts.append(start)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def ends_sentence(line: str) -> bool:
    """Whether a sentence ends with ``line``."""
    end = line.rstrip()[-30:]
    ending = _LINE_END_OF_SENTENCE.search(end)
    return bool(ending) and not _abbreviates(end, ending.start())


def _abbreviates(text: str, end: int) -> bool:
    """Whether the mark at ``end`` is a full stop that belongs to the word before it."""
    if text[end] != "." or text[end : end + 2] == "..":
        return False
    word = text[text.rfind(" ", max(0, end - 20), end) + 1 : end].lstrip("(['\"“‘«")
    return bool(_ABBREVIATION.fullmatch(word))
