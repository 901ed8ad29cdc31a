"""The notebooks: paired with their scripts, and run from top to bottom with the small model."""

import ast
import re
from pathlib import Path

import jupytext
import pytest

from vrwkv_jax.media.video import video_fps

FOLDER = Path(__file__).parents[2] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def run(code: list[str]) -> list[object]:
    """Runs cells one after another; gives what each of them shows, which is its last expression."""
    names: dict[str, object] = {}
    shown = []
    for source in code:
        module = ast.parse(source)
        last = module.body.pop().value if isinstance(module.body[-1], ast.Expr) else ast.Constant(None)
        exec(ast.unparse(module), names)
        shown.append(eval(ast.unparse(last), names))
    return shown


def test_they_are_all_there():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in sorted(FOLDER.glob("*.py"))]
    assert len(NOTEBOOKS) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_is_its_script(path):
    """``jupytext --sync docs/notebooks/*.py`` makes it so."""
    assert cells(path) == cells(path.with_suffix(".py"))
    assert all(not cell.get("outputs") for cell in jupytext.read(path).cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_each_imports_is_there(path):
    lines = [line for kind, source in cells(path) if kind == "code" for line in source.splitlines()]
    imports = [line for line in lines if re.match(r"(import|from) ", line)]
    assert any("vrwkv_jax" in line for line in imports)
    run(["\n".join(imports)])


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_runs(path, tmp_path, monkeypatch):
    """With the small model."""
    monkeypatch.chdir(tmp_path)
    code = [source for kind, source in cells(path) if kind == "code" and not source.startswith("%pip")]
    code = [source.replace("SMALL = False", "SMALL = True") for source in code]
    assert any("SMALL = True" in source for source in code)
    shown = [value for value in run(code) if value is not None]
    inline = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert all("base64," in html for html in inline)
    if path.stem == "edit-a-clip":
        assert len(inline) == 5  # clip, run, reconstruction, edit, edits
        assert video_fps("edited.mp4") == 8
    else:
        assert len(inline) == 2
        assert shown[-1][0] == (16, 16)  # places of the latents
