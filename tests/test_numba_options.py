"""Compiled kernels are kept where one may write, and kernels work where one may not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import flatcoat

NOBODY = 65534
UNKNOWN = 54_321
"""A user id without an entry in the password file, as containers have."""

KERNELS = """
import os, sys
import numpy as np
import numba.core.caching, numba.np.ufunc, numba.core.typed_passes, pickle, pwd
@numba.njit
def warm(x):  # The compiler's own modules, which another user may not be able to read.
    for i in range(len(x)):
        x[i] = np.sqrt(x[i])
warm(np.ones(2, np.float32))
site, user = sys.argv[1:]
if os.getuid() == 0:
    os.setuid(int(user))
sys.path.insert(0, site)
from flatcoat.backbone.kernels_numba import add
from flatcoat.indexing.plaid.codec_kernels import __file__ as file
from flatcoat.indexing.plaid.int8_matmul import Columns, as_rows, nearest
assert file.startswith(site)
ones, found = np.ones((2, 4), np.float32), np.empty((2, 4), np.float32)
add(ones, ones, np.ones(2, np.float32), found)
assert (found == 2).all()
columns, where = Columns(np.eye(4, dtype=np.int8)), np.empty(4, np.int32)
nearest(as_rows(np.eye(4, dtype=np.int8)), 4, columns.panels, columns.starts, where)
assert where.tolist() == [0, 1, 2, 3]
for kernel in (add, nearest):
    print(kernel.stats.cache_path, sum(kernel.stats.cache_hits.values()))
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """The package as in a site-packages that nobody can write to, outside pytest's private folders."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        source, copy = Path(flatcoat.__file__).parent, Path(folder) / "site" / "flatcoat"
        for part in ("backbone", "indexing"):
            shutil.copytree(source / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in source.glob("*.py"):
            shutil.copy(file, copy)
        for entry in [*copy.rglob("*"), copy]:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        yield copy.parent
        for entry in [copy, *copy.rglob("*")]:
            entry.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can write to."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def run(site: Path, here: Path, user: int = NOBODY, **settings: str) -> list[tuple[str, int]]:
    """Where each kernel is kept, and how often it was found there, in a new process of another user."""
    hidden = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", KERNELS, str(site), str(user)]
    done = subprocess.run(command, env=environment | settings, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(path, int(hits)) for path, hits in (line.rsplit(" ", 1) for line in done.stdout.splitlines())]


@pytest.mark.parametrize("setting", ["HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_kernels_are_compiled_once_per_user(site: Path, open_folder: Path, setting: str) -> None:
    kept = [run(site, open_folder, **{setting: str(open_folder)}) for _ in range(2)]
    for path, _ in kept[0]:
        assert path.startswith(str(open_folder))
    assert [[hits for _, hits in kernels] for kernels in kept] == [[0, 0], [1, 1]]


@pytest.mark.parametrize("settings", [{"HOME": "/proc/nowhere"}, {"HOME": "/"}, {}])
def test_kernels_work_where_nothing_can_be_kept(
    site: Path, open_folder: Path, settings: dict[str, str]
) -> None:
    kernels = run(site, open_folder, user=UNKNOWN, **settings)
    if os.getuid() == 0:
        assert kernels == [("None", 0)] * 2
        assert list(open_folder.iterdir()) == []
