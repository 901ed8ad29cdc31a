"""Our own format: what is saved comes back bit by bit, and damage is a sentence."""

import logging
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.checkpoint import native
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.system.reporter import reporting_to


def params(dtype=jnp.float32):
    """Arrays of many ranks and sizes, odd ones among them, with every value that a float can have."""
    shapes = {"a/kernel": (3, 3, 5, 7), "b/0/bias": (1,), "b/1/scale": (257,), "c/w": (31, 129), "d/scalar": ()}
    rng = np.random.default_rng(0)
    arrays = {path: rng.normal(size=shape).astype(dtype) for path, shape in shapes.items()}
    arrays["b/1/scale"][:5] = [np.nan, np.inf, -np.inf, -0.0, 1e-40]
    return {path: jnp.asarray(array) for path, array in arrays.items()}


def assert_bit_equal(actual, expected):
    assert list(actual) == list(expected)
    for path, array in expected.items():
        assert actual[path].dtype == array.dtype and actual[path].shape == array.shape
        assert np.asarray(actual[path]).tobytes() == np.asarray(array).tobytes(), path


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_saved_comes_back(dtype, tmp_path):
    native.save(tmp_path, params(dtype))
    assert native.is_native(tmp_path)
    assert_bit_equal(native.restore(tmp_path, params()), params(dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_comes_back_on_the_host(dtype, tmp_path):
    native.save(tmp_path, params(dtype))
    restored = native.restore(tmp_path, params(dtype), on_host=True)
    assert all(isinstance(array, np.ndarray) for array in restored.values())
    assert_bit_equal(restored, params(dtype))


def test_types_may_differ_within_a_checkpoint(tmp_path):
    mixed = params("bfloat16") | {"c/w": params("float32")["c/w"]}
    native.save(tmp_path, mixed)
    assert_bit_equal(native.restore(tmp_path), mixed)


def test_an_interruption_waits_for_the_end_of_a_save(tmp_path, monkeypatch, capsys):
    import orbax.checkpoint as ocp

    save = ocp.Checkpointer.save

    def interrupted_save(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return save(*args, **kwargs)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(ocp.Checkpointer, "save", interrupted_save)
    with reporting_to(TERMINAL), pytest.raises(KeyboardInterrupt):
        native.save(tmp_path, params())
    assert "to their end" in capsys.readouterr().err and signal.getsignal(signal.SIGINT) is before
    assert_bit_equal(native.restore(tmp_path), params())


def test_a_second_interruption_does_not_wait(tmp_path, monkeypatch):
    def impatient_save(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still there")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", impatient_save)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        native.save(tmp_path, params())
    assert signal.getsignal(signal.SIGINT) is before


def test_groups_make_no_difference(tmp_path, monkeypatch):
    native.save(tmp_path, params())
    groups = []
    monkeypatch.setattr(native, "SMALLEST_GROUP", 2000)
    assert_bit_equal(native.restore(tmp_path, params(), progress=groups.append), params())
    assert groups == [2, 1, 1, 1]  # 1260 + 4, 1028, 15996, 4 bytes


def test_restored_in_another_type(tmp_path):
    native.save(tmp_path, params())
    restored = native.restore(tmp_path, params(), jnp.bfloat16)
    for path, array in params().items():  # rounded by numpy: XLA takes numbers as small as 1e-40 for zero
        assert restored[path].dtype == jnp.bfloat16
        expected = np.asarray(array).astype(jnp.bfloat16)
        np.testing.assert_array_equal(np.asarray(restored[path], np.float32), expected.astype(np.float32))


def test_all_that_does_not_fit_is_in_one_error(tmp_path):
    native.save(tmp_path, params())
    wanted = {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in params().items()}
    del wanted["a/kernel"], wanted["d/scalar"]
    wanted |= {"new/bias": jax.ShapeDtypeStruct((3,), np.float32), "c/w": jax.ShapeDtypeStruct((31, 128), np.float32)}
    with pytest.raises(UserError) as caught:
        native.restore(tmp_path, wanted)
    message = str(caught.value)
    assert "1 missing, 2 unexpected, 1 of the wrong shape" in message
    for part in ("new/bias", "a/kernel", "d/scalar", "c/w: [31, 129], expected [31, 128]"):
        assert part in message


def damage(directory, how):
    directory = directory / native.DIRECTORY
    if how == "empty":
        for file in [file for file in directory.rglob("*") if file.is_file()]:
            file.unlink()
    elif how == "without its list of arrays":
        (directory / "_METADATA").unlink()
    elif how == "no JSON":
        (directory / "_METADATA").write_text("{")
    elif how == "truncated data":
        for file in directory.glob("ocdbt.process_0/d/*"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("how", ["empty", "without its list of arrays", "no JSON", "truncated data"])
def test_damaged(how, tmp_path, capfd, caplog):
    native.save(tmp_path, params())
    damage(tmp_path, how)
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path / native.DIRECTORY))} can't be read as an Orbax"):
        native.restore(tmp_path, params())
    assert not caplog.records  # Orbax says less, in more words
    assert capfd.readouterr().err == ""
    assert logging.getLogger("absl").isEnabledFor(logging.ERROR)


def test_nothing_is_overwritten(tmp_path):
    native.save(tmp_path, params())
    with pytest.raises(UserError, match=r"can't be written \(.*already exists"):
        native.save(tmp_path, {path: array + 1 for path, array in params().items()})
    assert_bit_equal(native.restore(tmp_path, params()), params())
