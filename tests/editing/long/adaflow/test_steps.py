"""A step's two programs against the U-Net with dense attention in one call."""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.long.adaflow.test_slimming import chosen
from tests.editing.long.adaflow.unets import CHANNELS, CONFIG, HEIGHT, WIDTH, denoiser, latents, text, unit
from tests.injections import EVERYWHERE, injection
from vrwkv_jax.diffusion.guidance import Guidance
from vrwkv_jax.diffusion.samplers.ddim import ddim_step
from vrwkv_jax.editing.long.adaflow.features import at_levels
from vrwkv_jax.editing.long.adaflow.propagation import Taking
from vrwkv_jax.editing.long.adaflow.steps import Asked, Kept, chunk_step, keyframe_pass, take
from vrwkv_jax.editing.steps import sampling_step
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Control

FRAMES, TOKENS = 4, 5
SCALE, NOW, NEXT = 3.0, np.int32(601), np.int32(401)
GUIDANCE = Guidance(jnp.float32(SCALE), jnp.float32(0.7), jnp.float32(1))
SAMPLING: dict[str, Any] = {"guidance": GUIDANCE, "sampler": "ddim", "eta": np.float32(0), "key": jax.random.key(0)}
# Sums in another order, through a dozen layers; of the largest number.
TOLERANCE = 2e-5


def themselves(frames: int) -> Taking:
    """Each frame takes from itself."""
    return Taking(jnp.arange(frames, dtype=jnp.int32)[None], jnp.ones((1, frames)), jnp.ones((1, frames), bool))


def assert_close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.fixture(scope="module")
def given():
    return latents(FRAMES), latents(FRAMES), unit(FRAMES, HEIGHT, WIDTH, CHANNELS), text(3)


def test_all_frames_as_keyframes_are_extended_attention(given):
    """With the whole budget and identity matches."""
    own, _, features, prompts = given
    asked = Asked(NOW, jnp.asarray(prompts[:2]), {})
    outputs = keyframe_pass(denoiser(), own, source=None, features=features, asked=asked, layers=(), budget=FRAMES)
    levels = {(HEIGHT * WIDTH, 4), (2 * 3, 8)}
    assert len(outputs) == 4 and {(x.shape[2], x.shape[4]) for x in outputs.values()} == levels
    assert {x.shape[:2] for x in outputs.values()} == {(2, FRAMES)}
    kept, guidance = Kept(outputs, features), Guidance(jnp.float32(SCALE), jnp.float32(0), jnp.float32(1))
    settings = SAMPLING | {"guidance": guidance}
    found = chunk_step(
        denoiser(),
        own,
        source=None,
        features=features,
        kept=kept,
        taking=themselves(FRAMES),
        asked=asked,
        layers=(),
        previous_timestep=NEXT,
        steps_left=np.int32(0),
        **settings,
    )
    common = {
        "state": (),
        "timestep": NOW,
        "previous_timestep": NEXT,
        "steps_left": np.int32(0),
        "encoder_hidden_states": prompts[:2],
    }
    expected, _ = sampling_step(denoiser("extended"), own[None], **common, **settings)
    assert_close(found, expected[0])
    other, _ = sampling_step(denoiser("extended"), own[None, [0, 0, 2, 3]], **common, **settings)
    assert np.abs(other[0, 3] - expected[0, 3]).max() > 100 * TOLERANCE * np.abs(expected).max()


@dataclass(frozen=True, kw_only=True)
class Dense(Control):
    """Keyframes in one call: the source by itself, the others masked, with the source's queries and keys."""

    seen: dict[int, jax.Array]
    outputs: dict[str, jax.Array] = field(default_factory=dict)

    def self_attention(self, q, k, v):
        q, k, v = (x.reshape(self.rows, -1, *x.shape[1:]) for x in (q, k, v))
        frames, tokens = q.shape[1:3]
        if "up_blocks" in self.place:
            q, k = (jnp.where(self.injection["self_attention"], x[:1], x) for x in (q, k))
        alone = np.kron(np.eye(frames, dtype=bool), np.ones((1, tokens), bool))
        seen = jnp.stack([alone] + [self.seen[tokens]] * (self.rows - 1)).repeat(tokens, axis=1)
        q, k, v = (x.reshape(self.rows, -1, *x.shape[3:]) for x in (q, k, v))
        scores = jnp.einsum("rqnd,rknd->rnqk", q, k, precision="highest") / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
        found = jnp.einsum("rnqk,rknd->rqnd", weights, v, precision="highest")
        self.outputs[self.place] = found.reshape(self.rows, frames, tokens, *found.shape[2:])
        return self.outputs[self.place].reshape(-1, tokens, *found.shape[2:])


@dataclass(frozen=True, kw_only=True)
class FromKeyframes(Control):
    """Frames that take from the outputs of ``Dense``; the source by itself."""

    outputs: dict[str, jax.Array]
    features: dict[int, jax.Array]
    of_keyframes: dict[int, jax.Array]
    keyframes: tuple[int, ...]

    def self_attention(self, q, k, v):
        frames, tokens = len(self.keyframes), q.shape[1]
        scores = jnp.einsum("bqnd,bknd->bnqk", q[:frames], k[:frames]) / q.shape[-1] ** 0.5
        source = jnp.einsum("bnqk,bknd->bqnd", jax.nn.softmax(scores, axis=-1), v[:frames])
        taken = []
        for frame, keyframe in enumerate(self.keyframes):
            cosines = self.features[tokens][frame] @ self.of_keyframes[tokens][keyframe].T
            taken.append(self.outputs[self.place][1:, keyframe][:, cosines.argmax(1)])
        return jnp.concatenate([source, jnp.stack(taken, axis=1).reshape(-1, *source.shape[1:])])


@jax.jit
def dense_pass(model, values, batch, prompts, seen):
    control = Dense(values, LAYERS, 3, seen=seen)
    P.merge(model.graphdef, model.params)(batch, jnp.full(3, NOW), prompts, control=control)
    return control.outputs


@partial(jax.jit, static_argnames="keyframes")
def frame_pass(model, values, batch, prompts, outputs, features, of_keyframes, keyframes):
    levels = {"features": features, "of_keyframes": of_keyframes}
    control = FromKeyframes(values, LAYERS, 3, outputs=outputs, keyframes=keyframes, **levels)
    return P.merge(model.graphdef, model.params)(batch, jnp.full(3, NOW), prompts, control=control)


LAYERS = tuple(
    acting._replace(places=("up_blocks",)) if acting.control == "self_attention" else acting for acting in EVERYWHERE
)


@pytest.mark.parametrize("injected", [{}, {"features": True}, {"self_attention": True}], ids=str)
def test_frames_take_from_slimmed_keyframes_beside_their_source(given, injected):
    """Guided, with frames of two keyframes out of three, one of which is one of the frames."""
    own, source, features, prompts = given
    values, budget = injection(TOKENS, **injected), 2
    asked = Asked(NOW, jnp.asarray(prompts), values)
    key_latents, key_source = own[1:] / 2, source[1:] / 2  # whatever: another part of the video
    of_keyframes = np.concatenate([features[1:2], unit(2, HEIGHT, WIDTH, CHANNELS)])
    common: dict[str, Any] = {"asked": asked, "layers": LAYERS}
    outputs = keyframe_pass(denoiser(), key_latents, source=key_source, features=of_keyframes, budget=budget, **common)
    keyframes = [0, 0, 2, 2]
    is_own = jnp.array([[False, True, False, False]])
    found = chunk_step(
        denoiser(),
        own,
        source=source,
        features=features,
        kept=Kept(outputs, of_keyframes),
        taking=Taking(jnp.array([keyframes], jnp.int32), jnp.ones((1, FRAMES)), is_own),
        previous_timestep=NEXT,
        steps_left=np.int32(0),
        **common,
        **SAMPLING,
    )

    model = denoiser()
    by_level = [
        {tokens: np.asarray(x) for tokens, x in at_levels(jnp.asarray(f), (0, 1)).items()}
        for f in (features, of_keyframes)
    ]
    dense = dense_pass(
        model,
        values,
        jnp.stack([key_source, key_latents, key_latents]),
        prompts,
        {tokens: chosen(x, budget) for tokens, x in by_level[1].items()},
    )
    for place, output in dense.items():
        assert_close(outputs[place], output[1:])
    output = np.float64(
        frame_pass(model, values, jnp.stack([source, own, own]), prompts, dense, *by_level, keyframes=tuple(keyframes))
    )
    guided = output[1] + SCALE * (output[2] - output[1])
    axes = (1, 2, 3)  # of one frame: the rescaling
    factor = output[2].std(axes, keepdims=True) / guided.std(axes, keepdims=True)
    guided = guided * (0.7 * factor + 0.3)
    expected = ddim_step(model.schedule, jnp.float32(guided), jnp.asarray(own), timestep=NOW, previous_timestep=NEXT)
    assert_close(found, expected)
    if injected:
        neutral = asked._replace(injection=injection(TOKENS))
        other = keyframe_pass(
            denoiser(),
            key_latents,
            source=key_source,
            features=of_keyframes,
            budget=budget,
            **common | {"asked": neutral},
        )
        assert any(np.abs(other[place] - outputs[place]).max() > 1e-2 for place in outputs)


def test_outputs_of_several_windows():
    held = tuple({"a": jnp.asarray(np.random.default_rng(i).normal(size=(2, 3, 5, 1, 2)))} for i in range(3))
    windows, places = [0, 2, 1, 2], [2, 0, 1, 1]
    found = take(held, np.array([windows, places], np.int32))["a"]
    expected = [held[window]["a"][:, place] for window, place in zip(windows, places, strict=True)]
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))


def test_each_block_has_its_outputs(given):
    """Two transformer blocks at one place are two."""
    own, _, features, prompts = given
    deep = denoiser(config=dataclasses.replace(CONFIG, transformer_layers_per_block=2))
    outputs = jax.eval_shape(
        lambda: keyframe_pass(
            deep,
            jnp.asarray(own),
            source=None,
            features=features,
            asked=Asked(NOW, jnp.asarray(prompts[:1]), {}),
            layers=(),
            budget=1,
        )
    )
    assert {f"{place}/attn1/to_q/kernel" for place in outputs} == {
        path for path in deep.params if path.endswith("attn1/to_q/kernel")
    }
    assert len(outputs) == 8
