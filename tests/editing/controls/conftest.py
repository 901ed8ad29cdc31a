import pytest

from vrwkv_jax.models.tokenizer import Tokenizer, write_byte_tokenizer

LENGTH = 12
TEXTS = ["a red ball on grass", "a blue ball on wet sand", "the ball of yarn"] * 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    """One token for each word of TEXTS, one per byte for others."""
    directory = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(directory, TEXTS, LENGTH)
    return Tokenizer.from_pretrained(directory)
