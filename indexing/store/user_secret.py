"""A secret of this user's on this machine, which tells the user's own indexes from somebody else's."""

import logging
import os
import secrets
from pathlib import Path

_BYTES = 32


def user_secret(*, create: bool = False) -> bytes:
    """32 random bytes; b"" where none were made yet, unless ``create`` makes them, or where none can be kept.

    They are in $XDG_STATE_HOME/flatcoat/secret (~/.local/state by default), readable by this user alone.
    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        path = Path(state) / "flatcoat" / "secret"
        if not path.exists():
            if not create:
                return b""
            _make(path)
        secret = path.read_bytes()
    except (OSError, RuntimeError) as error:  # No home, or none that can be written.
        logging.getLogger(__name__).info(
            "no secret can be kept (%s): sources of an index must be named", error
        )
        return b""
    return secret if len(secret) == _BYTES else b""


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    new.touch(mode=0o600)
    new.write_bytes(secrets.token_bytes(_BYTES))
    try:
        os.link(new, path)  # The first of several processes decides.
    except FileExistsError:
        pass
    finally:
        new.unlink()
