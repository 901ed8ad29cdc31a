"""What the site needs beside docs/: pages and files of the rest of the repository, notebooks as pages, and equations
without a script.

Links are written as they work in the repository, on GitHub and in an editor, and lead to the same places of the site.
"""

import os
import re
from html import unescape
from pathlib import Path, PurePosixPath
from typing import Any

import jupytext
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FILES = ("benchmarks/results/*.json", "examples/*.py", "recipes/*.yaml")
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "vrwkv_jax/built_in/shapes/README.md": "built-in-model.md",
    **{(name := path.relative_to(ROOT).as_posix()): name for files in FILES for path in sorted(ROOT.glob(files))},
}
"""Path in the repository -> path in the site."""
NOTEBOOKS = {
    path.relative_to(ROOT).as_posix(): f"notebooks/{path.stem}.md"
    for path in sorted(ROOT.glob("docs/notebooks/*.ipynb"))
}
"""The same of those that are pages: Markdown is made of them."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)#\s]+)")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds what lies outside of docs/, and the notebooks as pages."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for path, place in NOTEBOOKS.items():
        files.append(File.generated(config, place, content=_page(ROOT / path)))
    return files


def _page(path: Path) -> str:
    """A notebook as Markdown, with the notebook to take away."""
    notebook = jupytext.read(path)
    title, *rest = notebook.cells[0].source.splitlines()
    link = f'<a href="{path.name}" download>The notebook itself</a>, to run it.'
    notebook.cells[0].source = "\n".join([title, "", link, *rest])
    notebook.metadata = {}
    return str(jupytext.writes(notebook, "md"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads relative links of the repository to where their targets are on the site; the others stay, and fail."""
    place = page.file.src_uri
    source = next((path for path, of in OUTSIDE.items() if of == place), f"docs/{place}")

    def on_site(link: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / link[1])
        if target not in OUTSIDE and not target.startswith("docs/"):
            return link[0]
        there = (OUTSIDE | NOTEBOOKS).get(target, target.removeprefix("docs/"))
        return os.path.relpath(there, PurePosixPath(place).parent)

    return LINK.sub(on_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Equations as MathML, which browsers draw by themselves."""

    def mathml(equation: re.Match[str]) -> str:
        return convert(unescape(equation[2]), display="block" if equation[1] == "div" else "inline")

    return EQUATION.sub(mathml, html)
