"""Where runs lie in tests of the studio, and pictures of its page.

``SCREENSHOTS=~/studio python -m pytest -m browser`` makes those of the docs.
"""

import os
from pathlib import Path

import pytest

from vrwkv_jax.studio.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "runs")
    found.make()
    return found


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("SCREENSHOTS", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    return directory
