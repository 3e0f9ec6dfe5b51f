"""Keeps things by key."""

import os
from pathlib import Path

LIMIT = 10


class Store:
    """A store of entries on disk."""

    def __len__(self):
        return len(self.entries)

    # Reads one entry.
    @property
    def read(self):
        def inner():
            return self.path

        return inner

    def _load(self):
        for line in Path(self.path).read_text().splitlines():
            self.entries[line] = line


class _Entry:
    def show(self):
        return os.name


async def open_store(path):
    return Store(path)


def test_an_unknown_key_gives_nothing():
    assert open_store("x").read("a") is None


class TestStore:
    def test_read(self):
        assert Store("x")
