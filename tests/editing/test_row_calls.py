"""The rows that results say the U-Net was asked for are those that it was asked for."""

from collections.abc import Iterator

import jax
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.editing import kept_steps
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.settings import Sampling

SOURCE, TARGET, STEPS, ITERATIONS = "a red disc", "a blue disc", 5, 2
GUIDED = Sampling(guidance_scale=3.0)


class Asked:
    """Rows, as the programs that run ask for them."""

    def __init__(self):
        self.rows = 0

    def since(self) -> int:
        """Those since it was asked last."""
        jax.effects_barrier()
        rows, self.rows = self.rows, 0
        return rows

    def add(self, rows: int) -> None:
        self.rows += rows


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    asked, unet = Asked(), Denoiser._unet

    def counting(self, params, latents, *args, **options):
        jax.debug.callback(lambda: asked.add(len(latents)))
        return unet(self, params, latents, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoiser, "_unet", counting)
        jax.clear_caches()
        yield asked
    jax.clear_caches()


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def inversion(editor, asked):
    return editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=ITERATIONS)


def test_inversion(editor, inversion, asked):
    asked.since()
    again = editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=ITERATIONS)
    assert again.row_calls == asked.since() == STEPS * ITERATIONS
    stopped = editor.invert(clip(), SOURCE, num_inference_steps=STEPS, callback=lambda step, *_: step < 1)
    assert stopped.row_calls == asked.since() == 2 * 3


@pytest.mark.parametrize(
    ("controls", "sampling", "expected"),
    [
        ({}, Sampling(guidance_scale=1.0), STEPS),
        ({}, GUIDED, 2 * STEPS),
        ({}, Sampling(guidance_scale=3.0, strength=0.4), 2 * 2),
        ({}, Sampling(strength=0.0), 0),
        ({}, Sampling(guidance_scale=3.0, guidance_interval=(0.4, 1.0)), 2 + 3 * 2),
        (
            {"features": 0.6, "feature_layers": ("up_blocks",)},
            Sampling(guidance_scale=3.0, guidance_interval=(0.0, 0.4)),
            2 * 3 + 2 + 2,
        ),
        ({"blend": ("disc",)}, GUIDED, 3 * STEPS),
        ({"cross_attention": 0.6}, GUIDED, 3 * 3 + 2 * 2),
        ({"cross_attention": 0.4, "reweight": ("blue=2",)}, GUIDED, 2 * 3 + 3 * 2),
    ],
)
def test_edits(controls, sampling, expected, editor, inversion, asked):
    asked.since()
    edit = editor.edit(inversion, TARGET, sampling=sampling, controls=ControlConfig(**controls))
    assert edit.row_calls == asked.since() == expected


def test_an_edit_that_is_stopped_and_goes_on(editor, inversion, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    asked.since()
    parts = []
    for stop in (1, STEPS):
        kept = KeptState(tmp_path / "state.npz")
        edit = editor.edit(inversion, TARGET, sampling=GUIDED, kept=kept, callback=lambda step, *_, s=stop: step < s)
        parts.append((edit.row_calls, asked.since()))
    assert parts == [(2 * 2, 2 * 2), (2 * STEPS, 2 * STEPS - 2 * 2)]


def test_null_text(editor, inversion, asked, tmp_path, monkeypatch):
    """Whose iterations end early where they are good enough, or go on after an interruption."""
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    asked.since()
    counts, found = [], []
    for good_enough, stop in ((1e9, STEPS), (0.0, STEPS), (0.0, 1), (0.0, STEPS)):
        monkeypatch.setattr("vrwkv_jax.editing.null_text.GOOD_ENOUGH", good_enough)
        editor.null_text(
            inversion,
            sampling=GUIDED,
            iterations=3,
            kept=KeptState(tmp_path / f"{len(counts) // 2}.npz") if len(counts) > 1 else None,
            callback=lambda step, *_, s=stop: step < s,
            counted=counts.append,
        )
        found.append(asked.since())
    assert counts == [STEPS * 3, STEPS * 5, 2 * 5, STEPS * 5]
    assert found == [STEPS * 3, STEPS * 5, 2 * 5, (STEPS - 2) * 5]
