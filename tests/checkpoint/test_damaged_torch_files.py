"""Files of torch.save that are cut off, packed by another program, or of another kind: each is told what it is."""

import io
import re
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch

from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.system.errors import UserError

TENSORS = {"a": torch.arange(100.0), "b": torch.arange(50, dtype=torch.int16)}


@pytest.fixture
def path(tmp_path):
    torch.save(TENSORS, tmp_path / "file.bin")
    return tmp_path / "file.bin"


def refused(path, message):
    with pytest.raises(UserError) as caught:
        TorchFile(path)
    said = str(caught.value)
    assert said.startswith(f"{path} can't be read as a file of torch.save") and len(said) < 500, said
    assert re.search(message, said), said


def packed_anew(path, change=lambda name, content: (name, content), **options):
    """``path`` written by Python's zipfile, with each record as ``change`` gives it, or without it."""
    with zipfile.ZipFile(path) as file:
        records = [change(name, file.read(name)) for name in file.namelist()]
    with zipfile.ZipFile(path, "w", **options) as file:
        for record in filter(None, records):
            file.writestr(*record)


def read(path):
    found = TorchFile(path)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
    return True


@pytest.mark.parametrize("legacy", [False, True])
def test_every_length_of_a_file_that_is_cut_off(legacy, path):
    torch.save(TENSORS, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    data = content.index(TENSORS["a"].numpy().tobytes())
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        if legacy and length >= data:
            refused(path, rf"it is cut off: it has {length} of {len(content)} bytes\): download or copy it again")
        elif not legacy and length > 4:
            refused(path, rf"it is cut off: it has {length} bytes and no table of contents at its end")
        else:
            refused(path, "download or copy it again")


def test_a_file_that_becomes_shorter_while_it_is_read(path):
    found = TorchFile(path)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=f"{path} became shorter while it was read"):
        found["b"]
    path.unlink()
    with pytest.raises(UserError, match=f"{path} can't be read \\(No such file"):
        found["b"]


def test_packed_by_another_program(path):
    packed_anew(path)
    assert read(path)
    packed_anew(path, lambda name, content: (f"модель/{name.split('/', 1)[1]}", content))
    assert read(path)
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"a comment"
    assert read(path)


def test_with_a_name_that_is_not_ascii(path):
    torch.save(TENSORS, path.with_name("модель.ckpt"))
    assert read(path.with_name("модель.ckpt"))


@pytest.mark.parametrize("limit", [50, 300, 10**4])
def test_numbers_of_64_bits(limit, path, monkeypatch):
    """As in files of more than 4 GB, of which zipfile writes a small one here."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    packed_anew(path)
    assert (b"PK\6\6" in path.read_bytes()) == (limit < 10**4)
    assert read(path)


def test_packed_so_that_it_has_to_be_unpacked(path):
    def bomb(name, content):
        return name, bytes(2**24) if name.endswith("data/0") else content

    packed_anew(path, bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16
    refused(path, "its record 'file/.*' is compressed or encrypted, which torch.save never does")


def test_encrypted(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "is compressed or encrypted")


@pytest.mark.parametrize("name", ["data/0", "data.pkl"])
def test_records_that_are_there_twice(name, path):
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(f"file/{name}", b"x")
    refused(path, f"its record 'file/{name}' is there twice")


def test_records_that_are_missing(path):
    packed_anew(path, lambda name, content: None if name.endswith("data/1") else (name, content))
    refused(path, "the data of the tensor 'b' is not there")
    packed_anew(path, lambda name, content: None if name.endswith("data.pkl") else (name, content))
    refused(path, r"a zip file with no data\.pkl, expected one")


@pytest.mark.parametrize("more", [-1, 1, 4])
def test_records_of_another_size(more, path):
    packed_anew(
        path, lambda n, content: (n, (content + bytes(4))[: 100 + more]) if n.endswith("data/1") else (n, content)
    )
    refused(path, f"the data of the tensor 'b' has {100 + more} bytes, expected 100")


def test_two_archives_in_one(path):
    packed_anew(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/data.pkl", b"x")
    refused(path, r"a zip file with 2 data\.pkl, expected one")


def test_big_endian(path):
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"little_endianq\x02\x88") == 1
    path.write_bytes(content.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
    refused(path, "it is big-endian; save it anew")
    torch.save(TENSORS, path)
    packed_anew(path, lambda name, content: (name, b"big" if name.endswith("byteorder") else content))
    refused(path, "its byteorder is b'big', expected little")


def test_torch_script(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    refused(path, "it is a TorchScript program, expected tensors by name")


def test_a_table_of_contents_that_leads_astray(path):
    content = path.read_bytes()
    end, entry = content.rindex(b"PK\5\6"), content.index(b"PK\1\2")
    for place, layout, value, message in (
        (end + 16, "<I", 2**31, "its table of contents ends at byte"),
        (end + 16, "<I", 1, "its table of contents is damaged"),
        (end + 12, "<I", 2**31, "its table of contents ends at byte"),
        (end + 20, "<H", 9, "there are bytes behind its end"),
        (entry + 42, "<I", 2**31, "its table of contents is damaged"),
        (entry + 42, "<I", 8, "its table of contents is damaged"),
        (entry + 28, "<H", 2**16 - 1, "its table of contents is"),
        (entry + 24, "<I", 10**6, "compressed or encrypted"),
        (entry + 20, "<II", (10**6, 10**6), "of 1000000 bytes reaches beyond the"),
    ):
        damaged = bytearray(content)
        struct.pack_into(layout, damaged, place, *(value if isinstance(value, tuple) else (value,)))
        path.write_bytes(damaged)
        refused(path, message)


def test_a_table_of_contents_of_gigabytes(path):
    """The file says so, and is that large; none of it is read."""
    with path.open("r+b") as file:
        file.truncate(3 * 2**30)
        file.seek(0, io.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 2**31, 100, 0))
    refused(path, f"its table of contents has {2**31} bytes, expected at most")


def test_a_pickle_of_another_program(path):
    import pickle

    path.write_bytes(pickle.dumps({"a": [1.0, 2.0]}))
    refused(path, "it is a pickle that torch.save did not write")
    with pytest.raises(UserError, match=r"reaches for numpy\._core\.multiarray\._reconstruct|did not write"):
        path.write_bytes(pickle.dumps({"a": np.ones(3)}))
        TorchFile(path)


def test_legacy_storages_that_disagree_with_their_pickle(path):
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    place = content.index(TENSORS["a"].numpy().tobytes()) - 8
    path.write_bytes(content[:place] + struct.pack("<q", 99) + content[place + 8 :])
    refused(path, "its storage '[0-9]+' has 99 elements, expected 100")


def test_a_copy_of_a_whole_file_is_read(path, tmp_path):
    """So that what is refused above is so for its damage."""
    shutil.copy(path, tmp_path / "copy")
    assert read(tmp_path / "copy")
