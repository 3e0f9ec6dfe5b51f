"""The structure of source code, by its syntax tree (tree-sitter)."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.indexing.documents import Scalar

from .definitions import MAX_DEPTH, Definitions
from .grammars import Grammar, grammar
from .parsing import parse
from .structure import DEEPEST, LINE, PARAGRAPH, PREAMBLE, WORST, Part, Structure, label

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_BYTES = 1_000_000
MAX_SECONDS = 5.0  # of this thread's CPU time
MAX_UNCLOSED = 5_000  # "<" without ">", whose parsing takes quadratic time
LEAST_HEADER = 3  # lines: a shorter one stays with what follows

_CLAUSES = {
    *("elif_clause", "else_clause", "except_clause", "finally_clause", "catch_clause", "case_clause"),
    *("else", "elsif", "rescue", "ensure", "when", "catch_block", "finally_block", "elseif_statement"),
    *("else_statement", "elseif_clause", "rescue_block", "else_block", "after_block"),
}
_BODY = re.compile(
    r"module|program|source|source_file|source_code|translation_unit|compilation_unit|ERROR|chunk|document"
    r"|config_file|makefile|haskell|body|recipe|statements|structure|signature|service|then|else"
    r"|preproc_(?:if|ifdef|else|elif)|(?:\w+_)?block|compound_statement|body_statement|do_group"
    r"|\w+_body(?:_\w+)?|(?:\w+_)?declarations|ensure|when|binding_set|braced_expression"
    r"|class_(?:interface|implementation)|protocol_declaration|implementation_definition"
    r"|(?:template_)?element|ContainerDecl|Block"
    r"|(?!argument|parameter|attribute|type_|template_)\w*list|object|object_type|array|dictionary|hash"
    r"|switch_(?:block_statement_group|case|default|section)|case_statement|\w+_case"
)
_CLOSING = re.compile(r"\s*(?:[)\]}]|end\s*$)")
_LICENCE = re.compile(r"copyright|licen[cs]e|spdx|all rights reserved", re.IGNORECASE)


class _Scope(NamedTuple):
    """The part around a node."""

    names: tuple[str, ...] = ()
    first: int = 0
    last: int = -1
    kind: str = ""
    exported: bool = True
    """Whether what is inside it can be used from elsewhere."""


class _Visit(NamedTuple):
    """A node to visit."""

    node: "Node"
    depth: int
    first: int
    """The first line of the node, comments and decorators attached above it included."""
    visible: bool
    """Whether a definition here is exported that says nothing of it."""
    scope: _Scope


def code_structure(text: str, lang: Scalar | None) -> Structure | None:
    """Structure by syntax: definitions with their decorators and comments as parts, statements as breaks.

    None where ``lang`` has no grammar here, or the text is no ordinary code: over MAX_BYTES, nested deeper
    than MAX_DEPTH, with MAX_UNCLOSED or more "<" left open, refused by ``parse``, or MAX_SECONDS and more to
    parse. A text with other syntax errors has the structure that the parser recovers.
    """
    known = grammar(lang)
    if known is None or len(text) > MAX_BYTES:
        return None
    source = text.encode(errors="replace")
    unclosed = source.count(b"<") - source.count(b">")
    if len(source) > MAX_BYTES or unclosed > MAX_UNCLOSED:
        return None
    return _Reader(source, text.split("\n")).read(known)


class _Reader:
    """Reads parts and ranks from the tree of one text, outer nodes first."""

    def __init__(self, source: bytes, lines: list[str]) -> None:
        self.source, self.lines = source, lines
        self.deadline = time.thread_time() + MAX_SECONDS
        self.ranks = [0] * len(lines)  # 0: unknown
        self.parts: list[Part] = []
        self.headers: list[Node] = []
        self.docs: list[Node] = []

    def read(self, grammar: Grammar) -> Structure | None:
        tree = parse(self.source, grammar.language, deadline=self.deadline)
        if tree is None or not self._add(tree.root_node, grammar, first=0):
            return None
        self.parts.sort(key=lambda part: (part.first, -part.last))  # Injected code comes last.
        top = tree.root_node.children
        comments = self._comment_lines(filter(_is_comment, top))
        self._add_preamble(top, comments)
        ranks = [rank or self._rank_of_text(number) for number, rank in enumerate(self.ranks)]
        return Structure(ranks, self.parts, is_code=True, comments=comments)

    def _add(self, root: "Node", grammar: Grammar, first: int) -> bool:
        """Add all that a tree defines, and the code in other languages inside it; False if it is too deep."""
        self.found, self.separator = Definitions(root, self.source, grammar), grammar.separator
        self.headers += self.found.headers
        self.docs += self.found.docs
        injections = self.found.injections
        visits = [_Visit(root, 0, first, grammar.visible, _Scope())]
        while visits:
            visit = visits.pop()
            if visit.depth > MAX_DEPTH:
                return False
            visits += reversed(self._visit(visit))
        return all(self._add_injected(node, lang) for node, lang in injections)

    def _add_injected(self, node: "Node", lang: str) -> bool:
        inner = grammar(lang)
        if inner is None:
            return True
        tree = parse(self.source, inner.language, deadline=self.deadline, inside=node)
        return tree is not None and self._add(tree.root_node, inner, first=node.start_point[0])

    def _visit(self, visit: _Visit) -> list[_Visit]:
        """Add the part that the node defines and rank its children; returns the children to visit."""
        node, depth, first, visible, scope = visit
        last, found = _last_line(node), self.found
        definition = found.named.get(node.id)
        if definition and definition.name and (first, last) != (scope.first, scope.last):
            exported = scope.exported and found.is_exported(node, definition.name, visible)
            kind = "test" if scope.kind == "test" else definition.kind
            names = (*scope.names, definition.name)
            self.parts.append(Part(first, last, label(names, self.separator), kind, exported))
            scope = _Scope(names, first, last, kind, exported and definition.kind != "function")
        inside = _Visit(node, depth, first, found.visible_inside.get(node.id, visible), scope)
        return list(self._in_body(inside) if _is_body(node.type) else self._in_statement(inside, last))

    def _in_body(self, visit: _Visit) -> Iterator[_Visit]:
        """The children to visit; all are ranked, but the first, which stays with the line above."""
        body, depth, _, visible, scope = visit
        found = self.found
        end = body.start_point[0] - 1
        above = visit.first if visit.first <= end else None
        is_first, after_definition = depth > 0, False
        for child in body.named_children:
            row, last = child.start_point[0], _last_line(child)
            if row > end + 1 or above is None:
                above = row if row > end else None
            first = row if above is None else above
            known = child.id in found.captured
            defines = known and child.id in found.named
            if above is not None and (defines or not is_first):
                self.ranks[row] = WORST
                self._rank(first, depth, is_good=defines or after_definition)
            if last > end:
                end = last
            if known:
                visible = found.visible_inside.get(child.id, visible)
            if (known or child.is_extra) and found.is_attached(child):
                continue
            if known or last > row:
                yield _Visit(child, depth + 1, first, visible, scope)
            above, is_first, after_definition = None, False, defines

    def _in_statement(self, visit: _Visit, last: int) -> Iterator[_Visit]:
        """The children to visit; clauses such as ``else`` are ranked."""
        above, end, is_second, found = None, -1, False, self.found
        for child in visit.node.named_children:
            row, child_last = child.start_point[0], _last_line(child)
            known = child.id in found.captured
            if (child.is_extra or known) and found.is_attached(child):
                above = row if above is None or row > end + 1 else above
                end = child_last
                continue
            kind = child.type
            if kind in _CLAUSES and row > visit.node.start_point[0]:
                self._rank(row, visit.depth, is_good=False)
            if known or child_last > row:
                if _is_body(kind):
                    first = row if above is None or row > end + 1 else above
                else:
                    first = row if is_second or child_last != last else visit.first
                yield _Visit(child, visit.depth + 1, first, visit.visible, visit.scope)
            above, is_second = None, is_second or (known and child.id in found.named)

    def _rank(self, line: int, depth: int, is_good: bool) -> None:
        if not _CLOSING.match(self.lines[line]):
            is_good = is_good or (line > 0 and not self.lines[line - 1].strip())
            self.ranks[line] = PREAMBLE + 1 + 2 * min(depth, DEEPEST) + (not is_good)

    def _rank_of_text(self, number: int) -> int:
        """The rank of a line at which no node begins: in comments, strings, expressions."""
        line = self.lines[number]
        if line.strip() in ("", "{") or _CLOSING.match(line):
            return WORST
        if number and not self.lines[number - 1].strip():
            return PARAGRAPH
        return LINE + min(len(line) - len(line.lstrip()), DEEPEST)

    def _comment_lines(self, comments: "Iterable[Node]") -> set[int]:
        """The lines of comments, less those of blocks that hold a licence."""
        blocks: list[range] = []
        for node in comments:
            rows = range(node.start_point[0], _last_line(node) + 1)
            if blocks and rows.start <= blocks[-1].stop:
                rows = range(blocks.pop().start, rows.stop)
            blocks.append(rows)
        return {
            row
            for rows in blocks
            if not _LICENCE.search("\n".join(self.lines[rows.start : rows.stop]))
            for row in rows
        }

    def _add_preamble(self, top: "Sequence[Node]", comments: Set[int]) -> None:
        """Make a part of the licence, documentation and imports above the first definition."""
        below = self.parts[0].first if self.parts else len(self.lines)
        first = takewhile(lambda node: _is_comment(node) and _last_line(node) + 1 < below, top)
        above = [node for node in (*first, *self.headers, *self.docs) if _last_line(node) < below]
        last = max(map(_last_line, above), default=-1)
        filled = sum(bool(line.strip()) for line in self.lines[: last + 1])
        if filled < LEAST_HEADER:
            return
        is_told = any(node in self.docs for node in above)
        is_told = is_told or 2 * sum(line <= last for line in comments) >= filled
        kind = "docs" if is_told else "header"
        self.parts.insert(0, Part(0, last, "", kind))
        rest = (number for number in range(last + 1, len(self.lines)) if self.lines[number].strip())
        self.ranks[next(rest, 0)] = PREAMBLE


def _is_comment(node: "Node") -> bool:
    return "comment" in node.type or (node.is_extra and not node.is_error)


def _last_line(node: "Node") -> int:
    row, column = node.end_point
    return row if column or row == node.start_point[0] else row - 1


@cache
def _is_body(kind: str) -> bool:
    return bool(_BODY.fullmatch(kind))
