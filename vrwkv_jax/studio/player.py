"""A player of clips next to each other, for a page: a custom element that needs nothing from elsewhere."""

from html import escape
from importlib.resources import files

HEAD = f"<script>\n{files(__package__).joinpath('player.js').read_text(encoding='utf-8')}</script>"
"""For the head of a page: defines ``<clip-player source=URL reconstruction=URL edit=URL fps=NUMBER>``."""


def player_html(
    source_url: str, reconstruction_url: str | None = None, edit_url: str | None = None, *, fps: float = 8
) -> str:
    """The element that plays these clips together, those that there are, on a page with ``HEAD``.

    ``fps`` is what frames are counted by. The server of the URLs must answer requests for ranges, as players seek.
    """
    given = {"source": source_url, "reconstruction": reconstruction_url, "edit": edit_url, "fps": f"{fps:g}"}
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in given.items() if value is not None)
    return f"<clip-player{attributes}></clip-player>"
