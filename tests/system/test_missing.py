"""A package that is installed and cannot be imported meanwhile."""

import sys

import pytest

from vrwkv_jax.system.missing import missing


def test_is_missing_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "installed.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "installed", raising=False)
    with missing("installed"), pytest.raises(ImportError, match="installed"):
        import installed
    import installed

    assert installed
    with missing("installed"):  # too late
        import installed
    assert sys.modules["installed"] is installed
