"""Compiled programs stay on disk, so that the second command need not wait for what the first one compiled."""

import os
import platform
from pathlib import Path

import jax

MAX_BYTES = 2 * 2**30  # then those unused for longest go


def keep_compiled_programs() -> None:
    """From now on, what takes more than a second to compile is kept in the user's cache directory.

    A directory for each machine, because a home directory may be shared by several. JAX_COMPILATION_CACHE_DIR names
    another place, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    directory = root / "vrwkv-jax" / "compiled" / platform.node()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # it would only have saved time
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
