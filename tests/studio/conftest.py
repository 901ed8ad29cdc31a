"""Where pictures of the page go: ``SCREENSHOTS=/tmp/studio python -m pytest -m browser`` makes those of the docs."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("SCREENSHOTS", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    return directory
