"""A pattern that the text of a passage must match: a regular expression, or a fixed string."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import normalized

if TYPE_CHECKING:
    import regex

Case = Literal["smart", "sensitive", "ignore"]
"""Whether capitals count: "smart" is as in ripgrep, where a pattern has a capital letter."""

Span = tuple[int, int]

MOST_SECONDS = 10.0
"""For all texts of a search: patterns such as (a+)+b may take time that doubles with every letter."""

_EACH_SECONDS = 50e-6  # which each text adds, so that no ordinary pattern is refused in a large index

_NO_LETTERS = re.compile(r"\\[pP](\{[^}]*\}|.)|\\.|\(\?P?<[^>=!]*>|\(\?P[=>][^)]*\)|\[:\w+:\]", re.DOTALL)


@dataclass(frozen=True)
class TextPattern:
    """What a text must match: ``regex``, ``fixed``, or both. ``^`` and ``$`` match at every line.

    Raises UsageError for a pattern that is malformed, empty or no text.

    >>> TextPattern(fixed="otter").spans()("Two Otters")
    (4, 9)
    """

    regex: str | None = None
    fixed: str | None = None
    case: Case = "smart"

    def __post_init__(self) -> None:
        for name in ("regex", "fixed"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UsageError(f"{name} is {value!r:.60}: a text that is not empty is wanted")
            object.__setattr__(self, name, value and normalized(value))
        if self.case not in get_args(Case):
            raise UsageError(f"case is {self.case!r:.60}: {', '.join(get_args(Case))} are possible")
        self._compiled()

    def spans(self, most_seconds: float = MOST_SECONDS) -> Callable[[str], Span | None]:
        """A function that gives the place of the first match in a text, or None.

        All its calls together may take ``most_seconds``, and each a little; UsageError beyond.
        """
        compiled, within = self._compiled(), self._holds_fixed()
        left = most_seconds

        def first(text: str) -> Span | None:
            nonlocal left
            found: Span | None = None
            if not within(text):
                return None
            began = time.monotonic()
            for pattern in compiled:
                try:
                    match = pattern.search(text, timeout=max(left, 1e-3))
                except TimeoutError:
                    raise self._too_slow(most_seconds) from None
                if match is None:
                    found = None
                    break
                found = found or match.span()
            left += _EACH_SECONDS - (time.monotonic() - began)
            return found

        return first

    def _too_slow(self, seconds: float) -> UsageError:
        return UsageError(
            f"regex {self.regex!r:.80} takes over {seconds:.0f} s: write it with fewer repetitions inside "
            "repetitions, or narrow the search by a filter"
        )

    def _holds_fixed(self) -> Callable[[str], bool]:
        """Whether a text may hold ``fixed``, in a quarter of the time that an expression needs."""
        fixed = self.fixed or ""
        if not self._ignores_case(fixed):
            return lambda text: fixed in text
        folded = fixed.casefold()
        return lambda text: folded in text.casefold()

    def _compiled(self) -> "list[regex.Pattern[str]]":
        if self.regex is None and self.fixed is None:
            return []
        import regex

        given = [] if self.fixed is None else [(regex.escape(self.fixed), self._ignores_case(self.fixed))]
        if self.regex is not None:
            given.append((self.regex, self._ignores_case(_NO_LETTERS.sub("", self.regex))))
        try:
            return [
                regex.compile(text, regex.MULTILINE | regex.IGNORECASE * ignores) for text, ignores in given
            ]
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise UsageError(
                f"regex {self.regex!r:.80} is malformed: {error!s:.200} (--fixed takes a text as it stands)"
            ) from error

    def _ignores_case(self, letters: str) -> bool:
        if self.case != "smart":
            return self.case == "ignore"
        return not any(letter.isupper() for letter in letters)
