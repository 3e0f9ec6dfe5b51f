"""The metadata fields that documents have, and the error for a filter on one that none has."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import OWN_FIELDS, normalized

_MOST_SHOWN = 20


class KnownFields(NamedTuple):
    """Of the fields of a filter, those that some document has, and the errors for others."""

    known: frozenset[str]
    errors: dict[str, str]


def known_fields(connection: sqlite3.Connection, fields: Iterable[str]) -> KnownFields:
    """Which of ``fields`` documents have; where no document has any field, nothing is an error."""
    known, errors = set[str](), dict[str, str]()
    for field in fields:
        if _has(connection, normalized(field)):
            known.add(field)
            continue
        try:
            require_fields(connection, [field])
        except UsageError as error:
            errors[field] = str(error)
    return KnownFields(frozenset(known), errors)


def require_fields(connection: sqlite3.Connection, fields: Iterable[str]) -> None:
    """UsageError for the first of ``fields`` that no document has; in an empty index any will do."""
    for field in fields:
        if not _has(connection, normalized(field)) and (known := _all_fields(connection)):
            from difflib import get_close_matches

            lowered = {name.lower(): name for name in known}
            near = get_close_matches(field.lower(), lowered, n=1, cutoff=0.5)
            hint = f"did you mean {lowered[near[0]]!r}? " if near else ""
            shown = ", ".join(known[:_MOST_SHOWN]) + (", …" if len(known) > _MOST_SHOWN else "")
            raise UsageError(
                f"filter: no document has a field {field!r:.60}: {hint}there are {shown}. Where a field may "
                "be missing, ask that first: FIELD exists and FIELD=VALUE"
            )


def _has(connection: sqlite3.Connection, field: str) -> bool:
    query = "SELECT EXISTS (SELECT 1 FROM {0}, json_each({0}.metadata) AS field WHERE field.key = ?)"
    tables = ("documents", "passages") if field in OWN_FIELDS else ("documents",)
    return any(connection.execute(query.format(table), [field]).fetchone()[0] for table in tables)


def _all_fields(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT DISTINCT field.key FROM documents, json_each(documents.metadata) AS field"
    found = {name for (name,) in connection.execute(query)}
    return sorted(found | {name for name in OWN_FIELDS if found and _has(connection, name)})
