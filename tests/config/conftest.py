"""Files to read, and what is said of their mistakes."""

from pathlib import Path

import pytest

from vrwkv_jax.config import (
    TuneConfig,
    load_yaml,
)
from vrwkv_jax.system.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "file.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def complaint(write):
    """What a YAML file is told, without the file's name."""

    def complaint(text: str) -> str:
        path = write(text)
        with pytest.raises(UserError) as caught:
            load_yaml(TuneConfig, path)
        assert str(caught.value).startswith(str(path))
        return str(caught.value)[len(str(path)) :]

    return complaint
