"""CONTRIBUTING.md: every file that it names is there, and so is what it says to look for in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
HOMES = (ROOT, ROOT / "vrwkv_jax")


def test_files_are_where_it_says():
    named = set(re.findall(r"`([\w/.-]+\.(?:py|md|yaml))`", TEXT)) - {"config.yaml"}
    assert len(named) > 30
    assert [name for name in sorted(named) if not any((home / name).is_file() for home in HOMES)] == []


def test_names_are_in_the_files():
    for name, file in {
        "def read_video": "media/video.py",
        "def load_params": "checkpoint/load.py",
        "def from_tensors": "checkpoint/torch_tensors.py",
        "class Format": "checkpoint/formats/base.py",
        "FORMATS": "checkpoint/formats/registry.py",
        "MIXERS": "models/mixers/factory.py",
        "GAINS": "tuning/optimizer.py",
        "def _advance": "editing/steps.py",
        "Sampler =": "editing/steps.py",
        "class StepBefore": "diffusion/dpm_solver.py",
        "def is_neutral": "editing/controls/config.py",
        "class Injection": "models/control.py",
    }.items():
        assert name in (ROOT / "vrwkv_jax" / file).read_text(), name
        assert name.split()[-1 if name.startswith(("def", "class")) else 0] in TEXT, name


def test_it_answers_ten_questions_and_is_short():
    table = TEXT.split("| Where is, ")[1].split("\n\n")[0]
    assert len(table.splitlines()) == 2 + 10 and len(TEXT.splitlines()) <= 120
