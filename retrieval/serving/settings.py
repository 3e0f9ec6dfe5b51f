"""What a server allows: keys, hosts, sizes, times."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only programs on this machine reach."""


@dataclass(frozen=True)
class Settings:
    """Limits of a server; times are in seconds, sizes in bytes.

    ``api_keys`` opens everything to everybody where it is empty. ``hosts`` are the names by which clients may
    address the server, any where it is empty. ``queue`` is the number of requests of one kind that wait for
    others of that kind. ``searches`` are answered at a time, beside those whose query is being encoded.
    ``header_seconds`` and ``body_seconds`` are what a client may take to send its
    request, ``request_seconds`` what the answer may take, ``write_seconds`` that to new documents.
    """

    api_keys: Sequence[str] = field(default=(), repr=False)
    hosts: Sequence[str] = ()
    read_only: bool = False
    max_body: int = 16 << 20
    max_texts: int = 2048
    max_tokens: int = 500_000
    queue: int = 256
    batch_tokens: int = 4096
    searches: int = max(4, 2 * (os.cpu_count() or 1))
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    request_seconds: float = 60.0
    write_seconds: float = 600.0
