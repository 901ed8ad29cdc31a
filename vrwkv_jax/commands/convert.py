"""``vrwkv convert SRC DST``, or ``python -m convert``: a Stable Diffusion checkpoint, converted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.system.checks import default_shown
from vrwkv_jax.system.errors import printable


class Bars:
    """Draws a bar per stage, on stderr."""

    @contextmanager
    def stage(self, what: str, total: int, done: int = 0, unit: str = "step") -> Iterator[Callable[..., object]]:
        with tqdm(total=total, initial=done, desc=what, unit=unit) as bar:
            yield lambda: bar.update()


def main() -> None:
    tyro.cli(command, prog="python -m convert")


def command(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    destination: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DST")],
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        tyro.conf.arg(metavar="{float32,bfloat16}", help_behavior_hint=default_shown),
    ] = None,
) -> None:
    """Convert a Stable Diffusion 1.x or 2.x checkpoint to the format of this package (Orbax).

    Args:
        source: Directory in the diffusers layout, with safetensors; or a Hugging Face id owner/name.
        destination: Directory to write, which must not exist.
        dtype: What the weights are stored in. Not set: what they are in now.
    """
    check_devices()
    print(printable(convert(source, destination, dtype, progress=Bars())))
