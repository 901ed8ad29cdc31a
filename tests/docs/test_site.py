"""The pages of docs/, and those at the root: all in the navigation, links that lead somewhere, every public name.

Without mkdocs, whose strict build (.ci/run) asks for the same and more, such as that it can read every docstring.
"""

import re
from pathlib import Path

import pytest
import yaml

import pallas_kernels.bi_wkv
import pallas_kernels.selective_scan
import vrwkv_jax

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
FROM_OUTSIDE = {"index.md", "contributing.md", "changelog.md", "built-in-model.md"}
"""Pages that docs/hooks.py makes of files outside of docs/."""
NOTEBOOKS = {f"notebooks/{path.stem}.md" for path in DOCS.glob("notebooks/*.ipynb")}
"""Pages that it makes of notebooks."""
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
READ = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{page}" for page in PAGES)]


def pages_of(nav: object) -> list[str]:
    """The pages of a navigation as mkdocs.yml has it, at every depth."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in inner for page in pages_of(entry)]


def prose(text: str) -> str:
    """``text`` of a page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """Those of the headings of a page, as GitHub makes them; mkdocs makes the same of ours."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of ``text``, which stands at ``page``, to files or headings that are not there."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        is_there = target.is_file() and target.resolve().is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


def test_every_page_is_in_the_navigation_once():
    assert sorted(pages_of(SITE["nav"])) == sorted([*PAGES, *FROM_OUTSIDE, *NOTEBOOKS])


@pytest.mark.parametrize("page", READ)
def test_links_lead_somewhere(page):
    assert broken_links(ROOT / page, (ROOT / page).read_text()) == []


def test_broken_links_are_found():
    text = "[a](docs/start.md) [b](docs/no.md) [c](docs/long-video.md#adaflow) [d](docs/long-video.md#no) [e](x.md#y)"
    assert broken_links(ROOT / "README.md", text) == ["docs/no.md", "docs/long-video.md#no", "x.md#y"]
    text = "`[a](b)` [c](https://example.org/) [d](#tests) [e](#no) [f](docs)"
    assert broken_links(ROOT / "README.md", text) == ["#no", "docs"]


@pytest.mark.parametrize(
    ("page", "package"),
    [("", vrwkv_jax), ("bi-wkv", pallas_kernels.bi_wkv), ("selective-scan", pallas_kernels.selective_scan)],
)
def test_the_reference_has_every_public_name(page, package):
    of = [f"reference/{page}.md"] if page else [p for p in PAGES if p.startswith("reference/")]
    text = "".join((DOCS / name).read_text() for name in of)
    documented = re.findall(rf"^::: {re.escape(package.__name__)}\.(\w+)$", text, re.MULTILINE)
    shared = {"IMPLEMENTATIONS", "implementation_for"} if page == "selective-scan" else set()  # stand with Bi-WKV
    assert shared <= set(re.findall(r"`(\w+)`", text))
    assert sorted(documented) == sorted(set(package.__all__) - shared)


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_the_site_loads_nothing_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert "search" in SITE["plugins"]
    assert not [key for key in ("extra_javascript", "extra") if key in SITE]
    assert "http" not in (DOCS / "site.css").read_text()
