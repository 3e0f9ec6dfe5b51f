"""Every error that flatcoat raises on purpose."""


class FlatcoatError(Exception):
    """Base of every error that flatcoat raises on purpose; its message is one line for a person.

    Line breaks and half surrogate pairs in it, of names that came from outside, are replaced.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__(line.encode("utf-8", "backslashreplace").decode())
