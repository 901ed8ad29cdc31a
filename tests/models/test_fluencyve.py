"""FluencyVE's mixer against its formulas in float64 and transformers' Mamba; its bypass against dense scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from tests.models.derivatives import doubles, with_gradients
from tests.models.test_vrwkv import layer_norm, sigmoid
from tests.models.tiny_unet import abstract, randomized
from vrwkv_jax.checkpoint.torch_names import to_torch
from vrwkv_jax.config import TuningConfig
from vrwkv_jax.models import params as P
from vrwkv_jax.models.attention import FrameSelfAttention
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.mixers import fluencyve
from vrwkv_jax.models.mixers.fluencyve import FluencyVE, FluencyVEConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.optimizer import make_optimizer, partition

CHANNELS = 10
FLIPS = [(), (1,), (2, 3), (1, 2, 3)]  # of time, and of space, in ``B F H W C``


def make(config: FluencyVEConfig = FluencyVEConfig(), channels: int = CHANNELS):  # noqa: B008 - frozen
    return lambda rngs: FluencyVE(channels, config, heads=2, layer=0, num_layers=1, rngs=rngs)


def bordered(x: np.ndarray, border: np.ndarray | None) -> np.ndarray:
    if border is None:
        return x
    batch, frames, height, width, channels = x.shape
    out = np.empty((batch, frames, height + 2, width + 2, channels), x.dtype)
    out[:] = border
    out[:, :, 1:-1, 1:-1] = x
    return out


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def one_direction(p: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """A Mamba block up to its gate, token by token; ``tokens`` are ``[B, T, C]``."""
    u, taps = tokens @ p["to_x/kernel"], p["conv/kernel"]
    convolved = np.zeros_like(u) + p["conv/bias"]
    for t in range(u.shape[1]):
        for back in range(min(len(taps), t + 1)):
            convolved[:, t] += taps[len(taps) - 1 - back] * u[:, t - back]
    u, (a, states) = silu(convolved), (-np.exp(p["log_a"]), p["log_a"].shape[1])
    projected = u @ p["to_ssm/kernel"]
    rank = projected.shape[-1] - 2 * states
    dt = np.log1p(np.exp(projected[..., :rank] @ p["to_dt/kernel"] + p["dt_bias"]))
    into, out_of = projected[..., rank : rank + states], projected[..., rank + states :]
    state, y = np.zeros((len(u), *a.shape)), np.empty_like(u)
    for t in range(u.shape[1]):
        state = np.exp(dt[:, t, :, None] * a) * state + (dt * u)[:, t, :, None] * into[:, t, None]
        y[:, t] = (state * out_of[:, t, None]).sum(-1) + p["skip"] * u[:, t]
    return y


def oracle(params: P.Params, config: FluencyVEConfig, x: np.ndarray) -> np.ndarray:
    p = {path: np.asarray(leaf, np.float64) for path, leaf in params.items()}
    own = {path.removeprefix("mamba/"): leaf for path, leaf in p.items()}
    normed = layer_norm(x.astype(np.float64), p["norm/scale"], p["norm/bias"])
    around = bordered(normed, p.get("border"))
    batch, *_, channels = x.shape
    total = 0
    for flip in FLIPS:
        flipped = np.flip(around, flip)
        y = one_direction(own, flipped.reshape(batch, -1, channels))
        total = total + np.flip(y.reshape(*around.shape[:-1], -1), flip)
    inside = total[:, :, 1:-1, 1:-1] if config.frame_border else total
    inside = inside / {"mean": 4, "sum": 1}[config.merge]
    return x + (inside * silu(normed @ own["to_z/kernel"])) @ own["to_out/kernel"]


IN_TRANSFORMERS = {  # MambaMixer's name -> ours, but for the two that are one there or have another form
    "x_proj.weight": "to_ssm/kernel",
    "dt_proj.weight": "to_dt/kernel",
    "dt_proj.bias": "dt_bias",
    "A_log": "log_a",
    "D": "skip",
    "conv1d.bias": "conv/bias",
    "out_proj.weight": "to_out/kernel",
}


def test_each_direction_is_a_mamba_of_transformers():
    """Values and gradients of the whole, as the mean of four of them on the flipped clip; they share their weights."""
    graphdef, shapes = P.abstract(make())
    rng, params = np.random.default_rng(1), randomized(shapes)
    x, cotangent = rng.normal(size=(2, 2, 2, 1, 2, CHANNELS)).astype(np.float32)
    output, in_params, in_x = with_gradients(graphdef, params, x, cotangent)

    config = MambaConfig(hidden_size=CHANNELS, state_size=16, expand=2, conv_kernel=4, time_step_rank=1, use_bias=False)
    mixer = MambaMixer(config, layer_idx=0).eval()
    p = {path.removeprefix("mamba/"): leaf for path, leaf in params.items()}
    weights = {name: torch.tensor(to_torch(path, p[path])) for name, path in IN_TRANSFORMERS.items()}
    weights["in_proj.weight"] = torch.tensor(np.concatenate([p["to_x/kernel"], p["to_z/kernel"]], axis=1).T)
    weights["conv1d.weight"] = torch.tensor(p["conv/kernel"].T[:, None])
    mixer.load_state_dict(weights)
    torch_x, border = torch.tensor(x, requires_grad=True), torch.tensor(params["border"], requires_grad=True)
    norm = torch.nn.LayerNorm(CHANNELS)
    norm.load_state_dict({"weight": torch.tensor(p["norm/scale"]), "bias": torch.tensor(p["norm/bias"])})
    normed = norm(torch_x)
    height, width = x.shape[2:4]
    around = border.expand(*x.shape[:2], height + 2, width + 2, CHANNELS).clone()
    around[:, :, 1:-1, 1:-1] = normed
    directions = [mixer(around.flip(flip).reshape(2, -1, CHANNELS)).view(around.shape).flip(flip) for flip in FLIPS]
    expected = torch_x + sum(directions)[:, :, 1:-1, 1:-1] / 4
    expected.backward(torch.tensor(cotangent))

    def compare(name: str, actual: np.ndarray, expected: torch.Tensor) -> None:
        expected = expected.detach().numpy()
        # Theirs is in float32, too: both sum over 24 tokens. Seen: 1e-6 of the scale.
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)

    found = {path.removeprefix("mamba/"): np.asarray(leaf) for path, leaf in in_params.items()}
    gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()}
    compare("output", output, expected)
    compare("clip", in_x, torch_x.grad)
    compare("border", found["border"], border.grad)
    compare("norm", found["norm/scale"], norm.weight.grad)
    compare("conv", found["conv/kernel"].T[:, None], gradients["conv1d.weight"])
    both = np.concatenate([found["to_x/kernel"], found["to_z/kernel"]], axis=1).T
    compare("in_proj", both, gradients["in_proj.weight"])
    for name, path in IN_TRANSFORMERS.items():
        compare(name, to_torch(path, found[path]), gradients[name])


def test_a_new_one_starts_as_mamba_does():
    params = jax.jit(lambda: P.split(make()(nnx.Rngs(0)))[1])()
    np.testing.assert_allclose(np.exp(params["mamba/log_a"]), np.tile(np.arange(1, 17), (2 * CHANNELS, 1)), rtol=1e-6)
    dt = np.log1p(np.exp(np.float64(params["mamba/dt_bias"])))
    np.testing.assert_allclose(dt[[0, -1]], [1e-3, 1e-1], rtol=1e-4)
    assert (params["mamba/skip"] == 1).all() and np.abs(params["mamba/conv/kernel"]).max() <= 0.5


# The bypass of self-attention

HEADS, WIDTH, RANK, FINAL = 2, 6, 3, 0.25


def attention(with_bypass: bool):
    """Sparse-causal, whose keys are more than its queries; graph definition, and the same parameters for both."""

    def build(rngs: nnx.Rngs) -> FrameSelfAttention:
        bypass = Bypass(HEADS * WIDTH, HEADS, rank=RANK, frozen_share=FINAL, rngs=rngs)
        own = bypass if with_bypass else None
        return FrameSelfAttention(HEADS * WIDTH, HEADS, scope="sparse_causal", bypass=own, rngs=rngs)

    graphdef, shapes = P.abstract(build)
    return graphdef, randomized({path: shapes[path] for path in sorted(shapes)})


def tokens() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(2, 3, 5, HEADS * WIDTH)).astype(np.float32)


@pytest.mark.parametrize("progress", [0.4, 1.7])
def test_scores_are_the_mean_of_the_frozen_and_those_of_low_rank(progress):
    """And beyond the end of the schedule, as in a run that is resumed with other steps, what they are there."""
    graphdef, params = attention(with_bypass=True)
    params |= {"bypass/progress": np.float32(progress)}
    x, cotangent = tokens(), np.random.default_rng(4).normal(size=tokens().shape).astype(np.float32)
    output, in_params, in_x = with_gradients(graphdef, params, x, cotangent)

    p = doubles(params)
    torch_x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    context = torch.cat([torch_x[:, [0, 0, 0]], torch_x[:, [0, 0, 1]]], 2)
    share = 1 - min(progress, 1) * (1 - FINAL)

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (HEADS, WIDTH)).transpose(-3, -2)

    q, k, v = (heads(y @ p[f"to_{name}/kernel"]) for name, y in (("q", torch_x), ("k", context), ("v", context)))
    low_q = heads(torch_x @ p["bypass/q_in/kernel"] @ p["bypass/q_out/kernel"])
    low_k = heads(context @ p["bypass/k_in/kernel"] @ p["bypass/k_out/kernel"])
    scores = (share * q @ k.mT + (1 - share) * low_q @ low_k.mT) / WIDTH**0.5
    mixed = (scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2)
    expected = mixed @ p["to_out/kernel"] + p["to_out/bias"]
    expected.backward(torch.tensor(cotangent, dtype=torch.float64))
    gradients = {path: 0 * leaf if leaf.grad is None else leaf.grad for path, leaf in p.items()}
    pairs = {path: (in_params[path], gradients[path]) for path in p} | {
        "output": (output, expected),
        "clip": (in_x, torch_x.grad),
    }
    for name, (actual, wanted) in pairs.items():
        wanted = wanted.detach().numpy()
        # A few products and a softmax in float32; seen: 1e-6 of the scale.
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max() + 1e-9, err_msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2**-6)])
def test_before_tuning_it_is_the_attention_that_it_was(dtype, tolerance):
    """To the last digits: q is multiplied by what makes up for a wider head."""
    graphdef, params = attention(with_bypass=True)
    plain = attention(with_bypass=False)[0]
    params = P.cast(jax.tree.map(jnp.asarray, params | {"bypass/progress": np.float32(0)}), dtype)
    x = jnp.asarray(tokens(), dtype)
    shared = {path: leaf for path, leaf in params.items() if "bypass" not in path}
    expected = np.asarray(jax.jit(lambda params, x: P.merge(plain, params)(x))(shared, x), np.float64)
    actual = jax.jit(lambda params, x: P.merge(graphdef, params)(x))(params, x)
    assert actual.dtype == x.dtype
    np.testing.assert_allclose(actual.astype(float), expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_heads_are_as_wide_as_cudnn_takes_them():
    def widened(q, x):
        return Bypass(320, 8, rank=10, frozen_share=0.5, rngs=nnx.Rngs(0)).widen(q, q, q, x, x)

    q, x = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((1, 4, 8, 40), (1, 4, 320)))
    assert [y.shape[-1] for y in jax.eval_shape(widened, q, x)] == [56, 56, 56]


def test_of_self_attention_only_the_bypass_is_tuned():
    shapes = abstract(VideoConfig(mixer="fluencyve"))[1]
    tuned = {path for path in partition(shapes, "mixers", "fluencyve")[0] if "/mixer/" not in path}
    assert {path for path in tuned if "/attn1/" in path} == {path for path in shapes if "/bypass/" in path}
    assert {path.split("/attn")[1] for path in tuned if "/attn1/" not in path} == {"2/to_q/kernel"}


def test_the_frozen_scores_fade_by_schedule():
    """In as many steps as the tuning has, whatever the gradient; other parameters are as without."""
    progress, weight = "mid_block/attentions/0/transformer_blocks/0/attn1/bypass/progress", "a/kernel"
    params = {progress: jnp.zeros(()), weight: jnp.ones(3)}
    optimizer = make_optimizer(TuningConfig(steps=4))
    alone = {weight: params[weight]}
    states = [optimizer.init(params), optimizer.init(alone)]
    for step in range(4):
        gradients = {progress: jnp.asarray(0.0), weight: jnp.full(3, 1.0 + step)}
        updates, states[0] = optimizer.update(gradients, states[0], params)
        of_weight, states[1] = optimizer.update({weight: gradients[weight]}, states[1], alone)
        np.testing.assert_allclose(updates[weight], of_weight[weight], rtol=1e-6)  # compiled with and without the other
        params = {path: leaf + updates[path] for path, leaf in params.items()}
        assert float(params[progress]) == (step + 1) / 4


def test_a_convolution_that_looks_beyond_the_neighbouring_device_is_refused(monkeypatch):
    conv = fluencyve.CausalConv(4, 4, rngs=nnx.Rngs(0))
    monkeypatch.setattr(fluencyve, "is_spread", lambda: True)
    with pytest.raises(UserError, match=r"conv_width is 4, which looks 3 tokens back, but .* holds 2: give at most 3"):
        conv(jnp.zeros((1, 2, 4)), reverse=False)
