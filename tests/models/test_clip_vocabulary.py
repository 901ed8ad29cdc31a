"""The vocabulary that comes with the package, against the ids of OpenAI's own tokenizer."""

from importlib.resources import files

import numpy as np
import pytest
from transformers import CLIPTokenizer

from vrwkv_jax.models.tokenizer import Tokenizer

START, END = 49406, 49407
HORSE = [START, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496, END]
# Of each, the ids of OpenAI's own tokenizer (open_clip 3.3.0's copy of it).
PUBLISHED = {
    "a photo of an astronaut riding a horse on mars": HORSE,
    "hello world!": [START, 3306, 1002, 256, END],
    "A  Cat's CAFÉ\n猫🐈\u200d⬛ <3": [
        START, 320, 2368, 568, 15304, 163, 234, 360, 2074, 230, 4244, 7930, 505, 283, 274, END
    ],
    "12345 naïve — don’t": [START, 272, 273, 274, 275, 276, 1097, 35689, 563, 2005, 847, 728, 503, 339, END],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.of_clip()


def test_published_ids(tokenizer):
    assert tokenizer.vocab_size == 49408 and tokenizer.max_length == 77
    for prompt, ids in PUBLISHED.items():
        assert tokenizer.tokens(prompt) == ids
    assert tokenizer([""])[0].tolist() == [START] + [END] * 76


def test_padding_of_sd2():
    ids = Tokenizer.of_clip(padding="!")(["a photo of an astronaut riding a horse on mars"])
    np.testing.assert_array_equal(ids[0], HORSE + [0] * (77 - len(HORSE)))


def test_saved_it_is_read_by_transformers_and_by_us(tokenizer, tmp_path):
    prompts = list(PUBLISHED)
    tokenizer.save(tmp_path / "tokenizer")
    oracle = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert oracle(prompts)["input_ids"] == list(PUBLISHED.values())
    padded = oracle(prompts, padding="max_length")["input_ids"]
    assert padded == Tokenizer.from_pretrained(tmp_path / "tokenizer")(prompts).tolist() == tokenizer(prompts).tolist()


def test_its_licence_comes_with_it():
    licence = files("vrwkv_jax.models") / "clip_vocabulary" / "LICENSE"
    assert "Copyright (c) 2021 OpenAI" in licence.read_text() and "MIT License" in licence.read_text()
