"""A secret of this user's on this machine, by which an index of one's own is told from somebody else's."""

import logging
import os
import secrets
from functools import cache
from pathlib import Path

_BYTES = 32


@cache
def user_secret() -> bytes:
    """32 random bytes, made when first asked for; b"" where they cannot be kept.

    They are in $XDG_STATE_HOME/flatcoat/secret (~/.local/state by default), readable by this user alone.
    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return _kept(Path(state) / "flatcoat" / "secret")
    except (OSError, RuntimeError) as error:  # No home, or none that can be written.
        logging.getLogger(__name__).info(
            "no secret can be kept (%s): sources of an index must be named", error
        )
        return b""


def _kept(path: Path) -> bytes:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.touch(mode=0o600)
        new.write_bytes(secrets.token_bytes(_BYTES))
        try:
            os.link(new, path)  # The first of several processes decides.
        except FileExistsError:
            pass
        finally:
            new.unlink()
    secret = path.read_bytes()
    return secret if len(secret) == _BYTES else b""
