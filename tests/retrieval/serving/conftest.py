"""A real server in a process of its own, over an index of each kind."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flatcoat import Document, Retriever
from flatcoat.retrieval.encoders.load import SHIPPED_NAME

KEY = "the-key-of-the-tests"

DOCUMENTS = [
    Document(
        "sky.md", "Why is the sky blue?\nAir scatters short waves of light most.", "Sky", {"year": 1871}
    ),
    Document("dogs.md", "Dogs bark at strangers.\nThey retrieve birds and swim.", "Dogs", {"year": 2020}),
    Document("cats.md", "How does a cat purr?\nCats purr when they are content.", "Cats", {"year": 2021}),
    Document("store.py", "def open_store(path):\n    return Store(path)", "", {"lang": "python"}),
]


class Server:
    """``flatcoat serve`` in a process, and a client of it."""

    def __init__(self, *arguments: str, log: Path, environment: dict[str, str] | None = None) -> None:
        self.log = log
        self.started = time.perf_counter()
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flatcoat", "serve", "--port", "0", *arguments],
                stderr=stream,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
            )
        self.address = self._address()
        key = (environment or {}).get("FLATCOAT_API_KEY")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # Other work on the machine may make the import of torch alone take a minute.
        self.client = httpx.Client(base_url=self.address, headers=headers, timeout=300, trust_env=False)

    def _address(self) -> str:
        while time.perf_counter() - self.started < 60:
            if found := re.search(r"at (http://\S+)/\n", self.log.read_text()):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"the server does not start: {self.log.read_text()}")

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def mapped(self) -> str:
        """The files that the process has mapped."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, make_dense: Callable[..., Path]) -> dict[str, Path]:
    """An index by the late-interaction model of the package, and one by a dense model."""
    made = {}
    for name, model in (("late", SHIPPED_NAME), ("dense", make_dense())):
        made[name] = tmp_path_factory.mktemp("served") / name
        retriever = Retriever.create(made[name], model, precision="fp32")
        retriever.add(DOCUMENTS)
        retriever.close()
    return made


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A function that starts servers, which end with the session."""
    servers: list[Server] = []

    def start(*arguments: str, **options: Any) -> Server:
        log = tmp_path_factory.mktemp("log") / f"{len(servers)}.log"
        servers.append(Server(*arguments, log=log, **options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.close()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], folders: dict[str, Path]) -> Server:
    """One for all tests that leave its documents as they are."""
    indexes = [f"--index={name}={folder}" for name, folder in folders.items()]
    return start(*indexes, environment={"FLATCOAT_API_KEY": KEY})
