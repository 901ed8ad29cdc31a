"""Where the small model is trained: nobody else's files are written over."""

import pytest

from train.pretrain_shapes import _claim
from vrwkv_jax.runs import own
from vrwkv_jax.system.errors import UserError


def test_only_a_directory_of_its_own_is_trained_in(tmp_path):
    output = tmp_path / "model"
    for _ in range(2):  # the second time it goes on
        _claim(output, output / "training")
        (output / "README.md").write_text("of the model")
    assert own.is_marked(output / "training", own.PRETRAINING)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no training to go on with"):
        _claim(tmp_path, tmp_path / "training")


def test_a_training_of_an_earlier_version_is_gone_on_with(tmp_path):
    (tmp_path / "training" / "vae" / "step-000200" / "params").mkdir(parents=True)
    _claim(tmp_path, tmp_path / "training")
    assert own.is_marked(tmp_path / "training", own.PRETRAINING)
