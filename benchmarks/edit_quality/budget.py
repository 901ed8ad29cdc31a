"""What edits cost: flags of ``python -m train.tune`` that make them cheaper, and their quality against that."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Row = dict[str, Any]
ALONE = (
    *(f"--num-inference-steps {n}" for n in (8, 10, 12, 16)),
    *(f"--inversion-iterations {n}" for n in (1, 2)),
    *(f"--inversion-tolerance {share}" for share in (0.1, 0.2)),
    *(f"--cache-interval {n}" for n in (2, 3, 5)),
    *(f"--cache-interval {n} --cache-until 0.8" for n in (3, 5)),
    *(f"--guidance-interval {start} {stop}" for start, stop in ((0, 0.5), (0, 0.75), (0, 0.9), (0.2, 1))),
    *(f"--num-inference-steps 10 --sampler {name}" for name in ("dpm++", "dpm++3m", "unipc", "bdia")),
    "--sampler bdia",
    *(f"--cross-attention {words} --features {features}" for words, features in ((0.4, 0.4), (0.6, 0.4), (0.8, 0.6))),
)
TOGETHER = tuple(
    f"--num-inference-steps {n} --inversion-tolerance 0.2 --guidance-interval 0 0.75 --cache-interval {interval}"
    for n in (8, 10, 12, 16, 20)
    for interval in (1, 2)
)
PRESETS = tuple(f"--preset {name}" for name in ("fast", "balanced", "quality"))
FULL = "--preset quality --inversion-tolerance 0 --guidance-interval 0 1"
"""What edits cost before there were presets."""
WAYS = (FULL, *PRESETS, *(f"{FULL} {flags}" for flags in (*ALONE, *TOGETHER)))
"""What ``--budget`` tries where it names none."""
FIGURES = {"psnr": "PSNR, dB", "unchanged_psnr": "unchanged, dB", "path_error": "path error, px", "flicker": "flicker"}
LESS_IS_BETTER = ("path_error", "flicker")


def frontier(rows: list[Row], figure: str, cost: str) -> list[Row]:
    """Those than which no other is both cheaper and better, cheapest first. Rows are those of ``summary``."""
    sign = -1 if figure in LESS_IS_BETTER else 1

    def value(row: Row, name: str) -> float:
        return float(row["figures"][name]["mean"])

    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (value(row, cost), -sign * value(row, figure))):
        if not best or sign * value(row, figure) > sign * value(best[-1], figure):
            best.append(row)
    return best


def draw(path: Path, table: list[Row]) -> None:
    """Each figure against row-calls and against seconds, of all edits by each way, and the frontier."""
    rows = [row for row in table if row["group"] == "all" and "row_calls" in row["figures"]]
    figure = Figure(figsize=(5 * len(FIGURES), 9), layout="constrained")
    panels = figure.subplots(2, len(FIGURES))
    for of_cost, (cost, unit) in zip(panels, {"row_calls": "row-calls", "seconds": "seconds"}.items(), strict=True):
        for axes, (name, label) in zip(of_cost, FIGURES.items(), strict=True):
            at = {row["controls"]: (row["figures"][cost]["mean"], row["figures"][name]["mean"]) for row in rows}
            ways = {way: place for way, place in at.items() if way not in (FULL, *PRESETS)}
            axes.plot(*zip(*ways.values(), strict=True), ".", color="0.6", label="other settings")
            best = [at[row["controls"]] for row in frontier(rows, name, cost)]
            axes.step(*zip(*best, strict=True), where="post", color="0.6", linewidth=1)
            for way, said in {FULL: "before presets", **{way: way.split()[-1] for way in PRESETS}}.items():
                if way in at:
                    axes.plot(*at[way], "o", label=said)
            axes.set_xlabel(f"{unit} of an inversion and an edit")
            axes.set_ylabel(label)
            if name in LESS_IS_BETTER:
                axes.invert_yaxis()
            axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
