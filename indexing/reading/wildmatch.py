"""The patterns of .gitignore as regular expressions over bytes, as git's wildmatch.c and dir.c read them.

A star, a question mark or a class never matches a slash; two stars between slashes match any folders. Names
are bytes, as in git, where a question mark is one byte. No pattern takes time that grows with a power of the
number of its stars: what stands between two stars is sought once, from the left, in an atomic group.
"""

import re
import string

_SPECIAL = rb"*?[\\"
_NO_SLASH = frozenset(range(256)) - {ord("/")}
_ONE = b"[^/]"
_STARTS_BRACKET, _ENDS_BRACKET, _ESCAPE, _DASH = b"[]\\-"


def _bytes_of(letters: str) -> frozenset[int]:
    return frozenset(letters.encode())


_PRINTED = frozenset(range(0x20, 0x7F))
_NAMED = {
    b"alnum": _bytes_of(string.ascii_letters + string.digits),
    b"alpha": _bytes_of(string.ascii_letters),
    b"blank": _bytes_of(" \t"),
    b"cntrl": frozenset({*range(0x20), 0x7F}),
    b"digit": _bytes_of(string.digits),
    b"graph": _PRINTED - {0x20},
    b"lower": _bytes_of(string.ascii_lowercase),
    b"print": _PRINTED,
    b"punct": _bytes_of(string.punctuation),
    b"space": _bytes_of(" \t\n\r"),  # as git's own isspace has it
    b"upper": _bytes_of(string.ascii_uppercase),
    b"xdigit": _bytes_of(string.hexdigits),
}


def pattern_regex(pattern: bytes) -> bytes | None:
    """A regular expression that matches as a whole the paths or names that ``pattern`` does; None for none.

    ``pattern`` is one without the marks of an ignore file: without ``!``, and without a slash at either end.

    >>> re.fullmatch(pattern_regex(b"src/**/*.py"), b"src/a/b/c.py") is not None
    True
    """
    literal = _literal_length(pattern)
    # git compares what comes before the first wildcard by itself: two stars behind it begin a pattern.
    rest = _Translator(pattern[literal:]).regex()
    return None if rest is None or not pattern else re.escape(pattern[:literal]) + rest


def _literal_length(pattern: bytes) -> int:
    return next((at for at, byte in enumerate(pattern) if byte in _SPECIAL), len(pattern))


class _Malformed(Exception):
    """What git never matches with anything: a class without an end, a backslash before nothing."""


class _Translator:
    """Reads a pattern from left to right.

    ``_done`` is the expression up to the last two stars, ``_component`` up to the last star, ``_piece`` of
    what follows it. Where another star comes, the first place for the piece is as good as any.
    """

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._at = 0
        self._done = b""
        self._folders = self._component = b""
        self._star = self._piece = b""

    def regex(self) -> bytes | None:
        try:
            while self._at < len(self._pattern):
                self._read()
        except _Malformed:
            return None
        return self._done + self._folders + self._component + self._star + self._piece

    def _read(self) -> None:
        byte = self._pattern[self._at : self._at + 1]
        if byte == b"*":
            self._read_stars()
        elif byte == b"/":
            self._end_component(b"/")
        elif byte == b"[":
            self._piece += self._class()
        else:
            self._piece += _ONE if byte == b"?" else re.escape(self._literal())
            self._at += 1

    def _literal(self) -> bytes:
        """The byte here, or the one behind a backslash here."""
        if self._pattern[self._at] == _ESCAPE:
            self._at += 1
            if self._at == len(self._pattern):
                raise _Malformed
        return self._pattern[self._at : self._at + 1]

    def _read_stars(self) -> None:
        start, pattern = self._at, self._pattern
        while pattern[self._at : self._at + 1] == b"*":
            self._at += 1
        rest = pattern[self._at : self._at + 2]
        begins = start == 0 or pattern[start - 1 : start] == b"/"
        if self._at - start > 1 and begins and (not rest or rest[:1] == b"/" or rest == b"\\/"):
            self._any_folders(rest)
        elif self._star:
            self._component += b"(?>" + self._star + b"?" + self._piece + b")"
            self._star, self._piece = b"[^/]*", b""
        else:
            self._component += self._piece
            self._star, self._piece = b"[^/]*", b""

    def _any_folders(self, rest: bytes) -> None:
        """Two stars between slashes: any folders or none; at the end anything."""
        self._end_component(b"")
        if self._folders:
            self._done += b"(?>" + self._folders + b"?" + self._component + b")"
        else:
            self._done += self._component
        self._component = b""
        if not rest:
            self._folders = b".*"
        else:
            self._folders = b"(?:[^/]*/)*" if rest[:1] == b"/" else b"(?:[^/]*/)+"
            self._at += 1 if rest[:1] == b"/" else 2

    def _end_component(self, slash: bytes) -> None:
        self._component += self._star + self._piece + slash
        self._star = self._piece = b""
        self._at += len(slash)

    def _class(self) -> bytes:
        """The class that begins here, as a class of the bytes that it stands for."""
        self._at += 1
        negated = self._pattern[self._at : self._at + 1] in (b"!", b"^")
        self._at += negated
        members, last = set[int](), -1
        is_first = True
        while is_first or self._byte() != _ENDS_BRACKET:
            is_first = False
            last = self._member(members, last)
            self._at += 1
        self._at += 1
        found = (_NO_SLASH - members) if negated else (members - {ord("/")})
        return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(found)) + b"]" if found else b"(?!)"

    def _byte(self) -> int:
        if self._at >= len(self._pattern):
            raise _Malformed
        return self._pattern[self._at]

    def _member(self, members: set[int], last: int) -> int:
        """Add what stands here to a class; returns the byte with which a range may begin, -1 for none."""
        byte, after = self._byte(), self._pattern[self._at + 1 : self._at + 2]
        if byte == _DASH and last >= 0 and after not in (b"", b"]"):
            self._at += 1
            members.update(range(last, self._literal()[0] + 1))
            return -1
        if byte == _STARTS_BRACKET and after == b":":
            end = self._pattern.find(b"]", self._at + 2)
            if end < 0:
                raise _Malformed
            name = self._pattern[self._at + 2 : end]
            if name.endswith(b":"):
                if name[:-1] not in _NAMED:
                    raise _Malformed
                members |= _NAMED[name[:-1]]
                self._at = end
                return -1
        byte = self._literal()[0] if byte == _ESCAPE else byte
        members.add(byte)
        return byte
