"""Meshes as they are written, those chosen where nothing is said, and what is refused; where parameters are cut."""

import jax
import pytest

from vrwkv_jax.parallel.mesh import make_mesh, mesh_sizes, parse_mesh
from vrwkv_jax.parallel.placement import cut_axis
from vrwkv_jax.system.errors import UserError


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("data=1,fsdp=2,frame=4", (1, 2, 4)),
        ("frame=8", (1, 1, 8)),
        ("frame=2, data=3", (3, 1, 2)),
    ],
)
def test_parsed(text, sizes):
    assert tuple(parse_mesh(text).values()) == sizes
    assert tuple(parse_mesh(text)) == ("data", "fsdp", "frame")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames=8", "has no axis 'frames'"),
        ("", "has no axis ''"),
        ("frame=0", "gives frame '0'"),
        ("frame=-1", "gives frame '-1'"),
        ("frame", "no number of devices"),
        ("frame=2,frame=4", "names an axis twice"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_mesh(text)


@pytest.fixture
def eight(monkeypatch):
    """As if there were eight devices."""
    monkeypatch.setattr(jax, "device_count", lambda: 8)


@pytest.mark.parametrize(
    ("frames", "batch_size", "sizes"),
    [(8, 1, (1, 1, 8)), (24, 1, (1, 1, 8)), (12, 1, (1, 2, 4)), (12, 2, (2, 1, 4)), (7, 1, (1, 8, 1))],
)
def test_the_mesh_that_suits(eight, frames, batch_size, sizes):
    assert tuple(mesh_sizes(None, frames, batch_size).values()) == sizes


def test_one_device_needs_no_mesh():
    assert make_mesh("data=1", 8) is None
    assert jax.device_count() > 1 or make_mesh(None, 8) is None


@pytest.mark.parametrize(
    ("text", "frames", "batch_size", "message"),
    [
        ("frame=16", 16, 1, "is for 16 devices, and 8 are here"),
        ("frame=8", 12, 1, "^frames 12 can't be shared evenly by 8 devices"),
        ("data=2", 8, 3, "^batch_size 3 can't be shared evenly by 2 devices"),
    ],
)
def test_what_does_not_fit_is_refused(eight, text, frames, batch_size, message):
    with pytest.raises(UserError, match=message):
        mesh_sizes(text, frames, batch_size)


@pytest.mark.parametrize(
    ("path", "shape", "axis"),
    [
        ("attn1/to_q/kernel", (320, 320), 1),
        ("attn1/to_out/kernel", (320, 320), 0),
        ("resnets/0/conv1/kernel", (3, 3, 320, 640), 3),
        ("conv_out/kernel", (3, 3, 640, 4), 2),  # 4 channels can't be cut into 8
        ("ff/proj_in/kernel", (320, 2560), 1),  # the largest
        ("to_q/kernel", (129, 129), None),  # nothing divides
        ("norm1/scale", (320,), None),  # small
    ],
)
def test_where_parameters_are_cut(path, shape, axis):
    assert cut_axis("down_blocks/0/" + path, shape, 8) == axis
    assert cut_axis("down_blocks/0/" + path, shape, 1) is None
