"""Power laws through the figures, as a table and as a picture."""

import itertools
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.power_law import exponent

Row = dict[str, Any]


def exponents(rows: list[Row], keys: tuple[str, ...], value: str, size: str) -> list[Row]:
    """For all rows that share ``keys``: the exponent of ``value`` in ``size``, where there are two sizes at least."""
    found = []
    has = sorted((row for row in rows if row.get(value)), key=lambda row: [str(row[key]) for key in keys])
    for of_group, members in itertools.groupby(has, key=lambda row: [row[key] for key in keys]):
        by_size = {row[size]: row[value] for row in members}
        if len(by_size) > 1:
            sizes = sorted(by_size)
            named = dict(zip(keys, of_group, strict=True))
            of_places = [s**2 for s in sizes] if size == "pixels" else sizes
            fitted = exponent(of_places, [by_size[s] for s in sizes])
            found.append({**named, "exponent_of": value, "in": size, "exponent": fitted, "sizes": sizes})
    return found


def all_exponents(layers: list[Row], steps: list[Row]) -> list[Row]:
    place, step = ("device", "layer", "level"), ("gpu", "method", "program")
    return [
        *exponents(layers, (*place, "pixels"), "ms", "frames"),
        *exponents(layers, (*place, "pixels"), "compiled_bytes", "frames"),
        *exponents(layers, (*place, "pixels"), "operations", "frames"),
        *exponents(layers, (*place, "frames"), "ms", "pixels"),
        *exponents(layers, (*place, "frames"), "compiled_bytes", "pixels"),
        *exponents(layers, (*place, "frames"), "operations", "pixels"),
        *exponents(steps, (*step, "pixels"), "bytes", "frames"),
        *exponents(steps, (*step, "frames"), "bytes", "pixels"),
    ]


def table(layers: list[Row], steps: list[Row]) -> str:
    lines = []
    for (device, level, pixels), members in _grouped(layers, ("device", "level", "pixels")):
        channels = members[0]["channels"]
        lines.append(f"layer at level {level}, {pixels} x {pixels} pixels, {channels} channels, on {device}: ms")
        lines += _by_frames(members, "layer", "ms", lambda row: f"{row['ms']:.1f}" if "ms" in row else "-")
        lines.append("  operations, GFLOP")
        lines += _by_frames(members, "layer", "operations", lambda row: f"{row['operations'] / 1e9:.1f}")
        for row in members:
            if "ms_by_shares" in row:
                ratio = row["ms_by_shares"] / row["ms"]
                lines.append(f"  {row['layer']}, {row['frames']} frames, by shares of its queries: {ratio:.2f} of that")
    for (gpu, program, pixels), members in _grouped(steps, ("gpu", "program", "pixels")):
        lines.append(f"a step of {program}, {pixels} x {pixels} pixels, {gpu}, compiled: GB")
        lines += _by_frames(members, "method", "bytes", lambda row: f"{row['bytes'] / 1e9:.2f}")
    in_places = [row for row in all_exponents(layers, steps) if row["in"] == "pixels"]
    if in_places:
        lines.append("exponents in the number of places, over all levels and numbers of frames")
    for (_, of, name), members in _grouped(
        [row | {"name": row.get("layer") or row["method"], "on": _on(row)} for row in in_places],
        ("on", "exponent_of", "name"),
    ):
        found = sorted(row["exponent"] for row in members)
        lines.append(f"  {name:26}{of:16}{found[0]:>8.2f} to {found[-1]:.2f}  {_on(members[0])}")
    return "\n".join(lines)


def _on(row: Row) -> str:
    """What a figure is of: a layer on a device, or a program compiled for a GPU."""
    return f"a layer, {row['device']}" if "layer" in row else f"{row['program']}, {row['gpu']}"


def _grouped(rows: list[Row], keys: tuple[str, ...]) -> Any:
    ordered = sorted(rows, key=lambda row: [str(row[key]) for key in keys])
    return [(of, list(members)) for of, members in itertools.groupby(ordered, lambda row: [row[k] for k in keys])]


def _by_frames(rows: list[Row], name: str, value: str, cell: Any) -> list[str]:
    frames = sorted({row["frames"] for row in rows})
    lines = [f"  {'frames':26}" + "".join(f"{count:>12}" for count in frames) + f"{'exponent':>12}"]
    for method in dict.fromkeys(row[name] for row in rows):
        own = {row["frames"]: row for row in rows if row[name] == method}
        known = {f: row[value] for f, row in own.items() if row.get(value)}
        fitted = f"{exponent(list(known), list(known.values())):.2f}" if len(known) > 1 else "-"
        cells = "".join(f"{cell(own[f]) if f in own else '-':>12}" for f in frames)
        lines.append(f"  {method:26}{cells}{fitted:>12}")
    return lines


def draw(path: Path, layers: list[Row], steps: list[Row]) -> None:
    """Time of a layer and memory of a step over the frames, on logarithmic axes, for the largest pictures there are.

    Of several devices, the one that was measured last.
    """
    layers, steps = (
        [row for row in rows if row[of] == rows[-1][of]] for rows, of in ((layers, "device"), (steps, "gpu"))
    )
    panels = [
        (f"One layer, {rows[0]['pixels']} x {rows[0]['pixels']} pixels, first level", "ms", "layer", rows)
        for rows in [_largest([row for row in layers if row["level"] == 0 and row.get("ms")])]
        if rows
    ]
    for program in dict.fromkeys(row["program"] for row in steps):
        rows = _largest([row for row in steps if row["program"] == program])
        panels.append(
            (f"A step of {program}, compiled, {rows[0]['pixels']} x {rows[0]['pixels']}", "bytes", "method", rows)
        )
    if not panels:
        return
    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    for axes, (title, value, name, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for method in dict.fromkeys(row[name] for row in rows):
            own = sorted((row["frames"], row[value]) for row in rows if row[name] == method)
            scale = 1e-9 if value == "bytes" else 1.0
            axes.loglog([f for f, _ in own], [scale * v for _, v in own], marker="o", label=method)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("frames")
        axes.set_ylabel({"ms": "milliseconds", "bytes": "GB"}[value])
        ticks = sorted({row["frames"] for row in rows})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _largest(rows: list[Row]) -> list[Row]:
    pixels = max((row["pixels"] for row in rows), default=0)
    return [row for row in rows if row["pixels"] == pixels]
