"""Shapes in the signatures are checked in every test: jaxtyping's import hook comes before the package."""

import os
import signal
from importlib.metadata import version

import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401 - which the hook looks up

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # in the commands that tests run, too
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"  # most of what is tested takes longer to compile than to run
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background

install_import_hook(("vrwkv_jax", "pallas_kernels"), "tests.typechecker.check")

# Half of the compiler's time: in one piece and, with jaxlib before 0.11, which knows that flag, by LLVM alone.
QUICK_TO_COMPILE = "--xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"

pytest_plugins = ["tests.small", "tests.tiny"]


def pytest_configure(config):
    if config.option.markexpr not in ("slow", "gpu"):  # which test the program that users run; see below
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_TO_COMPILE}".strip()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The Hugging Face client's cache directory: an empty one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def optimised_at_full_size(request, monkeypatch):
    """On GPUs, and with models of full size, what is tested is the program that users run."""
    if not any(request.node.get_closest_marker(name) for name in ("gpu", "slow")):
        yield
        return
    import jax  # not before the variables above are set

    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "false")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
