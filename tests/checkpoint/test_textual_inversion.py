"""Words of textual inversion against diffusers' ``load_textual_inversion``: the same ids, the same hidden states."""

import copy
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoint import loras
from tests.checkpoint.loras import Memory
from tests.checkpoint.pipelines import make_models, save_pipeline
from tests.torch_weights import assert_close
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.textual_inversion import (
    MOST_VECTORS,
    Embedding,
    open_embedding,
    read_embedding,
    with_rows,
    with_words,
)
from vrwkv_jax.editing.controls.words import token_map, word_tokens
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextEncoder
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError

WIDTH = 40
TOLERANCE = 1e-5  # of the output's scale, as for the text encoder by itself
FILE = Path("learned/My-Style.pt")


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pipeline") / "sd"
    models = make_models()
    save_pipeline(directory, models)
    return directory, models


@pytest.fixture(scope="module")
def described(checkpoint):
    return Source(checkpoint[0]).describe()


def web_ui(count: int, name: str, seed: int = 0) -> dict:
    """What AUTOMATIC1111's web UI saves."""
    others = {"string_to_token": {"*": torch.tensor(265)}, "step": 500, "sd_checkpoint": None}
    return {"string_to_param": {"*": vectors(count, seed)}, "name": name, **others}


def read(saved, file: Path = FILE, word: str | None = None) -> Embedding:
    """As ``TorchFile`` has it: tensors by joined names, and the rest."""
    tensors, contents = {}, {}
    for key, value in saved.items():
        if isinstance(value, dict):
            tensors |= {f"{key}.{inner}": tensor for inner, tensor in value.items()}
        elif isinstance(value, torch.Tensor):
            tensors[key] = value
        else:
            contents[key] = value
    return read_embedding(Memory(tensors), file, contents=contents, word=word)


FILES = {
    "web-ui": (web_ui(3, "Easy-Negative"), None),
    "web-ui-renamed": (web_ui(2, "Easy-Negative"), "<better>"),
    "diffusers": ({"<cat-toy>": vectors(1)[0]}, None),
    "diffusers-several": ({"<cat-toy>": vectors(4)}, None),
    "diffusers-row": ({"<cat-toy>": vectors(1)}, "naïve style"),
}


@pytest.mark.parametrize("case", FILES)
def test_ids_and_hidden_states_are_those_of_diffusers(checkpoint, described, case):
    directory, models = checkpoint
    saved, word = FILES[case]
    embedding = read(saved, word=word)
    given = with_words(described, [embedding])
    prompts = [
        f"a {embedding.word} sits on a hill",
        f"{embedding.word}, {embedding.word}",
        "a cat",
        f"{'x ' * 73}{embedding.word} and more",  # which is cut off within the word
    ]
    parts = {name: copy.deepcopy(model) for name, model in models.items()}
    pipe = loras.pipeline(parts, copy.deepcopy(described.tokenizer._tokenizer))
    pipe.load_textual_inversion(saved, token=word)
    texts = pipe.maybe_convert_prompt(prompts, pipe.tokenizer)
    if embedding.word != embedding.word.lower():  # which diffusers tokenizes, but forgets to write out
        texts = [
            text.replace(embedding.word, f"{embedding.word} {embedding.word}_1 {embedding.word}_2") for text in texts
        ]
    padded = {"padding": "max_length", "max_length": 77, "truncation": True}
    ids = pipe.tokenizer(texts, **padded, return_tensors="pt").input_ids
    with pytest.warns(UserWarning, match="cut off: "):
        found = given.tokenizer(prompts)
    np.testing.assert_array_equal(found, ids)
    assert given.text_encoder.vocab_size == given.tokenizer.vocab_size == len(pipe.tokenizer)

    _, old = P.abstract(lambda rngs: CLIPTextEncoder(described.text_encoder, rngs=rngs))
    graphdef, new = P.abstract(lambda rngs: CLIPTextEncoder(given.text_encoder, rngs=rngs))
    params = with_rows(Source(directory).read("text_encoder", old), described.tokenizer, [embedding])
    assert {path: leaf.shape for path, leaf in params.items()} == {path: leaf.shape for path, leaf in new.items()}
    hidden = jax.jit(lambda params, ids: P.merge(graphdef, params)(ids))(params, found)
    with torch.no_grad():
        expected = pipe.text_encoder(ids).last_hidden_state
    assert_close(np.asarray(hidden), expected, TOLERANCE)


def test_files_of_both_kinds(tmp_path):
    """As the web UI and diffusers write them, by the names that they have there."""
    torch.save(web_ui(2, "style"), tmp_path / "x.pt")
    torch.save({"<toy>": vectors(1)[0]}, tmp_path / "learned_embeds.bin")
    save_file({"<toy>": vectors(2)}, tmp_path / "learned_embeds.safetensors")
    save_file({"emb_params": vectors(2).half()}, tmp_path / "easy.safetensors")
    found = {path.name: open_embedding(path) for path in tmp_path.iterdir()}
    words = {"x.pt": "style", "learned_embeds.bin": "<toy>", "learned_embeds.safetensors": "<toy>"}
    assert {name: one.word for name, one in found.items()} == words | {"easy.safetensors": "easy"}
    for name, embedding in found.items():
        expected = vectors(1 if name.endswith("bin") else 2)
        expected = expected.half().float() if name.startswith("easy") else expected
        np.testing.assert_array_equal(embedding.vectors, expected)
    assert open_embedding(tmp_path / "x.pt", "other").word == "other"
    with pytest.raises(UserError, match="nowhere"):
        open_embedding(tmp_path / "nowhere.pt")


def test_a_pickle_that_wants_more_than_tensors_does_not_get_it(tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    torch.save(web_ui(2, "style") | {"payload": Payload()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt was not read, and nothing in it was run"):
        open_embedding(tmp_path / "x.pt")
    assert not (tmp_path / "made").exists()


def test_several_words_and_tokens_that_the_text_encoder_had_to_spare(described):
    """Its table may have more rows than the tokenizer has tokens: the words take those first."""
    first, second = read({"<one>": vectors(2)}), read({"<two>": vectors(3, 1)})
    given = with_words(described, [first, second])
    known = described.tokenizer.vocab_size
    assert given.tokenizer.tokens("<one> <two>")[1:-1] == [known + index for index in range(5)]
    assert given.tokenizer.count("<two><one>") == 5
    table = np.zeros((known + 7, WIDTH), np.float32)
    rows = with_rows({"token_embedding/embedding": table}, described.tokenizer, [first, second])
    expected = np.concatenate([table[:known], vectors(2), vectors(3, 1), table[:2]])
    np.testing.assert_array_equal(rows["token_embedding/embedding"], expected)
    params = {"token_embedding/embedding": table}
    assert with_rows(params, described.tokenizer, []) is params


def test_the_tokenizer_that_was_given_stays_what_it_was(described):
    before = described.tokenizer.tokens("a <cat-toy>")
    with_words(described, [read({"<cat-toy>": vectors(2)})])
    assert described.tokenizer.tokens("a <cat-toy>") == before


@pytest.mark.parametrize("prompt", ["a <Cat-Toy> runs", "a <cat-toy> runs", "A <CAT-TOY> RUNS"])
def test_all_tokens_of_a_word_stand_where_it_does(described, prompt):
    """... in any case, and controls that name words find all of them."""
    tokenizer = with_words(described, [read({"<Cat-Toy>": vectors(3)})]).tokenizer
    assert tokenizer.spans(prompt)[2:5] == [(2, 11)] * 3
    assert word_tokens(tokenizer, prompt, "<cat-toy>") == [2, 3, 4]
    assert len(tokenizer.spans(prompt)) == len(tokenizer.tokens(prompt)) == tokenizer.count(prompt) + 2
    mapped = token_map(tokenizer, "a cat runs", prompt, replace=True)  # cat is three tokens of the byte tokenizer
    assert mapped.known.all() and (mapped.matrix[2:5, 2:5] == np.eye(3)).all()


@pytest.mark.parametrize(
    ("saved", "file", "word", "expected"),
    [
        (web_ui(1, "in the file"), FILE, None, "in the file"),
        ({"string_to_param": {"*": vectors(1)}}, FILE, None, "My-Style"),
        (web_ui(1, " "), FILE, None, "My-Style"),
        ({"emb_params": vectors(2)}, Path("easy.safetensors"), None, "easy"),
        ({"emb_params": vectors(2)}, Path("easy.safetensors"), "other", "other"),
        ({"<toy>": vectors(2)}, FILE, None, "<toy>"),
        ({"<toy>": vectors(2).half()}, FILE, None, "<toy>"),
    ],
)
def test_where_the_word_comes_from(saved, file, word, expected):
    embedding = read(saved, file, word)
    assert embedding.word == expected
    tensor = next(iter(saved.values()))
    tensor = tensor["*"] if isinstance(tensor, dict) else tensor
    np.testing.assert_array_equal(embedding.vectors, tensor.float())
    assert embedding.vectors.dtype == np.float32


WRONG = {
    "SDXL": ({"clip_l": vectors(1), "clip_g": vectors(1)}, None, "is a textual inversion for SDXL"),
    "a LoRA": (
        {"lora_unet_a.lora_down.weight": vectors(1), "lora_unet_a.lora_up.weight": vectors(1)},
        None,
        r"is a LoRA \(it has lora_unet_a",
    ),
    "two": ({"<a>": vectors(1), "<b>": vectors(1)}, None, r"is no textual inversion \(it has <a>, <b>\)"),
    "nothing": ({}, None, "is without tensors"),
    "numbers": ({"<a>": torch.zeros(WIDTH, dtype=torch.int64)}, None, "vectors of type I64"),
    "a scalar": ({"<a>": torch.tensor(1.0)}, None, r"an array of shape \[\]; expected vectors \[n, 768 or 1024\]"),
    "empty": ({"<a>": torch.zeros(0, WIDTH)}, None, r"an array of shape \[0, 40\]"),
    "deep": ({"<a>": torch.zeros(1, 1, WIDTH)}, None, r"an array of shape \[1, 1, 40\]"),
    "too many": ({"<a>": torch.zeros(MOST_VECTORS + 1, WIDTH)}, None, "has 76 vectors; expected at most 75"),
    "too many by far": ({"<a>": torch.zeros(1).expand(2**40, WIDTH)}, None, "has 1099511627776 vectors"),
    "too wide": ({"<a>": torch.zeros(1).expand(2**40)}, None, "vectors of width 1099511627776"),
    "not finite": ({"<a>": vectors(1) * torch.inf}, None, "not finite"),
    "spaces": ({"<a>": vectors(1)}, "two  spaces", "the word 'two  spaces'"),
    "control": ({"a\x1b[31m": vectors(1)}, None, r"the word 'a\\x1b\[31m'"),
    "long": ({"<a>": vectors(1)}, "x" * 101, "the word 'xxx.*expected at most 100 characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_embedding(case):
    saved, word, message = WRONG[case]
    with pytest.raises(UserError, match=rf"^learned/My-Style\.pt (is|has|holds) .*{message}|{message}"):
        read(saved, word=word)


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (768, r"vectors of width 768 \(SD 1.x\), and the model's text encoder has 40: use one"),
        (1024, r"vectors of width 1024 \(SD 2.x\)"),
        (1280, r"vectors of width 1280 \(SDXL\)"),
        (39, "vectors of width 39, and"),
    ],
)
def test_an_embedding_for_another_model(described, width, message):
    with pytest.raises(UserError, match=message):
        with_words(described, [read({"<a>": torch.zeros(2, width)})])


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["a"], "a"),  # a letter
        (["A"], "A"),
        (["é"], "é"),  # which stands for a byte in the vocabulary
        (["<|endoftext|>"], "<|endoftext|>"),
        (["<toy>", "<TOY>"], "<TOY>"),
        (["<toy>", "<toy>_1"], "<toy>_1"),
        (["<toy>_1", "<toy>"], "<toy>_1"),
    ],
)
def test_a_word_that_is_a_token_already(described, words, taken):
    embeddings = [read({word: vectors(2, seed)}) for seed, word in enumerate(words)]
    with pytest.raises(UserError, match="is a token of the model's already: give it another word") as caught:
        with_words(described, embeddings)
    assert repr(taken) in str(caught.value)


def test_a_tokenizer_whose_ids_have_gaps(described, monkeypatch):
    tokenizer = copy.deepcopy(described.tokenizer._tokenizer)
    monkeypatch.setattr(type(tokenizer), "__len__", lambda self: 700)
    with pytest.raises(UserError, match="can't take the word '<toy>'"):
        Tokenizer(tokenizer).with_word("<toy>", 1)
