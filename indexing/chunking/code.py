"""The structure of source code, by its syntax tree (tree-sitter, extra "code")."""

import logging
import re
import time
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from flatcoat.indexing.documents import Scalar

from .structure import DEEPEST, LINE, PARAGRAPH, WORST, Part, Structure, label

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

MAX_BYTES = 1_000_000
MAX_DEPTH = 200
MAX_SECONDS = 5.0  # of this thread's CPU time
MAX_UNCLOSED = 5_000  # "<" without ">", whose parsing takes quadratic time

_SEPARATORS = {
    **dict.fromkeys(["python", "javascript", "typescript", "tsx", "go", "java", "csharp", "ruby", "c"], "."),
    **dict.fromkeys(["cpp", "rust", "php"], "::"),
}
_WITH_BODY = frozenset(["class_specifier", "struct_specifier", "union_specifier", "enum_specifier"])
_VALUED = {
    "variable_declarator": ("name", "value"),
    "public_field_definition": ("name", "value"),
    "field_definition": ("property", "value"),
    "pair": ("key", "value"),
    "assignment_expression": ("left", "right"),
}
"""The fields of name and value, of nodes that give a name to a function."""

_FUNCTIONS = frozenset(["arrow_function", "function_expression", "generator_function", "class"])
_DEFINITIONS = _WITH_BODY | {
    *("function_definition", "class_definition", "type_definition", "trait_declaration"),
    *("function_declaration", "generator_function_declaration", "method_definition", "class_declaration"),
    *("abstract_class_declaration", "interface_declaration", "type_alias_declaration", "enum_declaration"),
    *("record_declaration", "struct_declaration", "annotation_type_declaration", "method_declaration"),
    *("constructor_declaration", "property_declaration", "type_spec", "function_item", "struct_item"),
    *("enum_item", "union_item", "trait_item", "impl_item", "mod_item", "macro_definition"),
    *("function_signature_item", "class", "module", "method", "singleton_method"),
}
_WRAPPERS = {"decorated_definition", "export_statement", "template_declaration", "type_declaration"}
_ATTACHED = {"comment", "line_comment", "block_comment", "decorator", "attribute_item", "access_specifier"}
_CLAUSES = {
    *("elif_clause", "else_clause", "except_clause", "finally_clause", "catch_clause", "case_clause"),
    *("else", "elsif", "rescue", "ensure", "when"),
}
_BODY = re.compile(
    r"module|program|source_file|translation_unit|compilation_unit|ERROR|preproc_(?:if|ifdef|else|elif)|then|else"
    r"|(?:do_|statement_|match_|switch_)?block|compound_statement|body_statement|\w+_body(?:_\w+)?|ensure|when"
    r"|(?!argument|parameter|attribute|type_|template_)\w*list|object|object_type|array|dictionary|hash"
    r"|switch_(?:block_statement_group|case|default|section)|case_statement|\w+_case"
)
_CLOSING = re.compile(r"\s*(?:[)\]}]|end\s*$)")
_NOISE = re.compile(r"<[^>]*>+|\bprototype\.|^(?:module\.)?exports\.|^this\.")
_RECEIVER = re.compile(r"(\w+)(?:\[[^\]]*\])?\)$")


class _Visit(NamedTuple):
    """A node to visit."""

    node: "Node"
    depth: int
    first: int
    """The first line of the node, comments and decorators attached above it included."""
    names: tuple[str, ...]
    around: tuple[int, int]
    """First and last line of the part around it."""


def code_structure(text: str, lang: Scalar | None) -> Structure | None:
    """Structure by syntax: definitions with their decorators and comments as parts, statements as breaks.

    None where ``lang`` has no grammar here, or the text is no ordinary code: over MAX_BYTES, nested deeper
    than MAX_DEPTH, with MAX_UNCLOSED or more "<" left open, or MAX_SECONDS and more to parse. A text with
    syntax errors has the structure that the parser recovers.
    """
    language = _language(lang) if isinstance(lang, str) and lang in _SEPARATORS else None
    source = text.encode(errors="replace")
    unclosed = source.count(b"<") - source.count(b">")
    if language is None or len(source) > MAX_BYTES or unclosed > MAX_UNCLOSED:
        return None
    tree = _parsed(source, language)
    return tree and _Reader(source, text.split("\n"), _SEPARATORS[str(lang)]).read(tree.root_node)


@cache
def _language(lang: str) -> "Language | None":
    grammars = _grammars()
    return grammars and grammars.get_language(lang)


@cache  # which also warns once
def _grammars() -> Any:
    try:
        return import_module("tree_sitter_language_pack")
    except ImportError:
        logging.getLogger(__name__).warning("code is cut by lines, not by syntax: pip install flatcoat[code]")
        return None


def _parsed(source: bytes, language: "Language") -> "Tree | None":
    # Comments that never end take quadratic time, and only the parsing of a source read in parts can be
    # cancelled.
    from tree_sitter import Parser

    deadline = time.thread_time() + MAX_SECONDS
    try:
        return Parser(language).parse(
            lambda offset, point: source[offset : offset + MAX_BYTES],
            progress_callback=lambda offset, has_error: time.thread_time() > deadline,
        )
    except ValueError as error:
        logging.getLogger(__name__).debug("code is split by lines: the parser gave up (%s)", error)
        return None


class _Reader:
    """Reads parts and ranks from one tree, outer nodes first."""

    def __init__(self, source: bytes, lines: list[str], separator: str) -> None:
        self.source, self.lines, self.separator = source, lines, separator
        self.ranks = [0] * len(lines)  # 0: unknown
        self.parts: list[Part] = []

    def read(self, root: "Node") -> Structure | None:
        visits = [_Visit(root, 0, 0, (), (0, -1))]
        while visits:
            visit = visits.pop()
            if visit.depth > MAX_DEPTH:
                return None
            visits += reversed(self._visit(visit))
        ranks = [rank or self._rank_of_text(number) for number, rank in enumerate(self.ranks)]
        return Structure(ranks, self.parts, is_code=True)

    def _visit(self, visit: _Visit) -> list[_Visit]:
        """Add the part that the node defines and rank its children; returns the children to visit."""
        node, depth, first, names, around = visit
        last = _last_line(node)
        name = "" if around == (first, last) else _name(node, self.source)
        if name:
            names, around = (*names, name), (first, last)
            self.parts.append(Part(first, last, label(names, self.separator)))
        children = self._in_body(visit) if _is_body(node.type) else self._in_statement(visit, last)
        return [
            _Visit(child, depth + 1, row, names, around)
            for child, row in children
            if child.type in _DEFINITIONS or _last_line(child) > child.start_point[0]
        ]

    def _in_body(self, visit: _Visit) -> Iterator[tuple["Node", int]]:
        """The children with their first lines, ranked; the first child stays with the line above."""
        body, depth = visit.node, visit.depth
        end = body.start_point[0] - 1
        above = visit.first if visit.first <= end else None
        is_first, after_definition = depth > 0, False
        for child in body.named_children:
            row, kind = child.start_point[0], child.type
            if row > end + 1 or above is None:
                above = row if row > end else None
            first = row if above is None else above
            defines = kind in _DEFINITIONS or kind in _WRAPPERS
            if above is not None and (defines or not is_first):
                self.ranks[row] = WORST
                self._rank(first, depth, is_good=defines or after_definition)
            end = max(end, _last_line(child))
            if kind not in _ATTACHED:
                yield child, first
                above, is_first, after_definition = None, False, defines

    def _in_statement(self, visit: _Visit, last: int) -> Iterator[tuple["Node", int]]:
        """The children with their first lines; clauses such as ``else`` are ranked."""
        above, end = None, -1
        for child in visit.node.named_children:
            row, kind = child.start_point[0], child.type
            if kind in _ATTACHED:
                above = row if above is None or row > end + 1 else above
                end = _last_line(child)
                continue
            if kind in _CLAUSES and row > visit.node.start_point[0]:
                self._rank(row, visit.depth, is_good=False)
            if _is_body(kind):
                yield child, row if above is None or row > end + 1 else above
            else:
                yield child, visit.first if _last_line(child) == last else row
            above = None

    def _rank(self, line: int, depth: int, is_good: bool) -> None:
        if not _CLOSING.match(self.lines[line]):
            is_good = is_good or (line > 0 and not self.lines[line - 1].strip())
            self.ranks[line] = 1 + 2 * min(depth, DEEPEST) + (not is_good)

    def _rank_of_text(self, number: int) -> int:
        """The rank of a line at which no node begins: in comments, strings, expressions."""
        line = self.lines[number]
        if line.strip() in ("", "{") or _CLOSING.match(line):
            return WORST
        if number and not self.lines[number - 1].strip():
            return PARAGRAPH
        return LINE + min(len(line) - len(line.lstrip()), DEEPEST)


def _last_line(node: "Node") -> int:
    row, column = node.end_point
    return row if column or row == node.start_point[0] else row - 1


@cache
def _is_body(kind: str) -> bool:
    return bool(_BODY.fullmatch(kind))


def _name(node: "Node", source: bytes) -> str:
    """The name that ``node`` defines, such as "open", in Go "Store.Open"; empty where it defines none."""
    kind = node.type
    if kind in _VALUED:
        field, value = map(node.child_by_field_name, _VALUED[kind])
        named = field if value and value.type in _FUNCTIONS else None
    elif kind in _WITH_BODY:
        named = node.child_by_field_name("body") and node.child_by_field_name("name")
    elif kind in _DEFINITIONS:
        named = node.child_by_field_name("type" if kind == "impl_item" else "name") or _declared(node)
    else:
        return ""
    receiver = node.child_by_field_name("receiver") if kind == "method_declaration" else None
    words = _NOISE.sub("", _text(named, source)) if named else ""
    owner = _RECEIVER.search(_text(receiver, source)) if receiver else None
    return f"{owner[1]}.{words}" if owner else words


def _declared(node: "Node") -> "Node | None":
    """The name inside the declarators of C and C++, below pointers, functions and references."""
    declared = node.child_by_field_name("declarator")
    while declared and declared.type.endswith("_declarator"):
        declared = declared.child_by_field_name("declarator") or declared.named_children[-1]
    return declared


def _text(node: "Node", source: bytes) -> str:
    return " ".join(source[node.start_byte : node.end_byte].decode(errors="replace").split())
