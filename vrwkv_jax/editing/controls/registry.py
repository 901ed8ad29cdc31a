"""The controls that there are, by name: the one list of them."""

from vrwkv_jax.editing.controls.base import EditControl
from vrwkv_jax.editing.controls.blend import BLEND
from vrwkv_jax.editing.controls.cross_attention import CROSS_ATTENTION
from vrwkv_jax.editing.controls.features import FEATURES
from vrwkv_jax.editing.controls.mixer_keys import MIXER_KEYS
from vrwkv_jax.editing.controls.self_attention import SELF_ATTENTION

CONTROLS: dict[str, EditControl] = {
    "cross_attention": CROSS_ATTENTION,
    "self_attention": SELF_ATTENTION,
    "features": FEATURES,
    "mixer_keys": MIXER_KEYS,
    "blend": BLEND,
}
