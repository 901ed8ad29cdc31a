"""Tuning: what is trained and what is not, at what rate, the loss against a formula, and reproducibility."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.models import params as P
from vrwkv_jax.models.parameter_rules import ENDS, GAINS
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.optimizer import global_norm, make_optimizer, partition
from vrwkv_jax.tuning.step import diffusion_loss

PROMPT = "a red disc"


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def run(editor):
    return tune(editor, clip(), PROMPT, TuneConfig(tuning=TuningConfig(steps=2)))


def test_what_is_trained(editor):
    tuned, frozen = partition(editor.unet.params, "mixers", "vrwkv")
    assert tuned.keys() | frozen.keys() == editor.unet.params.keys() and not tuned.keys() & frozen.keys()
    modules = {path.split("/mixer/")[0] if "/mixer/" in path else path for path in tuned}
    # 2 skip connections and the middle; in the middle a transformer with two attentions, of which to_q
    assert sum("attn" in module for module in modules) == 2
    assert sum("skips" in module or module == "mid_block" for module in modules) == 3
    assert len(modules) == 5
    assert all(path.endswith("/to_q/kernel") for path in tuned if "/attn" in path)
    assert partition(editor.unet.params, "all", "vrwkv") == (editor.unet.params, {})


def test_only_the_trained_parameters_have_an_optimizer_state(editor):
    tuned, _ = partition(editor.unet.params, "mixers", "vrwkv")
    state = make_optimizer(TuningConfig()).init(tuned)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * P.count(tuned)


def test_gains_learn_faster_and_do_not_decay():
    """After one step of AdamW every parameter has moved by its rate, the weights by their decay as well."""
    config = TuningConfig(learning_rate=1e-3, mixer_lr_scale=100.0, weight_decay=0.5, max_grad_norm=1e9)
    weight, gains = "mid_block/mixer/spatio_temporal/to_k/kernel", "mid_block/mixer/spatio_temporal/time/w"
    params = {weight: jnp.full(3, 2.0), gains: jnp.full(3, 2.0)}
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates[gains], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates[weight], -1e-3 * (1 + 0.5 * 2.0), rtol=1e-5)


def test_gains_are_the_small_parameters_of_the_mixers(editor):
    tuned, _ = partition(editor.unet.params, "mixers", "vrwkv")
    gains = {path for path in tuned if GAINS.search(path)}
    assert gains == {path for path, leaf in tuned.items() if leaf.ndim == 1}
    assert not any(GAINS.search(path) for path in editor.unet.params if "/mixer/" not in path)


def test_gradients_are_clipped_together():
    config = TuningConfig(max_grad_norm=1.0)
    params = {"a/kernel": jnp.zeros(3), "mid/mixer/channel/mu_c": jnp.zeros(4)}
    gradients = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 10.0), params)
    optimizer = make_optimizer(config)
    # AdamW's first step is the gradient's sign, whatever its size: look at the moments instead.
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
    means = jax.tree.leaves([leaf.mu for leaf in leaves if isinstance(leaf, optax.ScaleByAdamState)])
    assert len(means) == 2
    squares = sum(jnp.sum(jnp.square(mean)) for mean in means)
    np.testing.assert_allclose(jnp.sqrt(squares), 0.1 * 1.0, rtol=1e-4)  # (1 - beta1) times the clipped norm


@pytest.mark.parametrize("largest", [0.5, 1e9], ids=["clipped", "not clipped"])
@pytest.mark.parametrize(
    "paths", [["a/kernel", "b/kernel", "mid/mixer/channel/mu_c"], ["a/kernel"]], ids=["both", "one"]
)
def test_steps_are_those_of_optax(paths, largest):
    """Three steps, and the state after them, as optax makes them of all parameters at once."""
    config = TuningConfig(max_grad_norm=largest)
    rng = np.random.default_rng(0)
    params = {path: jnp.asarray(rng.normal(size=(4, 3) if "kernel" in path else 5), jnp.float32) for path in paths}
    groups = {
        "weights": optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
        "gains": optax.adamw(config.learning_rate * config.mixer_lr_scale, weight_decay=0.0),
    }
    labels = {path: "gains" if path.endswith("mu_c") else "weights" for path in paths}
    whole = optax.chain(optax.clip_by_global_norm(largest), optax.multi_transform(groups, labels))
    ours = make_optimizer(config)
    states, results = [ours.init(params), whole.init(params)], [params, params]
    for step in range(3):
        gradients = jax.tree.map(lambda x, step=step: jnp.sin(3 * x + step), params)
        for i, optimizer in enumerate((ours, whole)):
            updates, states[i] = jax.jit(optimizer.update)(gradients, states[i], results[i])
            results[i] = optax.apply_updates(results[i], updates)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for got, want in zip(
        jax.tree.leaves((results[0], states[0])), jax.tree.leaves((results[1], states[1])), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)  # the last digit of float32, three times
    np.testing.assert_allclose(global_norm(params), optax.global_norm(params), rtol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_loss_is_the_mean_squared_error_of_the_noise_or_of_v(editor, prediction_type, monkeypatch):
    schedule = replace(editor.schedule, prediction_type=prediction_type)
    latents, timesteps, key = editor.encode(clip()), jnp.array([700]), jax.random.key(5)
    text = editor.encode_prompts([PROMPT])
    seen = {}

    def predict(denoiser, noised, timesteps, encoder_hidden_states, **_):
        seen.update(noised=noised, timesteps=timesteps)
        return jnp.zeros_like(noised)

    monkeypatch.setattr("vrwkv_jax.editing.denoiser.Denoiser.predict", predict)
    denoiser = replace(editor.denoiser, schedule=schedule)
    loss = diffusion_loss(denoiser, latents, timesteps=timesteps, encoder_hidden_states=text, key=key, remat=False)
    alpha = np.float64(schedule.alphas_cumprod[seen["timesteps"]])[:, None, None, None, None]
    assert seen["timesteps"].tolist() == [700]
    noise = (seen["noised"] - np.sqrt(alpha) * latents) / np.sqrt(1 - alpha)
    assert (np.ptp(np.asarray(noise), axis=1) > 0).all(), "every frame has noise of its own"
    target = noise if prediction_type == "epsilon" else np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * latents
    np.testing.assert_allclose(loss, np.mean(np.square(target)), rtol=1e-4)


def test_a_run_reports_its_steps_and_leaves_the_editor_alone(editor, run):
    assert [entry["step"] for entry in run.log] == [1, 2]
    assert all(np.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in run.log)
    tuned, _ = partition(editor.unet.params, "mixers", "vrwkv")
    assert run.params.keys() == tuned.keys() and run.config.video_model == editor.video == VideoConfig().settled()
    changed = [path for path in tuned if (np.asarray(run.params[path]) != np.asarray(tuned[path])).any()]
    # W_o and W_v start at zero, so what feeds them gets its first gradient in the second step.
    assert len(changed) > 0.9 * len(tuned), set(tuned) - set(changed)


def test_the_same_seed_gives_the_same_run(editor, run):
    config = TuneConfig(tuning=TuningConfig(steps=2))
    again = tune(editor, clip(), PROMPT, config)
    other = tune(editor, clip(), PROMPT, replace(config, seed=34))
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(leaf, again.params[path])
    assert [entry["loss"] for entry in run.log] == [entry["loss"] for entry in again.log]
    assert [entry["loss"] for entry in run.log] != [entry["loss"] for entry in other.log]


def test_edits_get_a_share_of_what_mixers_add(editor, run):
    """Their last parameters, halved; how they are tuned stays as it is."""
    weak = tune(editor, clip(), PROMPT, replace(run.config, tuning=replace(run.config.tuning, mixer_strength=0.5)))
    assert [entry["loss"] for entry in weak.log] == [entry["loss"] for entry in run.log]
    ends = {path for path in run.params if ENDS.search(path)}
    assert len(ends) == 3 * 2  # of three mixers, two halves each
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(weak.params[path], leaf * (0.5 if path in ends else 1), err_msg=path)


def test_a_loss_that_is_no_number_stops_the_run(editor):
    broken = editor.with_unet_params({"conv_out/bias": jnp.full(4, jnp.nan)})
    with pytest.raises(UserError, match="at step 1 the loss is nan"):
        tune(broken, clip(), PROMPT, TuneConfig(tuning=TuningConfig(steps=2)))
