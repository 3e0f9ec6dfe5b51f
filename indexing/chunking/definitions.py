"""What a text of code defines, as the query of its grammar finds it in the syntax tree."""

import re
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from .grammars import Grammar

if TYPE_CHECKING:
    from tree_sitter import Node

    _Captures = dict[str, list[Node]]

_KINDS = frozenset(["function", "class", "module", "value", "test", "definition"])
MAX_DEPTH = 200
_MOST_MATCHES = 4_096  # begun at one time: more take time that grows with the square of the text
_NOISE = re.compile(r"<[^>]*>+|\bprototype\.|^(?:module\.)?exports\.|^this\.|^[\"'`(]+|[\"'`)]+$")


class Definition(NamedTuple):
    """A definition of a ``kind``; without a name it is around one that has it, as an export is."""

    kind: str
    name: str


class Definitions:
    """What is captured in one syntax tree, by the ids of nodes.

    >>> from tree_sitter import Parser
    >>> from flatcoat.indexing.chunking.grammars import grammar
    >>> source = b"def run():\\n    pass\\n"
    >>> tree = Parser(grammar("python").language).parse(source)
    >>> list(Definitions(tree.root_node, source, grammar("python")).named.values())
    [Definition(kind='function', name='run')]
    """

    def __init__(self, root: "Node", source: bytes, grammar: Grammar) -> None:
        from tree_sitter import QueryCursor

        self._source, self._separator = source, grammar.separator
        self.named: dict[int, Definition] = {}
        self.attached: set[int] = set()
        self.visible_inside: dict[int, bool] = {}
        """Nodes that change the visibility of what is in them and after them."""
        self.headers: list[Node] = []
        self.docs: list[Node] = []
        self.injections: list[tuple[Node, str]] = []
        self._visible: dict[int, bool] = {}
        self._exported_names: set[str] = set()
        query = grammar.query
        cursor = QueryCursor(query, match_limit=_MOST_MATCHES)
        cursor.set_max_start_depth(MAX_DEPTH)  # Below, it takes time that grows with the square of the depth.
        # Sorted, since matches come in the order of the text: the last pattern of a node has to count.
        for pattern, captures in sorted(cursor.matches(root), key=itemgetter(0)):
            if "injection" in captures:
                language = query.pattern_settings(pattern)["language"]
                self.injections.append((captures["injection"][0], str(language)))
            self._add(captures)
        self.captured = self.named.keys() | self.attached | self.visible_inside.keys()

    def _add(self, captures: "_Captures") -> None:
        for capture, (node, *_) in captures.items():
            if capture.startswith("_"):
                continue
            if capture in _KINDS:
                name = self._name(captures) or self.named.get(node.id, ("", ""))[1]
                self.named[node.id] = Definition(capture, name)
            elif capture in ("exported", "hidden"):
                self._visible[node.id] = capture == "exported"
            elif capture in ("public", "private"):
                self.visible_inside[node.id] = capture == "public"
            elif capture == "attached":
                self.attached.add(node.id)
            elif capture == "exported.name":
                self._exported_names.add(self._text(node))
            elif capture == "header":
                self.headers.append(node)
            elif capture == "docs":
                self.docs.append(node)

    def is_attached(self, node: "Node") -> bool:
        """Whether a node belongs to what comes after it."""
        return node.id in self.attached or (node.is_extra and not node.is_error)

    def is_exported(self, node: "Node", name: str, default: bool) -> bool:
        """Whether the definition at ``node`` can be used from elsewhere; ``default`` if nothing says so."""
        return self._visible.get(node.id, default) or name in self._exported_names

    def _name(self, captures: "_Captures") -> str:
        nodes = map(_declared, [*captures.get("owner", ()), *captures.get("name", ())])
        return self._separator.join(filter(None, (_NOISE.sub("", self._text(node)) for node in nodes)))

    def _text(self, node: "Node") -> str:
        words = self._source[node.start_byte : node.end_byte].decode(errors="replace").split()
        return " ".join(words).replace(", ", ",")


def _declared(node: "Node") -> "Node":
    """The name inside the declarators of C and C++, below pointers, functions and references."""
    while node.type.endswith("_declarator") and node.named_children:
        node = node.child_by_field_name("declarator") or node.named_children[-1]
    return node
