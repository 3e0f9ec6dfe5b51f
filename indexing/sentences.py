"""Where sentences end."""

import re

_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』”’）]*\s*")
_ENDING = re.compile(r"[.!?…。！？]+[\"'”’»)\]」』）*_`]*\s*$")
_ABBREVIATION = re.compile(
    r"al|approx|ca|capt|cf|chs?|col?|corp|dept|dr|eds?|eqs?|esp|est|etc|figs?|gen|gov|inc|jr|ltd?|max|min"
    r"|m(?:r|rs|s)|nos?|op|pp?|prof|refs?|rev|secs?|sen|sr|st|ver|viz|vols?|vs|[^\W\d_](?:\.[^\W\d_])*",
    re.IGNORECASE,
)
"""Initials and "e.g." too."""


def sentences(text: str) -> list[str]:
    """``text`` cut after each sentence, spaces kept at its end.

    A sentence ends at . ! ? or … with closing quotes before a space and what is no small letter, and at
    。！？ alone. Common abbreviations, initials and "e.g." end none.
    """
    starts = [0]
    for match in _END.finditer(text):
        start = match.end()
        if start < len(text) and not text[start].islower() and not _abbreviates(text, match.start()):
            starts.append(start)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def ends_sentence(line: str) -> bool:
    """True where a sentence ends with ``line``."""
    end = line.rstrip()[-30:]
    ending = _ENDING.search(end)
    return bool(ending) and not _abbreviates(end, ending.start())


def _abbreviates(text: str, end: int) -> bool:
    """True where the mark at ``end`` is a full stop that belongs to the word before it."""
    if text[end] != "." or text[end : end + 2] == "..":
        return False
    word = text[text.rfind(" ", max(0, end - 20), end) + 1 : end].lstrip("(['\"“‘«")
    return bool(_ABBREVIATION.fullmatch(word))
