"""Archives from PyPI, npm and Debian, by name and version.

A package is fetched by the registry's own client as this machine is set up (``pip``, ``npm``, ``apt``), or
straight from an address where one is given in the environment:

    FLATCOAT_PYPI_INDEX      a simple index (PEP 691); also PIP_INDEX_URL
    FLATCOAT_NPM_REGISTRY    a registry; also npm_config_registry
    FLATCOAT_DEBIAN_MIRROR   one or more archives, separated by spaces, each the folder that holds ``pool``;
                             a snapshot of the archive serves versions that mirrors have dropped

Only pip may run a package's code: the build backend that names its metadata, of an archive whose hash it has
checked.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPResponse
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import Request, urlopen

from flatcoat.errors import NotFoundError, UsageError

from .package import Package

_SECONDS = 600  # for one package
_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
_ARCHIVES = (".gz", ".tgz", ".xz", ".bz2")
_APT_HELPER = "/usr/lib/apt/apt-helper"  # apt's own downloader: proxies and mirrors as apt has them


def fetch(package: Package, scratch: Path) -> Path:
    """Fetch a package's archive into ``scratch``; its hash is the caller's to check.

    Raises NotFoundError where it cannot be fetched, UsageError for an address that is not http or https.
    """
    return _FETCH[package.registry](package, scratch)


def _from_pypi(package: Package, scratch: Path) -> Path:
    if index := _address("FLATCOAT_PYPI_INDEX", "PIP_INDEX_URL"):
        page = f"{index}{package.name}/"
        listing = json.loads(_read(package, page, accept=_SIMPLE_JSON))
        links = [entry["url"] for entry in listing.get("files", ()) if entry.get("filename") == package.file]
        if not links:
            raise NotFoundError(f"{package.file} is not in the index that {_host(index)} serves")
        return _download(package, [urljoin(page, links[0])], scratch)
    is_module = find_spec("pip") is not None
    pip = [sys.executable, "-m", "pip"] if is_module else [_client("pip", "FLATCOAT_PYPI_INDEX", package)]
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
    options = ["--quiet", "--no-deps", "--no-binary", package.name, "--require-hashes"]
    command = [*pip, "download", *options, "--dest", str(scratch), "--requirement", str(wanted)]
    _run(command, package, scratch)
    return _only(package, scratch)


def _from_npm(package: Package, scratch: Path) -> Path:
    if registry := _address("FLATCOAT_NPM_REGISTRY", "npm_config_registry"):
        base = package.name.rsplit("/", 1)[-1]
        link = f"{registry}{quote(package.name, safe='@/')}/-/{base}-{package.version}.tgz"
        return _download(package, [link], scratch)
    npm = _client("npm", "FLATCOAT_NPM_REGISTRY", package)
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(scratch)]
    _run([npm, "pack", *options, f"{package.name}@{package.version}"], package, scratch)
    return _only(package, scratch)


def _from_debian(package: Package, scratch: Path) -> Path:
    if mirrors := os.environ.get("FLATCOAT_DEBIAN_MIRROR", "").split():
        return _download(package, [f"{mirror.rstrip('/')}/{package.pool}" for mirror in mirrors], scratch)
    apt = _client("apt-get", "FLATCOAT_DEBIAN_MIRROR", package)
    listed = _run([apt, "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], package, scratch)
    problem = NotFoundError(f"{package.file}: apt knows no archive; set FLATCOAT_DEBIAN_MIRROR")
    for mirror in dict.fromkeys(listed.split()):
        place = scratch / package.file
        link = f"{mirror.rstrip('/')}/{package.pool}"
        try:
            command = [_APT_HELPER, "download-file", link, str(place), f"SHA256:{package.sha256}"]
            _run(command, package, scratch)
            return place
        except NotFoundError as error:
            problem = error
    raise problem


_FETCH: Mapping[str, Callable[[Package, Path], Path]] = {
    "pypi": _from_pypi,
    "npm": _from_npm,
    "debian": _from_debian,
}


def _address(*variables: str) -> str:
    """The first of these variables that is set, with a slash at its end, or nothing."""
    found = next((value for name in variables if (value := os.environ.get(name))), "")
    return f"{found.rstrip('/')}/" if found else ""


def _client(name: str, variable: str, package: Package) -> str:
    if path := shutil.which(name):
        return path
    raise NotFoundError(
        f"{package.file} is fetched by {name}, which is not here: install it, or set {variable}"
    )


def _run(command: Sequence[str], package: Package, scratch: Path) -> str:
    """What a client prints; its last line of complaint where it fails."""
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFoundError(f"{package.file} cannot be fetched: {error}") from error
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise NotFoundError(f"{package.file} cannot be fetched by {Path(command[0]).name}: {complaint}")
    return done.stdout


def _only(package: Package, scratch: Path) -> Path:
    """The archive that a client left, whatever it named it."""
    found = [path for path in scratch.iterdir() if path.suffix in _ARCHIVES]
    if len(found) != 1:
        raise NotFoundError(f"{package.file}: the client left {len(found)} archives, one was expected")
    return found[0]


def _download(package: Package, links: Sequence[str], scratch: Path) -> Path:
    """The file behind the first of these addresses that answers."""
    problem: Exception | None = None
    for link in links:
        try:
            with _open(link) as answer, (scratch / package.file).open("wb") as file:
                shutil.copyfileobj(answer, file)
            return scratch / package.file
        except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
            problem = error
    raise NotFoundError(f"{package.file} cannot be fetched from {_host(links[-1])}: {problem}") from problem


def _read(package: Package, link: str, *, accept: str) -> bytes:
    try:
        with _open(link, accept=accept) as answer:
            return answer.read()
    except (OSError, ValueError) as error:
        raise NotFoundError(f"{package.file} cannot be looked up at {_host(link)}: {error}") from error


def _open(link: str, *, accept: str = "*/*") -> HTTPResponse:
    if urlsplit(link).scheme not in ("http", "https"):
        raise UsageError(f"the address {_host(link)!r} is not http or https")
    return urlopen(Request(link, headers={"Accept": accept, "User-Agent": "flatcoat"}), timeout=60)


def _host(link: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    return urlsplit(link).hostname or link
