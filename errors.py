"""Every error that flatcoat raises on purpose, by what its caller can do about it.

FlatcoatError
    UsageError         an argument or option is wrong: correct the call          (a server answers 400)
    NotFoundError      what was named is not there: name another                 (404)
    ConflictError      what is there does not go with what came, or is in use    (409)
    DataError          a file, row, data set or checkpoint cannot be read        (422)
    MissingExtraError  an optional package is not installed: install it          (501)
    StorageError       the index on disk is damaged or cannot be written         (500)
"""

_LONGEST = 500  # characters of a message that is quoted


class FlatcoatError(Exception):
    """Base of every error that flatcoat raises on purpose; its message is one line for a person.

    Line breaks and half surrogate pairs in it, of names that came from outside, are replaced.

    >>> str(FlatcoatError("two\\nlines"))
    'two lines'
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__(line.encode("utf-8", "backslashreplace").decode())


class UsageError(FlatcoatError):
    """An argument, option, filter or recipe value is wrong, of the wrong type or out of range."""


class NotFoundError(FlatcoatError):
    """A path, index, document, model, data set, split or column that was named is not there."""


class ConflictError(FlatcoatError):
    """Two valid things do not go together, a model and the index of another, or one is in use."""


class DataError(FlatcoatError):
    """A file, row, data set or checkpoint cannot be read as what it should be."""


class MissingExtraError(FlatcoatError):
    """An optional package is not installed; the message has the command that installs it."""


class StorageError(FlatcoatError):
    """The index on disk is damaged, or the disk failed: restore a backup, index again, make room."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of one line; its type where it has none.

    >>> first_line(OSError("\\n no route to host\\nTraceback ..."))
    'no route to host'
    >>> first_line(KeyError())
    'KeyError'
    """
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    return next((line[:_LONGEST] for line in lines if line), type(error).__name__)
