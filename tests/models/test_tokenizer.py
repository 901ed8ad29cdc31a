"""The tokenizer against ids written down by hand, and its ways to fail."""

import json
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tokenizers

from vrwkv_jax.models.tokenizer import Tokenizer, add_words, write_byte_tokenizer
from vrwkv_jax.system.errors import UserError

START, END = 512, 513  # of the byte tokenizer
WORD_END = 256  # added to a byte's id at the end of a word


@pytest.fixture
def directory(tmp_path):
    write_byte_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def tokenizer(directory):
    return Tokenizer.from_pretrained(directory)


def byte_ids(word):
    """ids of a word in printable ASCII, where '!' is 0, as in OpenAI's vocabulary."""
    ids = [ord(letter) - ord("!") for letter in word]
    return [*ids[:-1], ids[-1] + WORD_END]


def test_ids_of_a_prompt(tokenizer):
    ids = tokenizer(["A  red\nCat", ""])
    expected = [START, *byte_ids("a"), *byte_ids("red"), *byte_ids("cat"), END]
    assert ids.shape == (2, 77) and ids.dtype == np.int32
    np.testing.assert_array_equal(ids[0], expected + [END] * (77 - len(expected)))
    np.testing.assert_array_equal(ids[1], [START] + [END] * 76)


@pytest.mark.parametrize("text", ["naïve café", "猫が走る", "🐈‍⬛ \x00\x7f\xa0\xad", "a^b_c~%<|x|>", "Ωμέγα"])
def test_the_byte_tokenizer_writes_any_text(tokenizer, text):
    ids = tokenizer([text])[0]
    body = ids[1 : 1 + tokenizer.count(text)]
    assert len(body) and (body < 512).all() and ids[len(body) + 1] == END
    clip_tokenizer = tokenizer._tokenizer
    written = "".join(text.lower().split())
    assert "".join(clip_tokenizer.decode(body).split()) == written


def test_words_of_the_given_texts_are_one_token_each(tmp_path):
    texts = ["a red circle on grass, sketch", "an orange star at night"] * 2
    write_byte_tokenizer(tmp_path, texts, max_length=20)
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert [tokenizer.count(text) for text in texts[:2]] == [7, 5]
    assert tokenizer.count("a red jeep") == 2 + len("jeep")
    ids = tokenizer(["a red circle", "猫"])
    assert ids.shape == (2, 20) and (ids[:, 0] == tokenizer.vocab_size - 2).all()
    assert (ids[0, 4:] == tokenizer.vocab_size - 1).all() and (ids[1, 4:] == tokenizer.vocab_size - 1).all()
    assert tokenizer._tokenizer.decode(ids[1, 1:4]).strip() == "猫"


def test_count_leaves_out_start_and_end(tokenizer):
    assert tokenizer.count("a red cat") == 7
    assert tokenizer.count("") == 0


def test_a_prompt_that_fits_exactly_is_not_cut(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenizer(["x" * 75])
    assert ids[0, 75] == byte_ids("x")[0] and ids[0, 76] == END


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(tokenizer):
    with pytest.warns(UserWarning, match=r"the prompt has 83 tokens, 75 fit; cut off: ', Red Hats'$"):
        ids = tokenizer(["short", "y" * 74 + " a, Red Hats"])
    np.testing.assert_array_equal(ids[1, 74:], [*byte_ids("y"), *byte_ids("a"), END])


def test_the_warning_shows_the_beginning_of_a_long_rest(tokenizer):
    with pytest.warns(UserWarning, match=r"the prompt has 975 tokens, 75 fit; cut off: 'z{79}…'$"):
        tokenizer(["z" * 975])


def test_padding_is_the_checkpoints_own(directory):
    """SD 2.x states its pad token in special_tokens_map.json, against tokenizer_config.json."""
    path = directory / "special_tokens_map.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "!"}))
    np.testing.assert_array_equal(
        Tokenizer.from_pretrained(directory)(["a"])[0, :5], [START, *byte_ids("a"), END, 0, 0]
    )


def test_length_is_the_checkpoints_own(directory):
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_max_length": 9}))
    assert Tokenizer.from_pretrained(directory)(["a"]).shape == (1, 9)
    path.unlink()
    assert Tokenizer.from_pretrained(directory)(["a"]).shape == (1, 77)


def test_reads_what_transformers_writes(directory, tmp_path, tokenizer):
    """Version 5 writes tokenizer.json in place of vocab.json and merges.txt."""
    tokenizer._tokenizer.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "vocab.json").exists()
    prompts = ["A red cat!", "猫"]
    np.testing.assert_array_equal(Tokenizer.from_pretrained(tmp_path / "saved")(prompts), tokenizer(prompts))


def test_tokenizer_json_alone_gives_the_same_ids(directory, tmp_path, tokenizer):
    """... of which the library that it is made for is asked as well. Neither length nor padding stand in it."""
    tokenizer._tokenizer.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    alone = Tokenizer.from_pretrained(tmp_path / "saved")
    prompts = ["A  red\ncat, naïve!", "猫が走る", "", "x" * 60 + " y" * 40]
    with pytest.warns(UserWarning, match="cut off"):
        found, expected = alone(prompts), tokenizer(prompts)
    np.testing.assert_array_equal(found, expected)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    for row, prompt in zip(found[:3], prompts, strict=False):
        ids = library.encode(prompt).ids
        np.testing.assert_array_equal(row, ids + [END] * (77 - len(ids)))


def test_a_string_is_not_a_list_of_prompts(tokenizer):
    with pytest.raises(TypeError, match="expected a list of prompts"):
        tokenizer("cat")


def test_missing_directory(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a directory"):
        Tokenizer.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_missing_file(directory, name):
    (directory / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        Tokenizer.from_pretrained(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", "{"),
        ("vocab.json", "[1, 2]"),
        ("vocab.json", '{"a": 0}'),
        ("merges.txt", "a b c d"),
        ("merges.txt", "x yz"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[1, 2]"),
        ("tokenizer.json", "{}"),
    ],
)
def test_broken_file(directory, name, content):
    (directory / name).write_text(content)
    with pytest.raises(UserError, match="can't be read"):
        Tokenizer.from_pretrained(directory)


def test_a_tokenizer_without_padding_is_refused(directory):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None}))
    with pytest.raises(UserError, match="there is no start, no end or no padding"):
        Tokenizer.from_pretrained(directory)


def many(count, first):
    return json.dumps({f"<{index}>": first + index for index in range(count)})


BOMBS = {
    "deep": ("tokenizer_config.json", '{"a": ' + "[" * 60_000 + "]" * 60_000 + "}"),
    "many lists": ("tokenizer_config.json", '{"a": [' + "[]," * 10**6 + "[]]}"),
    "many special tokens": ("special_tokens_map.json", json.dumps({"extra": [f"<{i}>" for i in range(10**5)]})),
    "many added tokens": ("added_tokens.json", many(10**5, 514)),
    "a large template": ("chat_template.jinja", "x" * 2**18),
    "100 MB of merges": ("merges.txt", "#version: 0.2\n" + "a b\n" * 25_000_000),
    "many words": ("vocab.json", many(10**6, 0)),
    "a long word": ("merges.txt", "#version: 0.2\n" + "a" * 10**6 + " b\n"),
    "deep words": ("vocab.json", '{"a": ' + "[" * 10**6),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_at_once(name, directory):
    file, content = BOMBS[name]
    (directory / file).write_text(content)
    started = time.process_time()
    with pytest.raises(UserError, match=f"tokenizer: .*{directory}.*copy") as caught:
        Tokenizer.from_pretrained(directory)
    assert time.process_time() - started < 5
    assert len(str(caught.value)) < 1000


def test_ids_with_holes_are_counted_to_the_last(directory):
    vocabulary = json.loads((directory / "vocab.json").read_text())
    (directory / "vocab.json").write_text(json.dumps(vocabulary | {"zz": 2**32 - 1}))
    assert Tokenizer.from_pretrained(directory).vocab_size == 2**32


def test_works_where_pytorch_is_not_installed(directory):
    """... and does not bring it in where it is; nor does transformers advertise it."""
    use = f"import vrwkv_jax.models.tokenizer as t; t.Tokenizer.from_pretrained({str(directory)!r})(['a cat'])"
    for before, after in [
        ("import sys; sys.modules['torch'] = None", ""),
        ("import sys", "; assert 'torch' not in sys.modules"),
    ]:
        done = subprocess.run([sys.executable, "-c", f"{before}; {use}{after}"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "", done.stderr


def test_new_words_become_one_token_and_old_ones_stay_what_they_were(tmp_path):
    old = ["a red circle on wood, sketch"] * 2
    new = ["a wooden furry circle, furry", "two wooden sticks on wood, sketch"]
    write_byte_tokenizer(tmp_path / "old", old, max_length=20)
    joined = add_words(tmp_path / "old", tmp_path / "new", new)
    before, after = (Tokenizer.from_pretrained(tmp_path / name) for name in ("old", "new"))
    assert after.vocab_size == before.vocab_size + len(joined) and after.max_length == 20
    assert [after.count(text) for text in new] == [6, 7]
    known = before.vocab_size - 2  # start and end stay last
    assert after.tokens(old[0])[1:-1] == before.tokens(old[0])[1:-1]
    assert after.tokens("a jeep")[1:-1] == before.tokens("a jeep")[1:-1]
    # every new token joins two that come before it, and together they spell the word
    spelt = {index: token for token, index in after._tokenizer.get_vocab().items()}
    for index, (first, second) in enumerate(joined, known):
        assert first < index and second < index and spelt[index] == spelt[first] + spelt[second]
    assert after.tokens("furry")[1] >= known


def test_words_can_be_added_to_a_tokenizer_of_bytes_and_words_only(directory, tmp_path):
    vocabulary = json.loads((directory / "vocab.json").read_text())
    vocabulary["strange"] = len(vocabulary)
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(UserError, match="is not one of bytes and words"):
        add_words(directory, tmp_path / "new", ["a furry cat"])
