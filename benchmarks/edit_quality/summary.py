"""The rows of all edits as one table, and as a picture of the best and the worst."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import t

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
                middle = np.median if name == "seconds" else np.mean
                figures[name] = {"mean": float(middle(values)), "half_interval": _half_interval(values, 1.96)}
        result.append(
            {"method": method, "controls": controls, "group": group, "edits": len(scores), "figures": figures}
        )
    return result


def differences(rows: list[dict[str, Any]], by: Literal["method", "controls"], reference: str) -> list[dict[str, Any]]:
    """Per method and controls: each figure less that of the ``reference``, a method or controls, for the same edit;
    averaged over each clip's edits and then over clips, with half a 95 % confidence interval (Student's t over clips,
    whose edits are alike).
    """
    same = ("controls" if by == "method" else "method", "clip", "group")
    its = {tuple(row[name] for name in same): row["score"] for row in rows if row[by] == reference}
    of_methods: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = {}
    for row in rows:
        beside = its.get(tuple(row[name] for name in same))
        if row[by] == reference or beside is None:
            continue
        figures = of_methods.setdefault((row["method"], row["controls"]), {})
        for name, score in row["score"].items():
            if score is not None and beside[name] is not None and name != "seconds":  # the first edit compiles
                figures.setdefault(name, {}).setdefault(row["clip"], []).append(score - beside[name])
    result = []
    for (method, controls), found in sorted(of_methods.items()):
        means = {name: [float(np.mean(of_clip)) for of_clip in of_clips.values()] for name, of_clips in found.items()}
        figures = {
            name: {"mean": float(np.mean(x)), "half_interval": _half_interval(x, float(t.ppf(0.975, len(x) - 1)))}
            for name, x in means.items()
        }
        clips = max(map(len, means.values()))
        result.append({"method": method, "controls": controls, "less": reference, "clips": clips, "figures": figures})
    return result


def _half_interval(values: list[float], quantile: float) -> float | None:
    """So many standard errors of the mean; None: a single value has none."""
    return float(quantile * np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def show(table: list[dict[str, Any]]) -> None:
    """Prints a ``summary``, or ``differences``."""
    names = list(dict.fromkeys(name for row in table for name in row["figures"]))
    print(f"{'':28}{'':19}{'':18}{'n':>4}" + "".join(f"{name:>16}" for name in names))
    for row in table:
        cells = []
        for name in names:
            figure = row["figures"].get(name)
            half = "" if not figure or figure["half_interval"] is None else f" ±{figure['half_interval']:.2f}"
            cells.append(f"{figure['mean']:.2f}{half}" if figure else "-")
        print(
            f"{row['method']:28}{row['controls']:19}{row.get('group', 'all'):18}{row.get('edits', row.get('clips')):>4}"
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
