"""The command line: mounts each folder's commands, imports nothing heavy, turns errors into one line."""

import logging
import os
import sys

import typer

from flatcoat.backbone.malloc import reuse_freed_memory
from flatcoat.eval.bench import commands as benchmarks
from flatcoat.eval.check import commands as checking
from flatcoat.eval.compare import commands as comparison
from flatcoat.eval.glue import commands as glue
from flatcoat.retrieval.data import commands as training_data
from flatcoat.retrieval.serving import commands as serving

from . import __version__
from .errors import FlatcoatError
from .eval import commands as evaluation
from .recipes import commands as training
from .recipes import pretraining_commands as pretraining
from .recipes import shipped_commands as shipped
from .retrieval import commands as retrieval
from .retrieval.serving import mcp_commands as mcp

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, index, search and evaluate dense and late-interaction retrievers.",
)
for panel, part in (
    ("Index and search", retrieval),
    ("Index and search", serving),
    ("Train", training_data),
    ("Train", training),
    ("Train", shipped),
    ("Train", pretraining),
    ("Evaluate", evaluation),
    ("Evaluate", checking),
    ("Evaluate", comparison),
    ("Evaluate", glue),
):
    for command in part.app.registered_commands:
        command.rich_help_panel = panel
    app.add_typer(part.app)
app.add_typer(mcp.app, name="mcp", rich_help_panel="Index and search")
app.add_typer(pretraining.tokenizer_app, name="tokenizer", rich_help_panel="Train")
app.add_typer(benchmarks.app, name="bench", rich_help_panel="Evaluate")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"flatcoat {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None: ...


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    # The libraries below draw bars and warn on loading; their errors still come through.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    reuse_freed_memory()
    for library in ("sentence_transformers", "pylate", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        app()
    except FlatcoatError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:  # The reader of the output closed it, as "head" does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # A full disk or a folder without permission: no bug, so no traceback.
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
