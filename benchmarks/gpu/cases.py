"""What is measured: every case is one process and one or more rows."""

from typing import Any

from benchmarks.rivals import RIVALS

Case = dict[str, Any]
PARTS = ("kernels", "programs", "peers", "job", "scaling")
SECONDS = {"kernels": 150, "programs": 240, "peers": 120, "job": 240, "scaling": 240}
"""A case's limit, its wait for a turn not counted."""

# Of B, T, C: the tokens of 32 frames (two rows of 16), and the frames of 65,536 places.
SHAPES = [(32, 4096, 320), (65536, 16, 320)]
CONTENDERS = ("mosaic", "scan", "associative_scan", "attention")


def cases(parts: list[str], tiny: bool) -> list[Case]:
    """The cases of ``parts``, the more important first: those of 16 frames before others, ``scaling`` last."""
    made = {"kernels": kernels, "programs": programs, "peers": peers, "job": job, "scaling": scaling}
    found = [{"part": part, "tiny": tiny, **case} for part in parts for case in made[part](tiny)]
    first = 2 if tiny else 16
    return sorted(found, key=lambda case: (case["part"] == "scaling", case.get("frames", first) != first))


def kernels(tiny: bool) -> list[Case]:
    shapes = [(2, 80, 64), (48, 3, 64)] if tiny else SHAPES
    contenders = CONTENDERS[1:] if tiny else CONTENDERS
    return [{"shape": list(shape), "contender": contender} for contender in contenders for shape in shapes]


def programs(tiny: bool) -> list[Case]:
    few, many = ([2], [2, 3]) if tiny else ([16], [8, 16, 32, 64, 128])
    names = ["inversion", "controlled", "null text", "vae encode", "vae decode"]
    first = [(name, frames, "vrwkv") for frames in many for name in ("sampling", "tuning")]
    first += [(name, frames, "none") for frames in few for name in ("sampling", "tuning")]
    first += [(name, frames, "vrwkv") for frames in few for name in names]
    rest = [(name, frames, "vrwkv") for frames in many for name in names if frames not in few]
    return [
        {"program": name, "frames": frames, "mixer": mixer}
        for name, frames, mixer in first + rest[: 0 if tiny else None]
    ]


def peers(tiny: bool) -> list[Case]:
    few, many = ([2], [2]) if tiny else ([16], [16, 8, 32])
    found = [
        {"peer": peer, "frames": frames} for frames in many for peer in ("tune-a-video sampling", "tune-a-video tuning")
    ]
    return [*found, *({"peer": "image", "frames": frames} for frames in few)]


def job(tiny: bool) -> list[Case]:
    return [{"frames": 2 if tiny else 16, "steps": 2 if tiny else 50, "sampling_steps": 2 if tiny else 20}]


def scaling(tiny: bool) -> list[Case]:
    """Whole steps with the mixers that ``programs`` has not, those of few frames first."""
    return [
        {"program": program, "frames": frames, "mixer": mixer}
        for frames in ([2] if tiny else [16, 8, 32, 64, 128])
        for mixer in RIVALS
        for program in ("sampling", "tuning")
        if mixer not in ("vrwkv", "none")
    ]
