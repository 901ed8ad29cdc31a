"""What a video U-Net is made with: what its mixer is known with, and what is given in its place."""

import pytest
from flax import nnx

from tests.models.tiny_unet import TINY
from vrwkv_jax.models.layers import GroupNorm
from vrwkv_jax.models.mixers.base import Usual
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.video_config import VideoConfig


def test_the_default_is_what_it_was_before_mixers_were_known_with_anything():
    known = VideoConfig(placement=("skip", "mid"), attention="frame", groupnorm_scope="frame")
    assert VideoConfig().settled() == known == known.settled()
    assert VideoConfig(mixer="none").chosen == Usual(placement=())


@pytest.mark.parametrize("scope", ["frame", "video", "resnets"])
def test_which_norms_are_pooled_over_the_clip(scope):
    """``resnets`` as in Tune-A-Video's code: its residual blocks see five axes, its transformers single frames."""
    unet = nnx.eval_shape(lambda: UNet(TINY, VideoConfig(mixer="none", groupnorm_scope=scope), rngs=nnx.Rngs(0)))
    norms = {path: module.scope for path, module in unet.iter_modules() if isinstance(module, GroupNorm)}
    in_transformers = {path for path in norms if "attentions" in path}
    assert len(in_transformers) == 1 and ("conv_norm_out",) in norms and len(norms) > 8
    for path, found in norms.items():
        assert found == (scope if scope != "resnets" else "frame" if path in in_transformers else "video"), path
