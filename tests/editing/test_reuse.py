"""Sampling by feature reuse: which steps run all blocks, what comes out, and what it is said to have cost."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gpu_target import describing
from tests.injections import EVERYWHERE, injection
from tests.models import by_hand
from tests.programs.operations import calls_and_branches
from tests.small import clip
from tests.tiny import UNET
from vrwkv_jax import Editor
from vrwkv_jax.editing import kept_steps, steps
from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.reuse import share_of_operations, whole_steps
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models import params as P
from vrwkv_jax.models.deep_cache import DeepCache
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

SOURCE, TARGET, STEPS = "a red disc", "a blue disc", 7
PLACES = {"feature_layers": ("up_blocks",), "self_attention_layers": ("mid_block",)}
NOTHING, EDIT, ALL = Needs.NOTHING, Needs.EDIT, Needs.SOURCE


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("skip", "mid")))


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(2)[:, :8, :8], SOURCE, num_inference_steps=STEPS, iterations=1)


@pytest.fixture(scope="module")
def share(editor, inversion) -> float:
    return share_of_operations(editor.denoiser, (1, *inversion.trajectory.shape[1:]), (1, 2, 77, 8), 1)


def latents_of(editor, inversion, **how):
    """After every step, and the edit."""
    found = []
    edit = editor.edit(inversion, TARGET, callback=lambda *now: found.append(np.asarray(now[-1])), **how)
    return found, edit


@pytest.mark.parametrize(
    ("needs", "guided", "changes", "interval", "expected"),
    [
        ([NOTHING] * 7, [True] * 7, [0] * 7, 1, [0, 1, 2, 3, 4, 5, 6]),
        ([NOTHING] * 7, [True] * 7, [0] * 7, 3, [0, 0, 0, 3, 3, 3, 6]),
        ([ALL] * 4 + [NOTHING] * 3, [True] * 7, [1] * 4 + [0] * 3, 3, [0, 0, 0, 3, 4, 4, 4]),
        ([ALL] * 7, [True] * 7, [1] * 2 + [2] * 5, 3, [0, 0, 2, 2, 2, 5, 5]),  # another injection
        ([NOTHING] * 7, [False] * 2 + [True] * 3 + [False] * 2, [0] * 7, 4, [0, 0, 2, 2, 2, 2, 6]),  # a row more; less
        ([EDIT] * 2 + [ALL] * 5, [True] * 7, [1] * 7, 9, [0, 0, 2, 2, 2, 2, 2]),
    ],
)
def test_which_steps_run_all_blocks(needs, guided, changes, interval, expected):
    given = [injection(3, blend=jnp.full((2, 3), change)) for change in changes]
    assert whole_steps(list(zip(needs, guided, strict=True)), given, interval, 1.0) == expected
    if len(set(changes)) == 1:
        assert whole_steps(list(zip(needs, guided, strict=True)), None, interval, 1.0) == expected


@pytest.mark.parametrize(
    ("until", "expected"), [(1.0, [0, 0, 0, 3, 3, 3, 6]), (0.6, [0, 0, 0, 3, 4, 5, 6]), (0.0, [0, 1, 2, 3, 4, 5, 6])]
)
def test_from_so_many_steps_on_all_run_all_blocks(until, expected):
    assert whole_steps([(NOTHING, True)] * 7, None, 3, until) == expected


@pytest.mark.parametrize("interval", [2, 3])
def test_is_ddim_with_pieces_called_one_by_one(interval, editor, inversion):
    found, _ = latents_of(editor, inversion, sampling=Sampling(guidance_scale=3.0, cache_interval=interval))
    schedule, text = editor.schedule, editor.encode_prompts(["", TARGET])

    @jax.jit
    def ask(params, latents, timesteps, deep):
        return by_hand.call(P.merge(editor.unet.graphdef, params), latents, timesteps, text, 1, deep)

    expected = by_hand.guided_ddim(
        partial(ask, editor.unet.params),
        lambda timestep: schedule.alphas_cumprod[timestep] if timestep >= 0 else schedule.final_alpha_cumprod,
        inversion.latents,
        schedule.timesteps(STEPS),
        schedule.previous_timesteps(STEPS),
        scale=3.0,
        interval=interval,
    )
    for one, other in zip(found, expected, strict=True):
        # The same numbers, compiled together: rounding that the steps add up.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
    plain, _ = latents_of(editor, inversion, sampling=Sampling(guidance_scale=3.0))
    assert np.abs(found[-1] - plain[-1]).max() > 1e-3 * np.abs(plain[-1]).max()


@pytest.mark.parametrize("controls", [{}, {"features": 0.5, "cross_attention": 1.0}, {"blend": ("disc",)}])
def test_steps_that_run_all_blocks_are_plain_ones_bit_for_bit(controls, editor, inversion, monkeypatch):
    how = {"controls": ControlConfig(**controls, **PLACES)}
    expected, plain = latents_of(editor, inversion, sampling=Sampling(guidance_scale=3.0), **how)
    monkeypatch.setattr("vrwkv_jax.editing.sampling.whole_steps", lambda asked, *_: list(range(len(asked))))
    found, edit = latents_of(editor, inversion, sampling=Sampling(guidance_scale=3.0, cache_interval=2), **how)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(edit.frames, plain.frames)
    np.testing.assert_array_equal(edit.mask, plain.mask)
    assert edit.row_calls == plain.row_calls


CASES = [  # and the rows of the steps that run all blocks, and of the others
    ({}, {}, 4 * 2, 3 * 2),
    ({"guidance_scale": 1.0, "cache_interval": 3}, {}, 3, 4),
    ({"sampler": "dpm++"}, {"features": 0.5}, 2 * 3 + 2 * 2, 2 * 3 + 1 * 2),  # 4 steps with, 3 without
    pytest.param({"eta": 0.5}, {"cross_attention": 0.4, "blend": ("disc",)}, 4 * 3, 3 * 3, marks=pytest.mark.long),
    ({"guidance_interval": (0.0, 0.3), "cache_interval": 3}, {}, 2 + 1 + 1, 2 + 1 + 2 * 1),  # one row of two, reused
    pytest.param(
        {"strength": 0.6, "guidance_interval": (0.3, 1.0)}, {"mixer_keys": 0.5}, 2 + 3 + 2, 2, marks=pytest.mark.long
    ),
]


@pytest.mark.parametrize(("settings", "controls", "whole", "shallow"), CASES)
def test_is_the_same_resumed_and_counted(
    settings, controls, whole, shallow, editor, inversion, share, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    sampling = Sampling(**{"guidance_scale": 3.0, "cache_interval": 2} | settings)
    how = {"sampling": sampling, "controls": ControlConfig(**controls, **PLACES)}
    expected, edit = latents_of(editor, inversion, **how)
    assert edit.row_calls == pytest.approx(whole + share * shallow, rel=1e-12)
    for last in range(1, len(expected)):
        kept = KeptState(tmp_path / f"{last}.npz")
        editor.edit(inversion, TARGET, kept=kept, callback=lambda step, *_, end=last: step < end - 1, **how)
        found, again = latents_of(editor, inversion, kept=KeptState(tmp_path / f"{last}.npz"), **how)
        assert len(found) >= len(expected) - last
        for one, other in zip(found[::-1], expected[::-1], strict=False):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again.frames, edit.frames)
        assert again.row_calls == edit.row_calls


def test_the_share_is_that_of_xla_s_count(editor, share):
    """Whose own analysis counts all operations of programs without loops, so without mixers."""
    graphdef, shapes = P.described(UNet, replace(UNET, block_out_channels=(64,)))
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    given = shapes, shape((1, 2, 20, 16, 4)), jax.ShapeDtypeStruct((1,), jnp.int32), shape((1, 77, 8))

    def call(params, latents, timesteps, text, deep):
        cache = DeepCache(1, deep)
        return P.merge(graphdef, params)(latents, timesteps, text, cache=cache), cache.deep

    _, deep = jax.eval_shape(call, *given, None)
    all_of_it, shallow = (jax.jit(call).lower(*given, deep).cost_analysis()["flops"] for deep in (None, deep))
    found = share_of_operations(
        replace(editor.denoiser, graphdef=graphdef, params=shapes), (1, 2, 20, 16, 4), (1, 1, 77, 8), 1
    )
    assert found == pytest.approx(
        shallow / all_of_it, rel=0.05
    )  # copies count, and convolutions over the frame's edges
    assert 0.1 < found < 0.9 and share != found


@pytest.mark.parametrize("controls", [False, True])
def test_both_programs_are_for_gpus(controls, editor, inversion):
    """Shallow steps ask for less attention, and nothing is done by the host."""
    length, rows = 77, 3
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    with describing("sm_90"):
        denoiser = replace(editor.denoiser, dtype="bfloat16")
        given = {
            "latents": shape((1, 2, 8, 8, 4)),
            "depth": 1,
            "source": shape((1, 2, 8, 8, 4)) if controls else None,
            "injection": injection(length) if controls else None,
            "layers": EVERYWHERE if controls else (),
            "state": (),
            "timestep": np.int32(500),
            "previous_timestep": np.int32(400),
            "encoder_hidden_states": shape((rows if controls else 2, length, 8)),
            "steps_left": np.int32(3),
            "guidance": Sampling().guidance,
            "sampler": "ddim",
            "eta": np.float32(0),
            "key": jax.random.key(0),
        }
        traced = steps.cached_step.trace(denoiser, **given, deep=None)
        *_, deep = traced.out_info
        shallow = steps.cached_step.trace(denoiser, **given, deep=deep)
        counts = [calls_and_branches(program.lower(lowering_platforms=("cuda",))) for program in (traced, shallow)]
    attentions = [count["__cudnn$fmhaSoftmax"] for count in counts]
    assert attentions[0] > attentions[1]
    assert not any("callback" in name for count in counts for name in count)


def test_a_depth_that_the_unet_has_not_is_refused(editor, inversion):
    with pytest.raises(UserError, match="cache_depth is 2, expected 1 to 1: this U-Net has 2 skip connections"):
        editor.edit(inversion, TARGET, sampling=Sampling(cache_interval=2, cache_depth=2))
    with pytest.raises(UserError, match="cache_interval 0"):
        Sampling(cache_interval=0)
