"""Words on pictures: their letters, their lines, their colours."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
GAP = 8  # pixels between pictures


@cache
def letters(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from matplotlib's own data: the same letters on every machine, Greek and Cyrillic included."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    return sum(font.getmetrics())


def text_height(texts: Sequence[list[str]], font: ImageFont.FreeTypeFont) -> int:
    """The height of a strip that holds the longest of several texts, given as lines."""
    return max(len(lines) for lines in texts) * _line_height(font) + GAP


def write(
    picture: Image.Image,
    corner: tuple[int, int],
    lines: list[str],
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
) -> None:
    left, top = corner
    for number, line in enumerate(lines):
        where = (left, top + GAP // 2 + number * _line_height(font))
        ImageDraw.Draw(picture).text(where, line, fill=colour, font=font)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Break a text into at most ``lines`` lines of ``width`` pixels, between words if it can; "…" marks what is cut."""

    def fits(line: str) -> bool:
        return font.getlength(line) <= width

    done: list[str] = []
    line = ""
    for word in text.split():
        if fits(f"{line} {word}".strip()):
            line = f"{line} {word}".strip()
            continue
        if line:
            done.append(line)
        while len(word) > 1 and not fits(word):  # longer than a line: cut where the line ends
            cut = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or fits(word[:n]))
            done.append(word[:cut])
            word = word[cut:]
        line = word
    done.append(line)
    if len(done) > lines:
        last = done[lines - 1]
        while last and not fits(last + "…"):
            last = last[:-1]
        done = [*done[: lines - 1], last.rstrip() + "…"]
    return done
