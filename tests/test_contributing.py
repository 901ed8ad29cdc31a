"""CONTRIBUTING.md: every file that it names is there, and so is what it says to look for in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
HOMES = (ROOT, ROOT / "vrwkv_jax")


def test_files_are_where_it_says():
    named = set(re.findall(r"`([\w/.-]+\.(?:py|md|yaml))`", TEXT)) - {"config.yaml"}
    named = {name for name in named if "NAME" not in name}  # of what is to be written
    assert len(named) > 30
    assert [name for name in sorted(named) if not any((home / name).is_file() for home in HOMES)] == []


def test_names_are_in_the_files():
    for name, file in {
        "def read_video": "media/video.py",
        "class Source": "checkpoint/source.py",
        "def from_tensors": "checkpoint/torch_tensors.py",
        "class Format": "checkpoint/formats/base.py",
        "FORMATS": "checkpoint/formats/registry.py",
        "MIXERS": "models/mixers/registry.py",
        "SAMPLERS": "diffusion/samplers/registry.py",
        "class Sampler": "diffusion/samplers/base.py",
        "CONTROLS": "editing/controls/registry.py",
        "HOOKS": "models/control.py",
    }.items():
        assert name in (ROOT / "vrwkv_jax" / file).read_text(), name
        assert name.split()[-1 if name.startswith(("def", "class")) else 0] in TEXT, name


def test_it_answers_ten_questions_and_is_short():
    table = TEXT.split("| Where is, ")[1].split("\n\n")[0]
    before, _, doors = TEXT.partition("\n## Four doors\n")
    assert len(table.splitlines()) == 2 + 10 and len(before.splitlines()) <= 120
    assert all(len(door.splitlines()) <= 40 for door in doors.split("\n### "))  # a screen each
