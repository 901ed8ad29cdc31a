"""What an edit gives."""

from dataclasses import dataclass

import numpy as np

from vrwkv_jax.typing import Bool, UInt8


@dataclass(frozen=True)
class Edit:
    """An edited clip.

    ``mask`` says where in the latents it was free to change, if anything restrained it; ``row_calls``, how often
    sampling asked the U-Net for one row, which is all frames of one prompt; where it asked the shallow blocks alone,
    by the share of the operations.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    mask: Bool[np.ndarray, "F h w"] | None = None
    row_calls: int | float = 0

    def _repr_html_(self) -> str:
        """The clip in a notebook."""
        from vrwkv_jax.media.inline import show

        return show(self.frames).html
