"""What GPUs run, at full size and without one: all custom calls, loops and conditionals of the product's programs.

So attention that falls back to forming its scores, a loop in place of a kernel, or a call back to the host is an error.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from benchmarks.gpu_target import TARGETS
from benchmarks.programs import PROGRAMS, Case, Models, lower
from benchmarks.rivals import RIVALS
from tests.models.tiny_unet import TINY
from tests.pallas_kernels.compile_for_gpu import supported
from tests.programs.operations import calls_and_branches
from vrwkv_jax.models.video_config import VideoConfig

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
LARGEST_HEADS = {"sm_80": 128, "sm_89": 128, "sm_90": 256, "sm_100": 128}  # that cuDNN has gradients for
ATTENTIONS = {  # of one transformer block: to the frame and to the text, and how many of them backward
    "tuning": (2, 2, 2),  # forward, and again for the gradient
    "inversion": (1, 1, 0),
    "sampling": (1, 1, 0),
    "controlled": (1, 3, 0),  # to the text: of all rows, with two maps mixed, and to the words
    "null text": (4, 4, 2),  # under the prompt; forward, and again for the gradient; and of the last embedding
    "vae encode": (0, 0, 0),
    "vae decode": (0, 0, 0),
}
KERNEL = "mosaic_gpu_v2"
# Bi-WKV of all 13 mixers, in kernels. Over the places of a frame: three each, and one where they are 64, one chunk, as
# for 4 mixers. Over the frames of a place: one.
BI_WKV = 9 * 3 + 4 * 1 + 13 * 1
KERNELS = {
    "tuning": 3 * BI_WKV,  # forward, again for the gradient, and backward
    "inversion": BI_WKV,
    "sampling": BI_WKV,
    "controlled": BI_WKV,
    "null text": 5 * BI_WKV - 2 * 4,  # the mixer of the first skip connection does not see the embedding
}
LOOPS = {
    "inversion": {"jit(inversion_step)/while": 1},
    "null text": {"jit(null_text_step)/while": 1},
    "vae encode": {"jit(encode_frames)/while": 1},  # over the frames
    "vae decode": {"jit(decode_frames)/while": 1},
}


LIKE_SM_80 = ("sm_89", "sm_100")  # cuDNN's limits are the same


@pytest.mark.parametrize(
    ("program", "target"),
    [
        pytest.param(
            program, target, marks=[pytest.mark.long] if target in LIKE_SM_80 and program != "sampling" else []
        )
        for program in PROGRAMS
        for target in TARGETS
    ],
)
def test_calls_loops_and_conditionals(program, target):
    has_kernels = target in supported()
    models = Models(video=VideoConfig() if has_kernels else VideoConfig(mixer="none"))
    case = Case(program, 16, 512, 512, "bfloat16", program == "tuning", target, models)
    _, tuned, frozen = programs.unet(case)
    queries = [leaf.shape for path, leaf in (tuned | frozen).items() if path.endswith("attn1/to_q/kernel")]
    blocks = sum(channels // 8 <= LARGEST_HEADS[target] for channels, _ in queries)
    assert (len(queries), blocks) == (16, 16 if target == "sm_90" else 10)
    to_frame, to_text, backward = ATTENTIONS[program]
    first = program == "null text"  # whose first attention comes before any that sees the embedding
    expected = {FORWARD: blocks * (to_frame + to_text), BACKWARD: blocks * backward - first}
    expected[KERNEL] = KERNELS.get(program, 0) if has_kernels else 0
    assert calls_and_branches(lower(case)) == +Counter(expected | LOOPS.get(program, {}))


OWN = {
    "extended": (0, 0),
    "tune_a_video": (1, 0),
    "fluencyve": (0, 2 * 3),
    "released": (0, 0),
    "released wkv": (0, 0),
    "released attention": (1, 0),
    "released linear_attention": (0, 0),
    "released state_space": (0, 1),
}
"""Of the others in a transformer block: attention of their own; and kernels of a selective scan, three of them in
either direction of time, or one where the frames of a place are one chunk."""
assert OWN.keys() == RIVALS.keys() - {"vrwkv", "none"}
OFTEN = ("extended", "tune_a_video", "fluencyve", "released")
SIZES = {"tiny": (TINY, 2, 64, 32), "full": (programs.UNET, 16, 512, 512)}


@pytest.mark.parametrize("program", ["sampling", pytest.param("tuning", marks=pytest.mark.long)])
@pytest.mark.parametrize("size", ["tiny", pytest.param("full", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "rival", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.long]) for name in OWN]
)
def test_of_rivals(rival, size, program):
    own, kernels = OWN[rival]
    unet, *clip = SIZES[size]
    times, backward = (2, 1) if program == "tuning" else (1, 0)  # forward again for the gradient
    models = Models(unet, VideoConfig(**RIVALS[rival]))
    case = Case(program, *clip, "bfloat16", program == "tuning", "sm_90", models)
    blocks = {"tiny": 1, "full": 16}[size]
    expected = {FORWARD: times * (2 + own), BACKWARD: backward * (2 + own), KERNEL: (times + backward) * kernels}
    assert calls_and_branches(lower(case)) == +Counter({name: blocks * count for name, count in expected.items()})


def test_what_is_counted():
    """Functions called twice, loops in functions, branches, and the host."""

    @jax.jit
    def inner(x):
        jax.debug.callback(lambda x: None, x)
        return jax.lax.fori_loop(0, x.astype(int), lambda _, y: jnp.sin(y), x)

    def outer(x):
        x = jax.lax.cond(x > 0, inner, lambda x: x, inner(inner(x)))
        return jax.lax.while_loop(lambda x: x < 1, inner, x)

    found = calls_and_branches(jax.jit(outer).lower(1.0))
    calls = {name: number for name, number in found.items() if "callback" in name}
    assert list(calls.values()) == [4]
    assert sum(number for name, number in found.items() if name.endswith("while")) == 5
    assert sum(number for name, number in found.items() if name.endswith("cond")) == 1
    assert sum(found.values()) == 10
