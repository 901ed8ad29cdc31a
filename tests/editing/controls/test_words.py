"""Alignments of prompts, by hand."""

import numpy as np
import pytest

from tests.editing.controls.conftest import LENGTH
from vrwkv_jax.editing.controls.words import align, token_map, word_tokens
from vrwkv_jax.system.errors import UserError


@pytest.mark.parametrize(
    ("source", "edited", "expected"),
    [
        ("abc", "abc", [0, 1, 2]),
        ("abc", "axc", [0, -1, 2]),
        ("abc", "ac", [0, 2]),
        ("ac", "abbc", [0, -1, -1, 1]),
        ("", "ab", [-1, -1]),
        ("ab", "", []),
        ("abcd", "cdab", None),
        ("aab", "ab", None),
    ],
)
def test_align(source, edited, expected):
    found = align([ord(c) for c in source], [ord(c) for c in edited])
    if expected is not None:
        assert found == expected
    pairs = [(s, e) for e, s in enumerate(found) if s >= 0]
    assert all(source[s] == edited[e] for s, e in pairs) and pairs == sorted(pairs)
    longest = max(len([1 for _ in c]) for c in _common(source, edited))
    assert len(pairs) == longest


def _common(one, other):
    """All common subsequences, by brute force."""
    if not one or not other:
        return {""}
    found = _common(one[1:], other) | _common(one, other[1:])
    return found | ({one[0] + rest for rest in _common(one[1:], other[1:])} if one[0] == other[0] else set())


def sources(mapping) -> list[dict[int, float]]:
    """For each token of the edit: source positions and their weights."""
    return [{int(i): round(float(column[i]), 4) for i in np.nonzero(column)[0]} for column in mapping.matrix.T]


def test_the_same_prompt_maps_to_itself(tokenizer):
    for replace in (True, False):
        mapping = token_map(tokenizer, "a red ball", "a red ball", replace=replace)
        np.testing.assert_array_equal(mapping.matrix, np.eye(LENGTH))
        assert mapping.known.all()


def test_refinement_takes_what_both_prompts_have(tokenizer):
    # start a red ball on grass end | start a red ball on wet sand end
    mapping = token_map(tokenizer, "a red ball on grass", "a red ball on wet sand", replace=False)
    assert mapping.known.tolist() == [True] * 5 + [False] * 2 + [True] * 5
    expected = [{0: 1}, {1: 1}, {2: 1}, {3: 1}, {4: 1}, {}, {}, {6: 1}, {7: 1}, {8: 1}, {9: 1}, {10: 1}]
    assert sources(mapping) == expected


def test_replacement_hands_on_what_stood_in_the_same_place(tokenizer):
    one_to_one = token_map(tokenizer, "a red ball on grass", "a blue ball on grass", replace=True)
    np.testing.assert_array_equal(one_to_one.matrix, np.eye(LENGTH))
    assert one_to_one.known.all()
    one_to_two = token_map(tokenizer, "a red ball on grass", "a red ball on wet sand", replace=True)
    assert sources(one_to_two)[5:7] == [{5: 0.5}, {5: 0.5}] and one_to_two.known.all()
    two_to_one = token_map(tokenizer, "a red ball on wet sand", "a red ball on grass", replace=True)
    assert sources(two_to_one)[5] == {5: 1, 6: 1}
    assert two_to_one.known.tolist() == [True] * 11 + [False]  # one more padding than the source has


def test_words_that_are_added_have_nothing_to_replace(tokenizer):
    mapping = token_map(tokenizer, "a ball on grass", "a red ball on grass", replace=True)
    assert mapping.known.tolist() == [True, True, False] + [True] * 9
    assert sources(mapping)[3] == {2: 1}


def test_a_prompt_that_is_cut(tokenizer):
    with pytest.warns(UserWarning, match="cut off"):
        mapping = token_map(tokenizer, "a red ball on grass", "a a a a a a a a a a a a a", replace=False)
    assert mapping.matrix.shape == (LENGTH, LENGTH) and mapping.known[[0, 11]].all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("red", [2]), ("RED  ", [2]), ("ball", [3, 5]), ("red ball", [2, 3]), ("ox", [6, 7]), ("a", [1])],
)
def test_word_tokens(tokenizer, words, expected):
    assert word_tokens(tokenizer, "A red ball on ball ox", words) == expected


@pytest.mark.parametrize("words", ["bal", "blue", "ball red", ""])
def test_a_word_that_is_not_there(tokenizer, words):
    with pytest.raises(UserError, match=r"is not in the prompt 'a red ball'; expected a word of it"):
        word_tokens(tokenizer, "a red ball", words)
