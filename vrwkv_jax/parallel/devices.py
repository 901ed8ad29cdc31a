"""Whether JAX can use what there is: settings of the environment that it can't follow end in a sentence."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

from vrwkv_jax.system.errors import UserError, quoted

CARDS = ("/dev/nvidia0", "/proc/driver/nvidia/gpus", "/dev/dxg")  # of NVIDIA's driver; the last in WSL
PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
INSTALL = "pip install -e '.[cuda]'"
_PARSE_FLAGS = "from jaxlib import xla_client; xla_client.make_cpu_client()"


def check_environment() -> None:
    """Raises UserError where the current directory is gone, or an environment variable is nothing for JAX or XLA.

    XLA ends the process when it reads ``XLA_FLAGS`` that it doesn't know, so another process reads them first.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current directory is not there any more ({error.strerror}): change to another with cd"
        ) from error
    try:
        import jax  # noqa: F401 - which reads its settings now
    except ValueError as error:
        raise UserError(f"JAX does not take a setting of the environment ({error}): correct it, or unset it") from error
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    found = subprocess.run([sys.executable, "-c", _PARSE_FLAGS], capture_output=True, text=True, errors="replace")
    complaints = [line.partition("] ")[2] for line in found.stderr.splitlines() if line[:1] in "EF" and "flags" in line]
    if found.returncode != 0 and complaints:
        raise UserError(
            f"XLA does not take the environment variable XLA_FLAGS, {quoted(flags)} ({complaints[0].rstrip('.')}): "
            "correct it, or unset it"
        )


def check_devices() -> None:
    """Starts JAX's devices; warns of a card that JAX does not use.

    Raises:
        UserError: ``JAX_PLATFORMS`` asks for devices that there are not, or none can be started.
    """
    import jax

    try:
        platforms = {device.platform for device in jax.devices()}
    except (RuntimeError, AssertionError) as error:  # the latter where a plugin is missing, without a word
        asked = os.environ.get("JAX_PLATFORMS")
        reason = str(error).split("\n")[0].removesuffix(".") or "there is none that JAX can use"
        if asked:
            hint = "" if _plugin() else f", or, for an NVIDIA GPU, install JAX's CUDA plugin: {INSTALL}"
            raise UserError(
                f"the environment variable JAX_PLATFORMS asks for {asked}, which can't be started here ({reason}): "
                f"unset it{hint}"
            ) from error
        raise UserError(f"JAX can't start its devices ({reason}): see whether the driver and jax fit") from error
    if platforms == {"cpu"} and (card := _unused_card()):
        cause = f"its CUDA plugin can't use it ({_plugin()}; see above)" if _plugin() else "it has no CUDA plugin"
        remedy = "see whether nvidia-smi shows the GPU" if _plugin() else f"install it: {INSTALL}"
        warnings.warn(
            f"there is an NVIDIA GPU here ({card}), but JAX computes on the processor, for {cause}: {remedy}",
            stacklevel=2,
        )


def _plugin() -> str | None:
    return next((name for name in PLUGINS if importlib.util.find_spec(name)), None)


def _unused_card() -> str | None:
    """A sign of a card that nobody has asked JAX to leave alone."""
    if os.environ.get("JAX_PLATFORMS") or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    return next((path for path in CARDS if Path(path).exists()), None)
