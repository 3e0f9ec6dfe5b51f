"""The options of ``flatcoat index``, with their help."""

from typing import Annotated

import typer

from flatcoat.indexing.store.engines import Name as EngineName
from flatcoat.retrieval.encoders.contract import Precision

_NEW = "New indexes only"
_READING = "Reading of files"

Roots = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Folders, files, files of rows (.jsonl, .csv, .tsv, .parquet), BEIR folders, - for stdin, or "
        "datasets:NAME for a Hugging Face data set. Default: all sources of the index; for a new one that "
        "--index does not name, the repository around this folder, or the folder.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Encoder of a new index: a checkpoint folder or Hugging Face hub name. Default: the model "
        "shipped with flatcoat."
    ),
]
PassageTokens = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="Maximum tokens per passage. Default: the document length of the model, at most 512.",
        rich_help_panel=_NEW,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Tokens repeated from the previous passage (text only).",
        rich_help_panel=_NEW,
    ),
]
TokenPooling = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Store the mean of about so many similar token vectors instead of each: 2 halves the index "
        "(late interaction only).",
        rich_help_panel=_NEW,
    ),
]
InPrecision = Annotated[
    Precision | None,
    typer.Option(
        help="Precision of the encoder; int8 needs a CPU. Default on a CPU: int8 for the model shipped with "
        "flatcoat, fp32 for others.",
        rich_help_panel=_NEW,
    ),
]
Engine = Annotated[
    EngineName | None,
    typer.Option(
        help="Search engine. Default: auto, which is exact search while the index is small, then PLAID or "
        "FAISS.",
        rich_help_panel=_NEW,
    ),
]
Bits = Annotated[
    int, typer.Option(help="PLAID residual bits per dimension: 1, 2 or 4.", rich_help_panel=_NEW)
]
Factory = Annotated[
    str, typer.Option(help="FAISS index type, as in faiss.index_factory.", rich_help_panel=_NEW)
]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Make a collection of N shards, in a folder or at a URL such as s3://bucket/wiki: each is built "
        "by itself, all are searched as one. Documents that PATHs have no more are removed.",
        rich_help_panel=_NEW,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Build the shards of a collection on the Ray cluster at ADDRESS; auto: the one that runs here, "
        "local: a new one on this machine.",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Index only files that match a .gitignore pattern; may be repeated. Hidden files and folders "
        "need a pattern that spells their dot, such as .github/. Default: all files.",
        rich_help_panel=_READING,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out files that match a .gitignore pattern; may be repeated.",
        rich_help_panel=_READING,
    ),
]
Hidden = Annotated[
    bool | None,
    typer.Option(
        "--hidden/--no-hidden",
        help="Index hidden files and folders too (never those of version control).",
        rich_help_panel=_READING,
    ),
]
ColumnNames = Annotated[
    str | None,
    typer.Option(
        metavar="text=BODY,id=KEY,…",
        help="Text, id and title columns of files of rows; join text columns with +.",
        rich_help_panel=_READING,
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="CHARSET",
        help="Character encoding of text files, such as cp1252. Default: detected.",
        rich_help_panel=_READING,
    ),
]
WithVectors = Annotated[
    bool | None,
    typer.Option(
        "--vectors/--no-vectors",
        help="Leave vectors out for good: no model is loaded, searches rank by BM25. --vectors adds them to "
        "such an index. Default: text and BM25 first, then vectors.",
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Keep running and re-index files as they change.")]
