"""The mixers that there are, by name: the one list of them."""

from vrwkv_jax.models.mixers.base import Mixer
from vrwkv_jax.models.mixers.fluencyve import FluencyVE
from vrwkv_jax.models.mixers.released import Released
from vrwkv_jax.models.mixers.tune_a_video import TuneAVideo
from vrwkv_jax.models.mixers.vrwkv import VRWKV

MIXERS: dict[str, type[Mixer]] = {
    "vrwkv": VRWKV,
    "tune_a_video": TuneAVideo,
    "fluencyve": FluencyVE,
    "released": Released,
}
