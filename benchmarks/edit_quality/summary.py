"""The rows of all edits as one table, and as a picture of the best and the worst."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax.media.pictures import contact_sheet


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per method, controls and group of edits: how many, and each figure's mean and half 95 % confidence interval.

    Of seconds the median, for what comes first compiles.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        names = (row["group"],) if row["method"] == "reconstruct" else (row["group"], "all")
        for name in names:
            groups.setdefault((row["method"], row["controls"], name), []).append(row["score"])
    result = []
    for (method, controls, group), scores in sorted(groups.items()):
        figures = {}
        for name in scores[0]:
            values = [s[name] for s in scores if s[name] is not None]
            if values:
                half = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
                middle = np.median if name == "seconds" else np.mean
                figures[name] = {"mean": float(middle(values)), "half_interval": half and float(half)}
        result.append(
            {"method": method, "controls": controls, "group": group, "edits": len(scores), "figures": figures}
        )
    return result


def show(table: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in table for name in row["figures"]))
    print(f"{'':28}{'':19}{'':18}{'n':>4}" + "".join(f"{name:>16}" for name in names))
    for row in table:
        cells = []
        for name in names:
            figure = row["figures"].get(name)
            half = "" if not figure or figure["half_interval"] is None else f" ±{figure['half_interval']:.2f}"
            cells.append(f"{figure['mean']:.2f}{half}" if figure else "-")
        print(
            f"{row['method']:28}{row['controls']:19}{row['group']:18}{row['edits']:>4}"
            + "".join(f"{cell:>16}" for cell in cells)
        )


def sheet(directory: Path, rows: list[dict[str, Any]]) -> np.ndarray:
    """Source, truth and result of the best, median and worst edit, by PSNR against the truth, where there is."""
    ranked = sorted((row for row in rows if row["score"]["psnr"] is not None), key=lambda row: -row["score"]["psnr"])
    labelled = {}
    for name, row in zip(("best", "median", "worst"), (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True):
        with np.load(directory / row["file"]) as clips:
            labelled |= {
                f"{name}: source, {row['prompt']}": clips["source"],
                f"{name}: true edit to {row['edit_prompt']}": clips["truth"],
                f"{name}: edited, {row['score']['psnr']:.1f} dB": clips["edited"],
            }
    return contact_sheet(labelled)
