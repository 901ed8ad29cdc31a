"""Every mixer is tuned, in bfloat16 and with remat; by the command from end to end. Minutes."""

import jax
import numpy as np
import pytest

from tests.commands.tiny import TINY
from tests.small import clip
from vrwkv_jax import Editor, load_run
from vrwkv_jax.commands.tune import main
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.parameter_rules import SCHEDULED
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.tuning.loop import tune

RIVALS = [name for name in MIXERS if name != "vrwkv"]  # which all other tests of tuning and commands have
pytestmark = pytest.mark.long


@pytest.mark.parametrize("mixer", RIVALS)
def test_in_bfloat16_with_remat(mixer, tiny_checkpoint):
    editor = Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(mixer=mixer), dtype="bfloat16")
    config = TuneConfig(tuning=TuningConfig(steps=2, learning_rate=1e-3, remat=True))
    run = tune(editor, clip(), "a red disc", config)
    assert all(np.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in run.log)
    assert all(leaf.dtype == np.float32 for leaf in run.params.values())
    unchanged = [path for path, leaf in run.params.items() if np.array_equal(leaf, editor.unet.params[path])]
    assert not unchanged, unchanged


@pytest.mark.parametrize("mixer", RIVALS)
def test_by_the_command(mixer, tmp_path):
    """Tuned, inverted, edited, and read again: with nothing given but its name."""
    main([*TINY, "--mixer", mixer, "--output", str(tmp_path / "run")])
    run = load_run(tmp_path / "run")
    assert {float(leaf) for path, leaf in run.params.items() if SCHEDULED.search(path)} <= {1.0}
    assert run.config.video_model == VideoConfig(mixer=mixer).settled()
    assert {jax.numpy.isfinite(leaf).all().item() for leaf in run.editor().unet.params.values()} == {True}
