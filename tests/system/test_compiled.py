"""Compiled programs on disk, in processes of their own: JAX takes these settings once."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax
from vrwkv_jax.system.compiled import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: x + 1)(1))
"""


def run(**environment):
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true", **environment}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "2", "")


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_programs_are_kept_where_the_user_keeps_such_things(tmp_path, variable):
    run(HOME=str(tmp_path / "home"), **{variable: str(tmp_path / "cache")})
    assert [path for path in (tmp_path / "cache").rglob("*-cache") if path.is_file()]
    assert not (tmp_path / "home").exists()


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("")
    run(XDG_CACHE_HOME=str(tmp_path / "file"))
