"""What training may begin with, and what it makes of new words."""

import numpy as np
import pytest

from train import pretrain_shapes
from train.pretrain.text_to_image import with_new_words
from vrwkv_jax import built_in
from vrwkv_jax.system.errors import UserError


def test_a_new_word_begins_as_the_mean_of_its_parts():
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)  # three tokens, start, end
    params = {"token_embedding/embedding": rows, "other": rows[0]}
    grown = with_new_words(params, [(0, 2), (3, 1)])  # 3 is the first new one
    expected = [*rows[:3], (rows[0] + rows[2]) / 2, ((rows[0] + rows[2]) / 2 + rows[1]) / 2, *rows[3:]]
    np.testing.assert_array_equal(grown["token_embedding/embedding"], np.stack(expected))
    assert grown["other"] is params["other"]


def test_a_model_of_another_make_is_refused_and_leaves_nothing(tmp_path, tiny_checkpoint):
    with pytest.raises(UserError, match="is no model that this command has made"):
        pretrain_shapes.main(["--start", str(tiny_checkpoint), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_missing_start_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        pretrain_shapes.main(["--start", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_start_and_output_are_two_directories():
    with pytest.raises(UserError, match="are both"):
        pretrain_shapes.main(["--start", str(built_in.MODEL), "--output", str(built_in.MODEL)])
