"""Who may ask: API keys, and the names by which a server on this machine may be addressed."""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from .errors import error_response
from .page import FILES
from .settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = ("/health", *FILES)
"""What needs no key: the page asks for one."""


class Auth:
    """Answers 401 to requests without a key, and 400 to those for a host of another name.

    The latter come from a page elsewhere whose host name was pointed at this machine (DNS rebinding).
    """

    def __init__(self, app: "ASGIApp", settings: Settings) -> None:
        self._app = app
        self._keys = [_digest(key.encode()) for key in settings.api_keys]
        self._hosts = frozenset(settings.hosts)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer by the app below, or refuse."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            status, message = refusal
            await error_response(scope["path"], status, message)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: "Scope") -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host = host_name(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts and host not in self._hosts:
            return 400, f"this server does not go by the name {host!r:.100}: see --allow-host"
        if self._keys and scope["path"] not in _OPEN and not self._is_known(key_of(headers)):
            return 401, "an API key is needed: send it as 'Authorization: Bearer KEY'"
        return None

    def _is_known(self, key: bytes) -> bool:
        # Digests have one length, and every one is compared: time tells nothing of a key.
        digest = _digest(key)
        return sum(compare_digest(digest, known) for known in self._keys) > 0


def key_of(headers: dict[bytes, bytes]) -> bytes:
    """The key of a request, empty if it has none.

    >>> key_of({b"authorization": b"Bearer secret"})
    b'secret'
    """
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("localhost:8000"), host_name("[::1]:8000")
    ('localhost', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys without blanks around them; ValueError for an empty one, which would let everybody in."""
    stripped = tuple(key.strip() for key in keys)
    if not all(stripped):
        raise ValueError("an API key is empty")
    return stripped
