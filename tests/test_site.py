"""The documentation site builds without warnings, loads nothing from other sites, and has no broken links."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ZENSICAL = Path(sys.executable).with_name("zensical")
LOADED = re.compile(r"<(?:link|script|img|iframe|source|video|audio)\b[^>]*?\b(?:href|src|srcset)=[\"']?([^\"' >]+)")
LINK = re.compile(r"<a\b[^>]*?\bhref=[\"']?([^\"' >#]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [str(ZENSICAL), "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    config = (ROOT / "zensical.toml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f'"{page.name}"' in config, page.name
        assert (site / (page.stem if page.stem != "index" else "") / "index.html").exists()


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in LOADED.findall(page.read_text()):
            assert "//" not in address, (page, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob("index.html"):
        for link in LINK.findall(page.read_text()):
            if "//" not in link and not link.startswith("mailto:"):
                assert (page.parent / link).resolve().exists(), (page, link)
