"""The loss of a tuning as a picture that a page draws by itself."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 22
MOST = 400
"""Points that are drawn."""


def loss_curve(losses: Sequence[tuple[int, float]], steps: int) -> str:
    """An SVG of the losses (step, loss), thin as they are and bold as their running mean; ``steps`` are all there will
    be. Empty where there are none."""
    losses = [(step, loss) for step, loss in losses if 0 <= loss < float("inf")]
    if not losses:
        return ""
    smooth = _smoothed(losses, share=max(len(losses) / 20, 1))
    thinned = slice(None, None, -(-len(losses) // MOST))
    top = max(loss for _, loss in losses) or 1.0
    last = max(steps, losses[-1][0])
    x0, x1, y0, y1 = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP

    def points(values: Sequence[tuple[int, float]]) -> str:
        return " ".join(
            f"{x0 + (x1 - x0) * step / last:.1f},{y0 - (y0 - y1) * loss / top:.1f}" for step, loss in values
        )

    grid = "".join(
        f'<line x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(f"{top * share:.2g}")}</text>'
        for share in (0, 0.5, 1)
        for y in [y0 - (y0 - y1) * share]
    )
    return (
        f'<svg class="loss" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="loss {smooth[-1][1]:.3g} after {losses[-1][0]} steps">{grid}'
        f'<text x="{x0}" y="{HEIGHT - 5}">0</text><text x="{x1}" y="{HEIGHT - 5}" text-anchor="end">step {last}</text>'
        f'<text x="{(x0 + x1) / 2}" y="{HEIGHT - 5}" text-anchor="middle">loss</text>'
        f'<polyline class="raw" points="{points(losses[thinned])}"/>'
        f'<polyline class="smooth" points="{points(smooth[thinned])}"/></svg>'
    )


def _smoothed(losses: Sequence[tuple[int, float]], share: float) -> list[tuple[int, float]]:
    """The mean of the losses before each, by weights that fall by 1/e over ``share`` steps."""
    total = weight = 0.0
    keep = 1 - 1 / (share + 1)
    found = []
    for step, loss in losses:
        total, weight = total * keep + loss, weight * keep + 1
        found.append((step, total / weight))
    return found
