import pytest

from vrwkv_jax.media.files import check_place, replacing
from vrwkv_jax.system.errors import UserError


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    with replacing(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    with pytest.raises(failure), replacing(path) as part:
        part.write_bytes(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_is_allowed(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    with replacing(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_places_where_no_file_can_be(tmp_path):
    with pytest.raises(UserError, match="is a folder: give the name of a file"), replacing(tmp_path):
        pass
    with pytest.raises(UserError, match="there is no folder"), replacing(tmp_path / "missing" / "picture.png"):
        pass
    assert not (tmp_path / "missing").exists()
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / ("x" * 300)) as part:
        part.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nothing_is_no_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in ("link", "link/run"):
        with pytest.raises(UserError, match=r"link is a link to what is not there; name another directory$"):
            check_place(tmp_path / place, "--output")
    (tmp_path / "nowhere").mkdir()
    check_place(tmp_path / "link" / "run", "--output")
