"""Mistakes and warnings, as the page tells them."""

import warnings

import pytest

gr = pytest.importorskip("gradio")

from vrwkv_jax.studio.said import messages_for_the_page, says_mistakes  # noqa: E402 - needs gradio
from vrwkv_jax.system.errors import UserError, setting  # noqa: E402


def test_a_mistake_is_its_sentence_and_no_markup():
    @says_mistakes
    def handler(name: str) -> None:
        raise UserError(f"{name} is not there: check {setting('edit_prompts', 3)}")

    with messages_for_the_page(), pytest.raises(gr.Error) as error:
        handler("<b>x\x1b[31m")
    assert error.value.message == r"&lt;b&gt;x\x1b[31m is not there: check edit prompts"
    assert not error.value.print_exception and error.value.__suppress_context__


def test_defects_stay_what_they_are():
    with pytest.raises(ZeroDivisionError):
        says_mistakes(lambda: 1 / 0)()


def test_warnings_go_to_the_page_once_and_nowhere_else(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, title: told.append(message))

    @says_mistakes
    def handler() -> str:
        for _ in range(2):
            warnings.warn("it is HDR <really>", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return "done"

    with messages_for_the_page():
        assert handler() == "done"
        assert handler() == "done"  # again, though from the same line
    assert told == ["it is HDR &lt;really&gt;"] * 2


def test_other_warnings_are_shown_as_before():
    with pytest.warns(UserWarning, match="of the server"), messages_for_the_page():
        warnings.warn("of the server", stacklevel=1)
