"""What every step of tuning, inversion and sampling asks: the video U-Net, and how it computes."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.controls.blend import word_attention
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Control, Injection, Layers
from vrwkv_jax.models.deep_cache import Deep, DeepCache
from vrwkv_jax.models.mixers.vrwkv import set_recurrences
from vrwkv_jax.models.params import GraphDef, Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.parallel.spread import spread
from vrwkv_jax.system.choices import Precision
from vrwkv_jax.typing import Array, Float, Int


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params",),
    meta_fields=("graphdef", "schedule", "dtype", "mesh"),
)
@dataclass(frozen=True)
class Denoiser:
    """A U-Net as a function of its parameters. For ``jax.jit`` the parameters are arrays and the rest is static.

    ``dtype`` is what it computes in, whatever the parameters are kept in. On a ``mesh``, devices share the frames.
    """

    graphdef: GraphDef
    schedule: NoiseSchedule
    params: Params
    dtype: Precision
    mesh: Mesh | None = None

    def with_params(self, params: Params) -> "Denoiser":
        """The same with ``params`` besides its own, or in their place."""
        return replace(self, params=self.params | params)

    def with_recurrences(self, **attributes: Any) -> "Denoiser":
        """The same with other ``attributes`` of all ``Recurrence``s of its mixers. The parameters may be shapes."""
        unet = P.merge(self.graphdef, self.params)
        set_recurrences(unet, **attributes)
        return replace(self, graphdef=P.split(unet)[0])

    @property
    def takes_guidance(self) -> bool:
        """Whether the U-Net can be told the guidance scale, as latent consistency models are."""
        return any(path.startswith("time_embedding/cond_proj/") for path in self.params)

    def predict(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        *,
        guidance: Float[Array, " B"] | None = None,
        remat: bool = False,
    ) -> Float[Array, "B F H W C"]:
        """The U-Net's prediction in float32. ``guidance`` is the scale that it is told, if it takes one.

        ``remat``: its gradient computes activations anew.
        """

        def run(params: Params, latents: Array, timesteps: Array, text: Array, *told: Array) -> Array:
            return self._unet(params, latents, timesteps, text, guidance=told[0] if told else None, remat=remat)

        run = spread(run, self.mesh, self.params, rows=len(latents))
        told = () if guidance is None else (guidance,)
        return run(P.cast(self.params, self.dtype), latents, timesteps, encoder_hidden_states, *told)

    def predict_beside(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        injection: Injection,
        layers: Layers,
        *,
        guidance: Float[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B F H W C"], Float[Array, "2 F H W"]]:
        """``predict`` where all clips take over from the first what ``injection`` says, in ``layers``.

        The second result is the attention to the chosen words, of the first clip and the last.
        """

        def run(
            params: Params, batch: Array, timesteps: Array, text: Array, injection: Injection, *told: Array
        ) -> tuple[Array, Array]:
            control = Control(injection, layers, len(batch))
            scale = told[0] if told else None
            output = self._unet(params, batch, timesteps, text, guidance=scale, control=control)
            return output, word_attention(control.maps, *batch.shape[2:4])

        run = spread(run, self.mesh, self.params, rows=None)
        told = () if guidance is None else (guidance,)
        return run(P.cast(self.params, self.dtype), latents, timesteps, encoder_hidden_states, injection, *told)

    def predict_under(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        control: Control,
    ) -> Float[Array, "B F H W C"]:
        """``predict`` on one device under a ``control`` of the caller's, who may look into it afterwards."""
        params = P.cast(self.params, self.dtype)
        return self._unet(params, latents, timesteps, encoder_hidden_states, control=control)

    def predict_cached(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        *,
        depth: int,
        deep: Deep | None,
        injection: Injection | None = None,
        layers: Layers = (),
        guidance: Float[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B F H W C"], Float[Array, "2 F H W"] | None, Deep]:
        """``predict``, or ``predict_beside`` with an ``injection``, by the shallow blocks alone where there is what the
        ``deep`` ones gave for the same rows in an earlier step.

        The third result is what they gave. ``depth`` is that of a ``DeepCache``.
        """

        def run(
            params: Params,
            clips: tuple[Array, Deep | None],
            timesteps: Array,
            text: Array,
            injection: Injection | None,
            *told: Array,
        ) -> tuple[Array, Array | None, Deep]:
            batch, cache = clips[0], DeepCache(depth, clips[1])
            control = None if injection is None else Control(injection, layers, len(batch))
            scale = told[0] if told else None
            output = self._unet(params, batch, timesteps, text, guidance=scale, control=control, cache=cache)
            attention = None if control is None else word_attention(control.maps, *batch.shape[2:4])
            assert cache.deep is not None  # after a call
            return output, attention, cache.deep

        run = spread(run, self.mesh, self.params, rows=len(latents) if injection is None else None)
        told = () if guidance is None else (guidance,)
        clips = (latents, deep)
        return run(P.cast(self.params, self.dtype), clips, timesteps, encoder_hidden_states, injection, *told)

    def _unet(self, params: Params, latents: Array, timesteps: Array, text: Array, **options: Any) -> Array:
        unet: UNet = P.merge(self.graphdef, params)
        return unet(latents.astype(self.dtype), timesteps, text.astype(self.dtype), **options).astype(jnp.float32)
