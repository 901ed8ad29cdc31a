"""Where the pictures of the page go."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", help="directory for pictures of the studio's page, for docs/studio.md")


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = Path(request.config.getoption("--screenshots", default=None) or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    return directory
