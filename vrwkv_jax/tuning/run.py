"""What tuning makes."""

from dataclasses import dataclass

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.models.params import Params


@dataclass(frozen=True)
class Run:
    """What tuning makes.

    ``params`` are the tuned parameters of the U-Net alone (path -> float32 array), with mixers as strong as edits get
    them (``mixer_strength``). ``log`` has one entry per step: ``step`` (from 1), ``loss``, ``grad_norm`` (before
    clipping), ``update_norm``, ``param_norm`` (after the update) and ``seconds``; that of ``python -m train.tune`` also
    the learning rates and ``memory_bytes``.
    """

    config: TuneConfig
    params: Params
    log: list[dict[str, int | float]]

    def _repr_html_(self) -> str:
        """The curve of its loss in a notebook."""
        from vrwkv_jax.media.inline import losses_html

        return losses_html([entry["loss"] for entry in self.log], [int(entry["step"]) for entry in self.log])
