"""Syntax trees by tree-sitter, in bounded time and memory whatever the text."""

import logging
import time
from threading import local
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

MAX_BROKEN = 5_000  # children of one syntax error, in which a query takes quadratic time
_READ_BYTES = 4_096
_log = logging.getLogger(__name__)
_thread = local()


def parse(
    source: bytes, language: "Language", *, deadline: float, inside: "Node | None" = None
) -> "Tree | None":
    """The syntax tree of a text, or of what is ``inside`` a node of another language.

    None where it is not done by ``deadline`` (of ``time.thread_time``), or a syntax error has over MAX_BROKEN
    children.

    >>> from flatcoat.indexing.chunking.grammars import grammar
    >>> tree = parse(b"x = 1", grammar("python").language, deadline=time.thread_time() + 1)
    >>> tree.root_node.type
    'module'
    """
    from tree_sitter import Parser, Range

    parser = Parser(language)
    if inside:
        extent = inside.start_point, inside.end_point, inside.start_byte, inside.end_byte
        parser.included_ranges = [Range(*extent)]
    reading = _Reading(source, deadline)
    try:
        tree = parser.parse(reading.part, progress_callback=reading.is_late)
    except ValueError as error:
        _log.debug("code is split by lines: the parser gave up (%s)", error)
        return None
    reading.is_over = True
    return None if reading.is_late() or _is_broken(tree.root_node) else tree


class _Reading:
    """The parts in which a parser reads a text, since only then it can be cancelled.

    tree-sitter (0.26) never lets go of a part that it got. So it gets the same buffer each time, and later,
    when it reads the texts of nodes, single bytes, of which Python has one object each.
    """

    def __init__(self, source: bytes, deadline: float) -> None:
        self._source, self._deadline = source, deadline
        self.is_over = False
        if not hasattr(_thread, "buffer"):
            _thread.buffer = bytearray()
        self._buffer: bytearray = _thread.buffer

    def is_late(self, *_: object) -> bool:
        return time.thread_time() > self._deadline

    def part(self, offset: int, point: object) -> "bytes | bytearray":
        if self.is_over:
            return self._source[offset : offset + 1]
        # A name or comment that never ends may be looked for again and again without progress: it ends here.
        self._buffer[:] = b"" if self.is_late() else self._source[offset : offset + _READ_BYTES]
        return self._buffer


def _is_broken(root: "Node") -> bool:
    nodes = [root] if root.has_error else []
    while nodes:
        node = nodes.pop()
        if node.is_error and node.child_count > MAX_BROKEN:
            return True
        nodes += [child for child in node.children if child.has_error]
    return False
