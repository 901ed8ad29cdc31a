"""Rows as lines, and what they say about each other."""

from typing import Any

from benchmarks import power_law
from benchmarks.gpu.cases import Case
from benchmarks.gpu.timing import Rows

Row = dict[str, Any]


def describe(case: Case, result: Rows | str) -> str:
    """A line for each row of a case."""
    name = " ".join(str(value) for key, value in case.items() if key != "tiny")
    if isinstance(result, str):
        return f"{name:60} {result}"
    return "\n".join(f"{name:60} {figures(row)}" for row in result)


def figures(row: Row) -> str:
    parts = [row[name] for name in ("phase", "cache") if name in row]
    if "ms" in row:
        parts.append(f"{row['ms']:9.3f} ms")
    if "median_ms" in row:
        parts.append(f"(median {row['median_ms']:9.3f})")
    if "share_of_floor" in row:
        parts.append(f"{row['share_of_floor']:6.1%} of the floor, {row['floor_ms']:.3f} ms")
    if "share_of_matrix_rate" in row:
        parts.append(
            f"{row['flop_per_s'] / 1e12:6.1f} TFLOP/s, {row['share_of_matrix_rate']:6.1%} of a matrix product's"
        )
    if row.get("peak_bytes") is not None:
        parts.append(f"peak {row['peak_bytes'] / 1e9:.2f} GB")
    if row.get("estimated_bytes") is not None:
        parts.append(f"estimate {row['estimated_bytes'] / 1e9:.2f} GB")
    if row.get("finite") is False:
        parts.append("NOT FINITE")
    if "stages" in row:
        stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in row["stages"].items())
        parts.append(f"{row['seconds']:.0f} s in all ({stages})")
    return "  ".join(parts)


def summary(rows: list[Row]) -> str:
    """The ratios, of those rows that there are."""
    lines = ["summary"]
    for program, peer in (("sampling", "tune-a-video sampling"), ("tuning", "tune-a-video tuning")):
        ours, theirs = of(rows, "programs", program=program, mixer="vrwkv"), of(rows, "peers", peer=peer)
        for frames in sorted(ours.keys() & theirs.keys()):
            mine, other = ours[frames]["ms"], theirs[frames]["ms"]
            lines.append(f"{program}, {frames} frames: {mine:.1f} ms, Tune-A-Video {other:.1f} ms: {mine / other:.2f}")
            peaks = [row.get("peak_bytes") for row in (ours[frames], theirs[frames])]
            if None not in peaks:
                mine, other = (peak / 1e9 for peak in peaks)
                ratio = f"{mine:.2f} GB, Tune-A-Video {other:.2f} GB: {mine / other:.2f}"
                lines.append(f"{program}, {frames} frames: {ratio}")
        for frames, row in sorted(ours.items()):
            if "share_of_matrix_rate" in row:
                share = row["share_of_matrix_rate"]
                lines.append(f"{program}, {frames} frames: {share:.1%} of a large matrix product's rate")
        lines += growths(program, ours)
    for program, mixer in dict.fromkeys((row["case"].get("program"), row["case"].get("mixer")) for row in rows):
        lines += growths(f"{program} with {mixer}", of(rows, "scaling", program=program, mixer=mixer))
    for row in rows:
        case = row["case"]
        if case["part"] == "kernels" and case["contender"] in ("mosaic", "scan"):
            shape = "x".join(map(str, case["shape"]))
            lines.append(f"Bi-WKV {case['contender']} {shape} {row['phase']}: {row['share_of_floor']:.1%} of the floor")
        if case["part"] == "job":
            lines.append(f"the whole job, {case['frames']} frames, {row['cache']}: {row['seconds']:.0f} s")
    return "\n  ".join(lines)


def of(rows: list[Row], part: str, **wanted: Any) -> dict[int, Row]:
    """The rows of ``part`` with those settings, by their number of frames."""
    return {row["case"]["frames"]: row for row in rows if {"part": part, **wanted}.items() <= row["case"].items()}


def growths(what: str, by_frames: dict[int, Row]) -> list[str]:
    """How time and measured memory grow, where two numbers of frames say so."""
    lines = []
    for value, name in (("ms", "milliseconds grow"), ("peak_bytes", "peak memory grows")):
        known = {frames: row[value] for frames, row in sorted(by_frames.items()) if row.get(value)}
        if len(known) > 1:
            slope = power_law.exponent(list(known), list(known.values()))
            lines.append(f"{what}: {name} as frames to the power of {slope:.2f}")
    return lines
