"""The site is built without a warning, and no link in it leads nowhere."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import flatcoat

ROOT = Path(flatcoat.__file__).parent


class _Links(HTMLParser):
    """The targets of links and pictures of a page, and the places in it that links can lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if identifier := values.get("id"):
            self.anchors.add(identifier)
        for name in ("href", "src"):
            if (target := values.get(name)) is not None:
                self.targets.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a folder called flatcoat, whatever that of the repository is called."""
    folder = tmp_path_factory.mktemp("site") / "flatcoat"
    folder.mkdir()
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("zensical.toml", "SECURITY.md"):
        shutil.copy(ROOT / name, folder)
    for path in ROOT.iterdir():  # What the reference is read from.
        if (path / "__init__.py").is_file() or path.suffix == ".py":
            (folder / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


def test_no_link_leads_nowhere(site: Path) -> None:
    pages = {page: _Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) >= 19
    broken = []
    for page, links in pages.items():
        for link in links.targets:
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            lost = anchor and target in pages and anchor not in pages[target].anchors | {"__skip"}
            if not target.exists() or lost:
                broken.append(f"{page.name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert not re.findall(
        r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?://(?!example)", text.replace('rel="canonical"', "")
    )


def test_the_reference_has_every_public_class_with_its_example(site: Path) -> None:
    text = (site / "api.html").read_text()
    for name in ("Retriever", "Document", "ColbertEncoder", "Recipe", "ModernBert", "CheckRecord"):
        assert name in text
    assert "&gt;&gt;&gt;" in text and "unresolved" not in text
