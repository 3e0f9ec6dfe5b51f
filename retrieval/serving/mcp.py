"""Tools for coding agents over the Model Context Protocol: search, find_related, read_passage, index_status.

Answers are text and nothing else: clients drop it where ``structuredContent`` is there. They are short, about
2,000 tokens, since an agent pays for each.
"""

from collections.abc import Sequence
from functools import wraps
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flatcoat import __version__
from flatcoat.errors import FlatcoatError, MissingExtraError
from flatcoat.retrieval.display import Layout, Place, show_result

from .workspace import State, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer

    from flatcoat.retrieval.results import Result

_CHARACTERS = 7_000
"""Of an answer: about 2,000 tokens of code."""

_LINES = 10  # per result

_WIDEST = 160  # characters of a line that is shown

INSTRUCTIONS = """\
flatcoat searches the code and documents of this folder by meaning and by words, in one call.
Use search first to find where something is or how it works: ask in plain words or with identifiers. Each
result is a place (path:line) with the lines that answer: go to that line, do not grep for it again.
read_passage shows the whole function or section around a line, find_related what is like it elsewhere.
grep is still right for every occurrence of an exact string. The index follows the files by itself.
"""

Query = Annotated[str, Field(description="A question in plain words, or identifiers")]
Count = Annotated[int, Field(description="Number of results", ge=1, le=50)]
Below = Annotated[str, Field(description="Only this folder or file; empty for all")]
Lines = Annotated[int, Field(description="Lines per result; 0 for places only", ge=0, le=50)]
FilePath = Annotated[str, Field(description="A file, as results name it")]
Line = Annotated[int, Field(description="Line number, from 1", ge=1)]


def mcp_server(workspace: Workspace) -> "MCPServer":
    """The server of one folder; ``run()`` speaks on stdin and stdout. MissingExtraError without ``mcp``."""
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise MissingExtraError("MCP is not installed: pip install flatcoat[mcp]") from error
    server = MCPServer("flatcoat", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    tools = Tools(workspace)
    reading = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for tool in (tools.search, tools.find_related, tools.read_passage, tools.index_status):
        server.add_tool(_telling_errors(tool), annotations=reading, structured_output=False)
    return server


class Tools:
    """What agents call; each answer is a text."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, query: Query, k: Count = 5, path: Below = "", lines: Lines = _LINES) -> str:
        """Find code or text by meaning and words. Returns places (path:line) with the lines that answer."""
        state = self._workspace.bring_up_to_date()
        results = self._workspace.search(query, k, below=path)
        return self._answer(results, query, state, lines=lines)

    def find_related(self, path: FilePath, line: Line, k: Count = 5, lines: Lines = _LINES) -> str:
        """Find passages like the one at a line: similar code, callers, tests, documentation of it."""
        state = self._workspace.bring_up_to_date()
        passage = self._workspace.passage(path, line)
        found = self._workspace.related(passage, k)
        return self._answer(found, passage.searchable, state, lines=lines)

    def read_passage(self, path: FilePath, line: Line) -> str:
        """Show the whole function, class or section around a line, with line numbers."""
        state = self._workspace.bring_up_to_date()
        passage = self._workspace.passage(path, line)
        (first, last), shown = passage.lines, self._workspace.shown([passage.document_id])
        title = f"{shown[passage.document_id]}:{first}-{last}  {passage.section}".rstrip()
        rows = [f"{number:>5}  {text}" for number, text in enumerate(passage.text.split("\n"), start=first)]
        return _within([title, *rows], _CHARACTERS, "lines: read the file for the rest") + _remarks(state)

    def index_status(self) -> str:
        """Say what is indexed, how far the index is, and what is wrong with it."""
        state = self._workspace.bring_up_to_date()
        retriever = self._workspace.opened()
        model = retriever.contract.model if retriever.has_model else "none, BM25 alone"
        skipped = [f"{count:,} {reason}" for reason, count in self._workspace.skipped().most_common()]
        rows = [
            f"folder: {self._workspace.folder}",
            f"index: {self._workspace.index}",
            f"holds: {retriever.info().describe()}",
            f"files skipped: {', '.join(skipped) or 'none'}",
            f"model: {model}",
            f"searches now rank by: {self._workspace.mode}",
            f"compared with the files: {'just now' if state.is_fresh else 'not finished'}",
        ]
        return "\n".join(rows) + _remarks(state)

    def _answer(self, results: Sequence["Result"], query: str, state: State, *, lines: int) -> str:
        """The results within the length of an answer: those beyond it by their places alone."""
        if not results:
            return "nothing found" + _remarks(state)
        shown = self._workspace.shown([result.document_id for result in results])
        places = {id: Place(path) for id, path in shown.items()}
        blocks: list[str] = []
        room = _CHARACTERS
        for result in results:
            first, last = result.best_lines or (1, 1)
            context = max(0, lines - (last - first + 1)) // 2
            layout = Layout(context=context, least=lines, places=places)
            header, *rows = show_result(result, query, layout).plain.split("\n")
            _rank, _score, place = header.split(maxsplit=2)
            rows = [row if len(row) <= _WIDEST else f"{row[:_WIDEST]}…" for row in rows[:lines]]
            block = "\n".join([place, *rows])
            block = block if len(block) <= room else place
            blocks.append(block)
            room -= len(block)
        return "\n".join(blocks) + _remarks(state)


def _remarks(state: State) -> str:
    """What an agent must know of an answer, as lines at its end."""
    remarks = []
    if state.problem:
        remarks.append(f"the index could not be brought up to date: {state.problem}")
    elif not state.is_complete:
        remarks.append("the index is still being made: files may be missing, ask again in a few seconds")
    elif not state.is_fresh:
        remarks.append("changes of the last seconds may be missing")
    return "".join(f"\n({remark})" for remark in remarks)


def _within(rows: Sequence[str], characters: int, rest: str) -> str:
    """As many rows as fit, and how many are left out."""
    ends = accumulate(len(row) + 1 for row in rows)
    kept = max(1, sum(end <= characters for end in ends))
    more = [f"... {len(rows) - kept} more {rest}"] if kept < len(rows) else []
    return "\n".join([*rows[:kept], *more])


def _telling_errors(tool: "Callable[..., str]") -> "Callable[..., str]":
    """The tool with errors that say to the agent what to do, where mcp would hide them."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def call(*arguments: object, **named: object) -> str:
        try:
            return tool(*arguments, **named)
        except FlatcoatError as error:
            raise ToolError(str(error)) from error

    return call
