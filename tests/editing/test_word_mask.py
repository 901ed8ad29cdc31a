"""Where words are, told from the clip's attention to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gpu_target import describing
from benchmarks.programs import Case, Models, Shape, text, unet
from tests.models.tiny_unet import TINY
from tests.programs.operations import calls_and_branches
from tests.small import clip
from vrwkv_jax import Editor, built_in
from vrwkv_jax.config import VideoConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import word_mask
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.word_mask import attention_step, mask_in_pixels, steps_asked
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.params import merge
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.world import render

PROMPT, STEPS = "a red disc", 4


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("mid",)))


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(), PROMPT, num_inference_steps=STEPS, iterations=1)


def test_steps_lie_in_the_half_with_less_noise():
    assert steps_asked(20) == [11, 13, 15, 17, 19]
    assert steps_asked(50) == [27, 32, 37, 42, 47]
    assert steps_asked(4) == [2, 3] and steps_asked(1) == [0]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_attention_is_that_of_the_formula(editor, inversion, monkeypatch):
    """Softmax of the queries and keys of all cross-attentions, in float64: of the tokens, the mean over heads."""
    tokenizer = editor.components.tokenizer
    hidden = editor.encode_prompts([PROMPT])
    chosen = word_mask.chosen_tokens(tokenizer, PROMPT, ["red"])
    module = merge(editor.unet.graphdef, editor.unet.params)
    found = []

    def watching(control, q, k, v, shape):
        scores = np.einsum("qnd,lnd->nql", *(np.asarray(x[0], np.float64) for x in (q, k))) / np.sqrt(q.shape[-1])
        found.append((softmax(scores) @ np.asarray(chosen, np.float64)).mean(0).reshape(shape))
        return own(control, q, k, v, shape)

    own = Control.cross_attention
    latents, timestep = jnp.asarray(inversion.before_sampling(2)), np.int32(500)
    ours = attention_step(
        editor.denoiser, latents, timestep=timestep, encoder_hidden_states=hidden, chosen=chosen, sampler="ddim"
    )
    monkeypatch.setattr(Control, "cross_attention", watching)
    with jax.disable_jit():
        module(latents, jnp.asarray([timestep]), hidden, control=Control({}, (), 1))
    assert len(found) == 1  # of one size, that of the latents
    np.testing.assert_allclose(ours, found[0], rtol=1e-4)  # float32 through a U-Net


def test_few_rows_are_asked_for_and_the_callback_ends_it(editor, inversion, monkeypatch):
    asked, own = [], word_mask.attention_step
    monkeypatch.setattr(word_mask, "attention_step", lambda *args, **how: asked.append(how) or own(*args, **how))
    mask = editor.word_mask(inversion, ["red"])
    assert mask.shape == clip().shape[:3] and mask.dtype == bool
    assert [int(how["timestep"]) for how in asked] == [251, 1] and len(asked) == 2
    told = []
    editor.word_mask(inversion, ["red"], callback=lambda step, timestep, _: told.append((step, timestep)) or False)
    assert told == [(0, 251)] and len(asked) == 3


def test_a_lower_threshold_takes_more():
    attention = np.random.default_rng(3).random((3, 5, 7)).astype(np.float32)
    some, more = (mask_in_pixels(jnp.asarray(attention), threshold, 4) for threshold in (0.6, 0.3))
    assert some.shape == (3, 20, 28)
    assert some.any() and (more & ~some).any() and not (some & ~more).any()


@pytest.mark.parametrize(
    ("words", "threshold", "said"),
    [
        (["blue"], 0.5, r"'blue' is not in the clip's prompt 'a red disc': choose of its words a, red, disc"),
        (["re"], 0.5, r"'re' is not in the clip's prompt"),
        ([], 0.5, r"no words are given whose places are wanted: choose some of a, red, disc"),
        (["red"], 1.5, r"threshold 1.5 is not between 0 and 1"),
    ],
)
def test_refused(editor, inversion, words, threshold, said):
    with pytest.raises(UserError, match=said):
        editor.word_mask(inversion, words, threshold)


def test_an_inversion_that_was_stopped_is_refused(editor):
    stopped = editor.invert(clip(), PROMPT, num_inference_steps=STEPS, iterations=1, callback=lambda *_: False)
    with pytest.raises(UserError, match="stopped before its end"):
        editor.word_mask(stopped, ["red"])


def test_what_gpus_run():
    """Attention to the frame and, for the map, to the words; nothing behind the last map, and no call to the host."""
    case = Case("sampling", 4, 32, 64, "bfloat16", False, "sm_90", Models(TINY, VideoConfig(mixer="none")))
    graphdef, tuned, frozen = unet(case)
    with describing("sm_90"):
        traced = attention_step.trace(
            Denoiser(graphdef, NoiseSchedule(), tuned | frozen, "bfloat16"),
            Shape((1, 4, 8, 4, TINY.in_channels), jnp.float32),
            timestep=Shape((), jnp.int32),
            encoder_hidden_states=text(case, 1),
            chosen=Shape(text(case, 1).shape[1:2], jnp.float32),
            sampler="ddim",
        )
        assert calls_and_branches(traced.lower(lowering_platforms=("cuda",))) == {"__cudnn$fmhaSoftmax": 2}


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
def test_the_star_of_the_built_in_clip_is_found():
    frames, covered = render(built_in.SCENE, 8, 64)
    star = covered[:, 0] > 0.5
    editor = Editor.from_pretrained(built_in.MODEL, video=VideoConfig(mixer="none"), dtype="float32")
    inversion = editor.invert(frames, built_in.PROMPT, num_inference_steps=10, iterations=2)

    def iou(mask: np.ndarray) -> float:
        return (mask & star).sum() / (mask | star).sum()

    # What the places of the latents, 4 pixels wide, could say of a star at best is 0.7: those that it covers half.
    coarse = covered[:, 0].reshape(8, 16, 4, 16, 4).mean((2, 4)) > 0.5
    assert 0.65 < iou(coarse.repeat(4, 1).repeat(4, 2)) < 0.85
    found = editor.word_mask(inversion, ["star"])
    assert iou(found) > 0.55
    assert min((mask & own).sum() / own.sum() for mask, own in zip(found, star, strict=True)) > 0.7  # in each frame
    assert iou(editor.word_mask(inversion, ["sunset"])) < 0.1
