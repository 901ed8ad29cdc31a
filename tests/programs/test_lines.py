"""The mixers do not make programs much longer: what compiles long is waited for at every first edit."""

import pytest

from benchmarks.compile_time import measure, ratios

MOST = {"sampling": 1.5, "tuning": 1.7}  # with mixers over without: 13 mixers beside 16 transformers and 22 resnets


@pytest.mark.parametrize("program", [pytest.param("sampling", marks=pytest.mark.long), "tuning"])
def test_lines(program):
    rows = [measure(program, mixer, 16, "sm_90", None) for mixer in ("none", "vrwkv")]
    (ratio,) = ratios(rows)
    assert 1 < ratio["lines"] <= MOST[program]
