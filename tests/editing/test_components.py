"""Reading a large checkpoint is shown, tensor by tensor."""

from contextlib import contextmanager

import pytest

from vrwkv_jax import Editor
from vrwkv_jax.config import VideoConfig
from vrwkv_jax.editing import components
from vrwkv_jax.system.reporter import Silent, reporting_to


class Counting(Silent):
    def __init__(self):
        self.stages = {}

    @contextmanager
    def stage(self, what, total, done=0, unit="step"):
        self.stages[what] = [total, 0]

        def advance(*_, **__):
            self.stages[what][1] += 1

        yield advance


@pytest.mark.parametrize("is_large", [True, False])
def test_reading_is_shown_where_it_takes_a_while(tiny_checkpoint, monkeypatch, is_large):
    monkeypatch.setattr(components, "LARGE", 0 if is_large else 2**26)
    reporter = Counting()
    with reporting_to(reporter):
        Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(mixer="none"))
    assert set(reporter.stages) == ({"read unet", "read vae", "read text_encoder"} if is_large else set())
    assert all(total == advanced > 10 for total, advanced in reporter.stages.values())
