"""Where a word stands in a prompt, in scripts with and without spaces."""

import unicodedata

import pytest

from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import check_words
from vrwkv_jax.editing.controls.words import find_word, word_tokens, words_in
from vrwkv_jax.models.tokenizer import Tokenizer, write_byte_tokenizer
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("bytes")
    write_byte_tokenizer(directory)
    return Tokenizer.from_pretrained(directory)


@pytest.mark.parametrize(
    ("prompt", "word", "places"),
    [
        ("一只猫在草地上跑", "猫", [2]),
        ("猫が走っている", "猫", [0]),
        ("猫が走っている", "走っている", [2]),
        ("ﾈｺが走る", "ﾈｺ", [0]),
        ("แมววิ่งบนหญ้า", "แมว", [0]),
        ("แมววิ่งบนหญ้า", "ว", [2]),
        ("ບ້ານ", "ບ", []),
        ("一只cat在跑", "cat", [2]),
        ("a cat runs", "Cat", [2]),
        ("cats run", "cat", []),
        ("concat", "cat", []),
        ("a cat_2", "cat", []),
        ("बिल्ली दौड़ती है", "बिल्ली", [0]),
        ("बिल्ली दौड़ती है", "बिल", []),
        ("고양이가 달린다", "고양이가", [0]),
        ("고양이가 달린다", "양이", []),
        ("un café noir", "café", [3]),
        ("a 🐱 runs", "🐱", [2]),
        ("100% wool", "100%", [0]),
    ],
)
def test_words_of_many_scripts(prompt, word, places, tokenizer):
    """``places`` are the characters at which the word begins."""
    wanted = [
        token
        for token, (start, end) in enumerate(tokenizer.spans(prompt))
        if any(start < place + len(word) and end > place for place in places)
    ]
    assert bool(wanted) == bool(places) and find_word(tokenizer, prompt, word) == wanted


def test_an_accent_may_be_a_character_of_its_own(tokenizer):
    one = "un café noir"
    two = unicodedata.normalize("NFD", one)
    assert find_word(tokenizer, two, "café") == find_word(tokenizer, one, unicodedata.normalize("NFD", "café"))
    assert find_word(tokenizer, two, "café") == find_word(tokenizer, one, "café") != []


def test_a_word_that_is_cut_off_is_not_called_absent(tokenizer):
    prompt = "x " * 75 + "a cat"
    expected = r"'cat' stands in the prompt .* beyond the 75 tokens that this model takes, where it is cut off: shorten"
    with pytest.raises(UserError, match=expected):
        word_tokens(tokenizer, prompt, "cat")
    for controls in (ControlConfig(reweight=("cat=2",)), ControlConfig(blend=("cat",))):
        with pytest.warns(UserWarning, match="cut off"), pytest.raises(UserError, match=expected):
            check_words(controls, tokenizer, "a dog", [prompt])
    with pytest.raises(UserError, match="is not in the prompt"):
        word_tokens(tokenizer, prompt, "dog")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A red-haired man, a (big) jeep; 2 cats_", ["A", "red", "haired", "man", "big", "jeep", "2", "cats_"]),
        ("a man's un cafe\u0301 noir", ["a", "man", "s", "un", "caf\u00e9", "noir"]),
        ("\u4e00\u53eacat\u5728\u8dd1", ["\u4e00", "\u53ea", "cat", "\u5728", "\u8dd1"]),
        ("बिल्ली दौड़ती है", ["बिल्ली", "दौड़ती", "है"]),
        (" ... ", []),
        ("x" * 600 + " cut", ["x" * 600]),
    ],
)
def test_the_words_of_a_prompt_are_those_that_are_found(tokenizer, prompt, words):
    found = words_in(tokenizer, prompt)
    assert found == [unicodedata.normalize("NFC", word) for word in words]
    assert all(find_word(tokenizer, prompt, word) for word in found)
