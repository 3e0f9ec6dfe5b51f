"""The command ``flatcoat serve``."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flatcoat.errors import MissingExtraError

if TYPE_CHECKING:
    from .indexes import Served

app = typer.Typer()

_KEY = "FLATCOAT_API_KEY"


@app.command()
def serve(
    index: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]DIR", help="Folder of an index, with a name if you like; may be repeated."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Key that clients must send; may be repeated. Better in {_KEY}: ps shows options."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Further host name by which clients may address a server on this machine alone."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Encoder that made the indexes, if another library must load it.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Cross-encoder or encoder that reranks.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Let nobody add or remove documents.")
    ] = False,
    preload: Annotated[
        bool,
        typer.Option(
            "--preload", help="Load the model into torch in the background, so that queries are batched too."
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Serve the shards of collections on the Ray cluster at ADDRESS; auto: the one that runs "
            "here, local: a new one on this machine.",
        ),
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="Replicas of each shard on the cluster, on different nodes.")
    ] = 2,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait, per kind; more are told 429.")
    ] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Megabytes per request.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds per search or embedding.")] = 60.0,
) -> None:
    """Serve indexes over HTTP, with a page to search with at /."""
    try:
        from .server import listening
        from .server import serve as run
    except ImportError as error:
        raise MissingExtraError(
            f"serving needs {error.name}: install it with pip install 'flatcoat[serve]'"
        ) from error
    from .app import create_app
    from .auth import checked_keys
    from .context import Context
    from .indexes import Served, named_folders
    from .metrics import Metrics
    from .settings import LOOPBACK, Settings

    keys = [*(api_key or []), *([os.environ[_KEY]] if _KEY in os.environ else [])]
    try:
        keys = checked_keys(keys)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--api-key") from None
    is_local = host in LOOPBACK
    settings = Settings(
        api_keys=keys,
        hosts=[*LOOPBACK, *(allow_host or [])] if is_local else allow_host or [],
        read_only=read_only,
        max_body=max_body << 20,
        queue=queue,
        request_seconds=timeout,
    )
    metrics, at = Metrics(), listening(host, port)
    served = Served(named_folders(index), settings, metrics=metrics, model=model, reranker=reranker)
    _follow_collections(served, ray, replicas=replicas)
    if not is_local and not keys:
        typer.echo(f"warning: whoever reaches {host} may search and change the indexes: set {_KEY}", err=True)
    if preload:
        served.load_in_background()
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"{', '.join(served.indexes)}: at http://{shown}:{at.getsockname()[1]}/", err=True)
    run(create_app(Context(served, settings, metrics=metrics)), settings, at)


def _follow_collections(served: "Served", ray: str | None, *, replicas: int) -> None:
    """Keep collections on their last generation, their shards here or on the Ray cluster at an address."""
    for one in served.indexes.values():
        collection = one.retriever.collection
        if collection is None and ray is not None:
            raise typer.BadParameter(f"{one.name} is one index, no collection of shards", param_hint="--ray")
        if collection is None:
            continue
        from .cluster import ClusterIndex, Follower

        if ray is not None:
            ClusterIndex(one, ray, replicas=replicas)
        else:
            Follower(collection.path, collection.refresh)
