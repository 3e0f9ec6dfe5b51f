"""``flatcoat mcp``: the server for coding agents, and what writes their configuration."""

import os
from pathlib import Path
from typing import Annotated, get_args

import typer
from typer.core import TyperGroup

from flatcoat.console import IndexFolder

from .agent_files import Edit, installed, uninstalled
from .agents import Name, places


class _ServesByDefault(TyperGroup):
    """``flatcoat mcp PATH`` is ``flatcoat mcp serve PATH``: what names no command is given to ``serve``."""

    def parse_args(self, ctx: "typer.Context", args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServesByDefault,
    no_args_is_help=False,
    help="Serve a folder to coding agents over MCP, and write their configuration.",
)

Which = Annotated[Name, typer.Argument(metavar="AGENT", help=f"One of {', '.join(get_args(Name))}.")]
Http = Annotated[bool, typer.Option("--http", help="Streamable HTTP in place of stdin and stdout.")]
Host = Annotated[
    str, typer.Option(help="Address of --http. There are no keys: any other is open to whoever reaches it.")
]
ForUser = Annotated[
    bool, typer.Option("--user", help="For all projects of this user, not this repository alone.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written, write nothing.")]


@app.command()
def serve(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", file_okay=False, exists=True, help="Folder to search in.")
    ] = Path(),
    index: IndexFolder = None,
    http: Http = False,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of --http.")] = 8765,
) -> None:
    """Serve a folder: search, find_related, read_passage, index_status. The default command.

    The index is found, or made in the background, and follows the files. Answers come by BM25 until there
    are vectors.
    """
    from .mcp import mcp_server
    from .workspace import Workspace

    workspace = Workspace(path, index)
    server = mcp_server(workspace)
    if http:
        typer.echo(f"serving {path.resolve()} at http://{host}:{port}/mcp; Ctrl-C ends it", err=True)
        server.run("streamable-http", host=host, port=port)
    else:
        server.run("stdio")
    if not workspace.close(within=1.0):
        os._exit(0)  # A thread inside torch would be ended with a message about it.


@app.command()
def install(agent: Which, user: ForUser = False, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Write an agent's configuration and instructions, for this repository or (--user) everywhere.

    Shows what will change, and asks. What a file holds beside stays as it is.
    """
    _write(installed(places(agent, for_user=user)), yes, dry_run)


@app.command()
def uninstall(agent: Which, user: ForUser = False, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Take out what install wrote, and nothing else."""
    _write(uninstalled(places(agent, for_user=user)), yes, dry_run)


def _write(edits: list[Edit], yes: bool, dry_run: bool) -> None:
    """Show edits of files, ask, and make them."""
    changes = [edit for edit in edits if edit.before != edit.after]
    if not changes:
        typer.echo("nothing to change")
        return
    for edit in changes:
        typer.echo(edit.diff(), nl=False)
    if dry_run or not (yes or typer.confirm("write this?")):
        return
    for edit in changes:
        edit.write()
        typer.echo(f"{'removed' if edit.after is None else 'wrote'} {edit.path}")
