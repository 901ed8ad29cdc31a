"""Frames to train on: the same however many processes draw them."""

import os

import numpy as np

from train.pretrain import data


def test_frames_do_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(data, "PART", 3)
    shared, words = data.frames(7, 32, 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone, same_words = data.frames(7, 32, 4)
    np.testing.assert_array_equal(shared, alone)
    assert words == same_words and len(words) == 7 and shared.any((1, 2, 3)).all()


def test_shares_of_the_worlds(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    textured = [
        sum("wood" in w or "gravel" in w for w in data.frames(60, 16, 1, hard=share)[1]) for share in (0.0, 1.0)
    ]
    assert textured[0] == 0 and textured[1] > 5
