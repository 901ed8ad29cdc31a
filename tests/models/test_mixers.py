"""Every mixer that is registered has all its parts; where one is missing, this says which, and where it belongs.

Each check is made of every configuration that a mixer has in ``CASES``, the default first.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import test_fluencyve, test_released, test_tune_a_video, test_vrwkv
from tests.models.derivatives import with_gradients
from tests.models.tiny_unet import TINY, abstract, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.chunk import MixerChunk
from vrwkv_jax.models.control import Acting, Control
from vrwkv_jax.models.mixers.base import Carries, Mixer, Usual
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.parameter_rules import ADDED, CUT, ENDS, FLOAT32, GAINS, trained
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel.placement import SMALL

CHANNELS, HEADS, WIDE = 10, TINY.num_heads[0], 320
DOCS = Path(__file__).parents[2] / "docs" / "mixers.md"
ORACLES: dict[str, Callable[[P.Params, Any, np.ndarray], np.ndarray]] = {
    "vrwkv": test_vrwkv.oracle,
    "tune_a_video": test_tune_a_video.oracle,
    "fluencyve": test_fluencyve.oracle,
    "released": test_released.oracle,
}
"""A mixer by its formulas or by another's code, in float64: parameters, settings, clip -> clip. It has ``HEADS``."""
OTHERS: dict[str, list[dict[str, Any]]] = {
    "fluencyve": [{"frame_border": False, "merge": "sum", "dt_rank_divisor": 3}],
    "released": [{"temporal_core": core} for core in ("wkv", "attention", "linear_attention", "state_space")],
}
"""Settings that are another mixer within, or have other parameters."""
CASES = {
    "-".join([name, *map(str, settings.values())]): (name, mixer, mixer.Config(**settings))
    for name, mixer in MIXERS.items()
    for settings in ({}, *OTHERS.get(name, []))
}


def build(mixer: Any, config: Any, channels: int = CHANNELS) -> Callable[[nnx.Rngs], nnx.Module]:
    place = {"heads": HEADS, "layer": 1, "num_layers": 4}
    return lambda rngs: mixer(channels, config, **place, bi_wkv=None, rngs=rngs)


def everywhere(name: str, mixer: Any, config: Any) -> set[str]:
    """The paths of the mixer's parameters in any of its configurations."""
    configs = [config, *(case[2] for case in CASES.values() if case[0] == name)]
    return {path for any_config in configs for path in P.abstract(build(mixer, any_config))[1]}


def clip() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 7, 5, 3, CHANNELS)).astype(np.float32)


def has_what_the_door_asks_for(name: str, mixer: Any, config: Any) -> str | None:
    asked = (*Mixer.__annotations__, "bypass", "carries")
    parts = [part for part in asked if not hasattr(mixer, part)]
    return f"{mixer.__name__} has no {', '.join(parts)}: see models/mixers/base.py" if parts else None


def has_its_section(name: str, mixer: Any, config: Any) -> str | None:
    if get_type_hints(VideoConfig).get(name) is not mixer.Config:
        return f"models/video_config.py: VideoConfig has no section `{name}: {mixer.Config.__name__}`"
    return None


def is_known_by_its_name(name: str, mixer: Any, config: Any) -> str | None:
    """``--mixer NAME`` alone is the whole method, and what is given beside it wins."""
    if not mixer.usual.placement:
        return f"{mixer.__name__}.usual names no place for it"
    alone, given = VideoConfig(mixer=name), VideoConfig(mixer=name, placement=("mid",), attention="extended")
    if alone.settled().chosen != mixer.usual or alone.settled().settled() != alone.settled():
        return f"VideoConfig(mixer={name!r}) is not what {mixer.__name__}.usual says"
    expected = replace(mixer.usual, placement=("mid",), attention="extended")
    return None if given.chosen == expected else f"what is given beside {name} does not win"


@cache
def paths_of_unet(mixer: str) -> set[str]:
    return set(abstract(VideoConfig(mixer=mixer))[1])


def has_what_else_is_tuned(name: str, mixer: Any, config: Any) -> str | None:
    """Something of a U-Net that such mixers are in, and nothing of another kind."""
    paths = paths_of_unet(name)
    found = {path for path in paths if re.search(mixer.trained, path) and "/mixer/" not in path}
    if not found or not all("/attn" in path for path in found):
        return f"{mixer.__name__}.trained matches {', '.join(sorted(found)) or 'nothing'} of a U-Net"
    new = {path for path in paths if ADDED.search(path)}
    tuned = {path for path in paths if trained("mixers", name).search(path)}
    return None if tuned == found | new else f"with {name} is tuned {', '.join(sorted(tuned ^ (found | new)))}"


def taken_by_another(rule: str, of_all: re.Pattern[str], own: set[str], paths: Iterable[str], name: str) -> str | None:
    """A complaint where the rules ``of_all`` mixers match something else than its ``own`` in a U-Net."""
    taken = {path for path in paths if of_all.search(f"mid_block/mixer/{path}")}
    return None if taken == own else f"{rule} of another mixer matches {', '.join(sorted(taken ^ own))} of {name}"


def has_gains(name: str, mixer: Any, config: Any) -> str | None:
    paths = P.abstract(build(mixer, config))[1]
    own = {path for path in paths if re.fullmatch(mixer.gains, path)}
    norms = {path for path in paths if path.endswith("/scale")}
    if not own or norms - own:
        return f"{mixer.__name__}.gains does not match {', '.join(sorted(norms - own)) or 'a parameter of it'}"
    return taken_by_another("gains", GAINS, own, paths, name)


def has_ends(name: str, mixer: Any, config: Any) -> str | None:
    """Parameters that are a factor of all that it adds."""
    graphdef, shapes = P.abstract(build(mixer, config))
    own = {path for path in shapes if re.fullmatch(mixer.ends, path)}
    params = {path: leaf * (path not in own) for path, leaf in randomized(shapes).items()}
    if not own or not np.array_equal(P.merge(graphdef, params)(jnp.asarray(clip())), clip()):
        return f"{mixer.__name__} without its ends ({', '.join(sorted(own)) or 'none'}) changes its clip"
    return taken_by_another("ends", ENDS, own, shapes, name)


def has_float32_leaves(name: str, mixer: Any, config: Any) -> str | None:
    paths = P.abstract(build(mixer, config))[1]
    own = {path for path in paths if re.fullmatch(mixer.float32, path)}
    if mixer.float32 and not any(re.fullmatch(mixer.float32, path) for path in everywhere(name, mixer, config)):
        return f"{mixer.__name__}.float32 matches no parameter of it"
    return taken_by_another("float32", FLOAT32, own, paths, name)


def has_its_kernels_cut(name: str, mixer: Any, config: Any) -> str | None:
    for path, leaf in P.abstract(build(mixer, config, WIDE))[1].items():
        if leaf.ndim < 2 or leaf.size < SMALL:
            continue
        own = next((axis for rule, axis in mixer.cut.items() if re.fullmatch(rule, path)), None)
        if own is None:
            return f"{mixer.__name__}.cut does not match {path}, which has {leaf.size} elements"
        if own != next(axis for pattern, axis in CUT if pattern.search(f"mid_block/mixer/{path}")):
            return f"cut of another mixer matches {path} of {name}"
    return None


def starts_as_it_says(name: str, mixer: Any, config: Any) -> str | None:
    x = clip()

    @jax.jit
    def run(x):
        return build(mixer, config)(nnx.Rngs(0))(x)

    unchanged = np.array_equal(run(x), x)
    if mixer.is_identity and not unchanged:
        return f"a new {mixer.__name__} changes its clip: end in zeros"
    return f"a new {mixer.__name__} is the identity" if unchanged and not mixer.is_identity else None


def asks_what_a_control_gives(name: str, mixer: Any, config: Any) -> str | None:
    graphdef, shapes = P.abstract(build(mixer, config))
    params, x = randomized(shapes), jnp.asarray(clip())

    @jax.jit
    def run(active):
        control = Control({"mixer_keys": active}, (Acting("mixer_keys", "mixer"),), rows=2)
        return P.merge(graphdef, params)(x, control)

    off, on = run(jnp.array(False)), run(jnp.array(True))
    if np.array_equal(on[1], off[1]) or not np.array_equal(on[0], off[0]):
        return f"{mixer.__name__} does not hand what it reads by to `control.mixer`"
    return None


def is_what_its_oracle_says(name: str, mixer: Any, config: Any) -> str | None:
    """Values; and of the clip and of each parameter the gradient, along one direction drawn at random, against the
    difference of two values of the oracle in float64."""
    if name not in ORACLES:
        return f"tests/models/test_mixers.py: ORACLES has no {name}"
    graphdef, shapes = P.abstract(build(mixer, config))
    leaves = randomized(shapes) | {"clip": clip()}
    rng = np.random.default_rng(2)
    cotangent = rng.normal(size=leaves["clip"].shape).astype(np.float32)

    def said(leaves):
        return ORACLES[name]({path: leaves[path] for path in shapes}, config, leaves["clip"])

    actual, in_params, in_clip = with_gradients(
        graphdef, {path: leaves[path] for path in shapes}, leaves["clip"], cotangent
    )
    gradients = in_params | {"clip": in_clip}
    expected = said(leaves)
    # Sums of about 100 tokens or products in float32; seen: 2e-7 of the scale.
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    if not error <= 2e-6:
        return f"{mixer.__name__} is {error:.1g} of its scale off its oracle"
    for path, leaf in leaves.items():
        step = 1e-5 * rng.normal(size=leaf.shape)
        up, down = (said(leaves | {path: leaf.astype(np.float64) + way * step}) for way in (1, -1))
        slope, gradient = np.vdot(cotangent, up - down) / 2, np.asarray(gradients[path], np.float64)
        # Sums over all tokens in float32, of the scale of the gradient; seen: 1e-6.
        error = abs(np.vdot(gradient, step) - slope) / max(np.linalg.norm(gradient) * 1e-5, abs(slope))
        if not error <= 1e-5:
            return f"the gradient of {path} is {error:.1g} of its scale off that of the oracle"
    return None


def goes_on_from_chunk_to_chunk(name: str, mixer: Any, config: Any) -> str | None:
    """What carries its states onwards sees, in a chunk, all of the clip up to the chunk's end.

    So in every chunk it is what its oracle says of the clip up to there; but for a second half, which looks back at
    what the first one made of the chunk before, when that was the end.
    """
    carries = mixer.carries(config)
    if carries not in get_args(Carries):
        return f"{mixer.__name__}.carries says {carries!r}"
    if carries == "nothing":
        return None
    if name == "vrwkv":
        config = replace(config, decay_frames=7)  # for chunks to have the decay of the clip
    graphdef, shapes = P.abstract(build(mixer, config))
    params, x = randomized(shapes), clip()
    params |= {path: 0 * params[path] for path in ("channel/to_v/kernel", "halves/1/gain") if path in params}

    @jax.jit
    def run(params, x, frames, past):
        chunk = MixerChunk(frames, jnp.asarray(past is None), past, None)
        return P.merge(graphdef, params).mix_chunk(x, None, chunk)

    past, length = None, 3
    for start in range(0, x.shape[1], length):
        here = x[:, start : start + length]
        filled = np.concatenate([here, np.full((2, length - here.shape[1], *x.shape[2:]), 7, np.float32)], axis=1)
        actual, past = run(params, filled, here.shape[1], past)
        expected = ORACLES[name](params, config, x[:, : start + length])[:, start:]
        # As above, with sums in pieces; seen: 3e-7 of the scale.
        error = np.abs(actual[:, : here.shape[1]] - expected).max() / np.abs(expected).max()
        if not error <= 3e-6:
            return f"{mixer.__name__} is {error:.1g} of its scale off its oracle in the chunk at frame {start}"
    return None


def is_in_the_docs(name: str, mixer: Any, config: Any) -> str | None:
    if f"\n| `{name}` | " not in DOCS.read_text():
        return f"docs/mixers.md has no row for {name}"
    usual = name, " ".join(mixer.usual.placement), mixer.usual.attention, mixer.usual.groupnorm_scope
    row = "\n| " + " | ".join(f"`{value}`" for value in usual) + " | "
    return None if row in DOCS.read_text() else f"docs/mixers.md does not say what {name} is known with: {row.strip()}"


CHECKS = [
    has_what_the_door_asks_for,
    has_its_section,
    is_known_by_its_name,
    has_what_else_is_tuned,
    has_gains,
    has_ends,
    has_float32_leaves,
    has_its_kernels_cut,
    starts_as_it_says,
    asks_what_a_control_gives,
    is_what_its_oracle_says,
    goes_on_from_chunk_to_chunk,
    is_in_the_docs,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES)
def test_every_mixer(case, check):
    assert check(*CASES[case]) is None


def test_of_a_mixer_that_is_half_made_every_missing_part_is_named():
    @dataclasses.dataclass(frozen=True)
    class HalfConfig:
        pass

    class Half(nnx.Module):
        Config, gains, ends, float32 = HalfConfig, "norm/bias", "to_v/kernel", "w"
        usual, trained, is_identity = Usual(placement=()), "/to_x/", True
        cut: ClassVar = {}

        def __init__(self, channels, config, *, heads, layer, num_layers, bi_wkv, rngs):
            self.norm = nnx.LayerNorm(channels, epsilon=1e-5, rngs=rngs)
            self.to_v = nnx.Linear(channels, channels, rngs=rngs)

        @classmethod
        def carries(cls, config):
            return "all"

        def __call__(self, x, control=None):
            return x + self.to_v(self.norm(x))

    checks = [check for check in CHECKS if check is not has_what_else_is_tuned]  # for which it must be registered
    assert [check("half", Half, HalfConfig()) for check in checks] == [
        "Half has no has_bi_wkv, bypass: see models/mixers/base.py",
        "models/video_config.py: VideoConfig has no section `half: HalfConfig`",
        "Half.usual names no place for it",
        "Half.gains does not match norm/scale",
        "Half without its ends (to_v/kernel) changes its clip",
        "Half.float32 matches no parameter of it",
        "Half.cut does not match to_v/kernel, which has 102400 elements",
        "a new Half changes its clip: end in zeros",
        "Half does not hand what it reads by to `control.mixer`",
        "tests/models/test_mixers.py: ORACLES has no half",
        "Half.carries says 'all'",
        "docs/mixers.md has no row for half",
    ]
