"""Edited clips measured against their source, frame by frame: of each frame only some numbers are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vrwkv_jax.checkpoint.vision_files import CLIP, Affine, ImageModel
from vrwkv_jax.evaluation.cuts import find_cuts
from vrwkv_jax.evaluation.embedding import BATCH, Vectors, clip_embedder, dino_embedder, embed_text
from vrwkv_jax.evaluation.figures import EditSeries, Report, Series, report
from vrwkv_jax.evaluation.optical_flow import LEAST_SIDE, correspondence, opencv, warp_differences
from vrwkv_jax.evaluation.over_time import difference_sums, second_difference
from vrwkv_jax.media.frames import Frame, check_lengths, read_together
from vrwkv_jax.media.mask_frames import stream_mask
from vrwkv_jax.system.errors import UserError, printable, setting
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.typing import Bool, Float


@dataclass(frozen=True)
class MaskFile:
    """A picture or a clip, read as masks are everywhere here."""

    path: Path
    chooses_what_is_kept: bool
    """Whether it chooses what should not change, rather than what may."""


@dataclass(frozen=True)
class EditedClip:
    path: Path
    prompt: str | None = None
    """Under which it was edited."""
    mask: MaskFile | None = None


@dataclass(frozen=True)
class Models:
    """The weights that there are."""

    clip: CLIP | None = None
    dino: ImageModel | None = None
    aesthetic: Affine | None = None


@dataclass(frozen=True)
class Measured:
    frames: int
    width: int
    height: int
    cuts: list[int] | None
    """The first frames behind cuts in the source; None where cuts were not looked for."""
    reports: list[Report]
    """Of each edit."""


def measure(
    source: Path,
    edits: Sequence[EditedClip],
    *,
    source_prompt: str | None = None,
    models: Models = Models(),
    reporter: Reporter = SILENT,
) -> Measured:
    """All figures of ``edits`` of one ``source``, which is read once; docs/metrics.md says what each figure is.

    Raises:
        UserError: a clip or a mask can't be read, or they differ in size or in their numbers of frames; or the
            aesthetic score is asked for without CLIP, or with one of another width.
    """
    _check_aesthetic(models)
    paths = [source, *(edit.path for edit in edits)]
    total = check_lengths(paths)
    first = next(read_together(paths))
    height, width = first[0].shape[:2]
    has_flow = opencv() is not None and min(height, width) >= LEAST_SIDE
    meters = [_EditMeter(edit, source_prompt, models, (height, width), total) for edit in edits]
    original = _Meter(Series(), models)
    whole_errors: list[float] = []  # of the source's pairs, over the whole picture
    frames = 0
    with reporter.stage("measuring", total, unit="frame") as advance:
        for moment in _batches(read_together(paths)):
            original.embed([clips[0] for clips in moment])
            for number, meter in enumerate(meters, start=1):
                meter.embed_edit([clips[number] for clips in moment], original)
            for clips in moment:
                before = original.before
                flow = correspondence(before[-1], clips[0]) if has_flow and before else None
                if flow is not None:
                    whole_errors.append(float(warp_differences(before[-1], clips[0], flow.places).mean()))
                places = None if flow is None else (flow.places, flow.visible)
                for meter, clip in zip(meters, clips[1:], strict=True):
                    meter.add_edit(clip, clips[0], original, places)
                original.add(clips[0], places)
                frames += 1
                advance()
    cuts = find_cuts(np.array(whole_errors)) if has_flow else np.zeros(frames - 1, bool)
    reports = [report(original.series, meter.edit, cuts, meter.missing | _no_flow(height, width)) for meter in meters]
    found = [int(index) + 1 for index in np.flatnonzero(cuts)] if has_flow else None
    return Measured(frames, width, height, found, reports)


def _no_flow(height: int, width: int) -> dict[str, str]:
    if opencv() is None:
        return {"warp_error": "it needs OpenCV: pip install 'vrwkv-jax[metrics]'; without it cuts aren't found, either"}
    if min(height, width) < LEAST_SIDE:
        return {
            "warp_error": f"optical flow, by which cuts are found, too, needs sides of {LEAST_SIDE} pixels, and these "
            f"are {width}x{height}"
        }
    return {}


def _check_aesthetic(models: Models) -> None:
    if models.aesthetic is None:
        return
    flag = setting("aesthetic")
    if models.clip is None:
        raise UserError(f"{flag} scores the image features of CLIP: name its weights with {setting('clip')}")
    if len(models.aesthetic[0]) != models.clip.image.width:
        raise UserError(
            f"{flag} is for image features of {len(models.aesthetic[0])} numbers, and those of {setting('clip')} have "
            f"{models.clip.image.width}: LAION's is for CLIP ViT-L/14, openai/clip-vit-large-patch14"
        )


def _batches(moments: Iterator[list[Frame]]) -> Iterator[list[list[Frame]]]:
    while batch := list(islice(moments, BATCH)):
        yield batch


Vector = Float[np.ndarray, " P"]
Places = tuple[Float[np.ndarray, "H W 2"], Bool[np.ndarray, "H W"]]


class _Meter:
    """What is measured of one clip by itself. ``before`` are the last two frames, or fewer at the beginning."""

    def __init__(self, series: Series, models: Models):
        self.series, self._models = series, models
        self.before: list[Frame] = []
        self.vectors: Vectors | None = None
        """Those of CLIP for the batch."""
        self._clip = clip_embedder(models.clip) if models.clip else None
        self._dino = dino_embedder(models.dino) if models.dino else None
        self._last: dict[str, Vectors] = {}

    def embed(self, frames: Sequence[Frame]) -> None:
        if self._clip is not None:
            self.vectors = self._clip(frames)
            self.series.clip_pairs += self._cosines("clip", self.vectors)
            if self._models.aesthetic is not None:
                weight, bias = self._models.aesthetic
                self.series.aesthetic += list(self.vectors @ weight + bias)
        if self._dino is not None:
            self.series.dino_pairs += self._cosines("dino", self._dino(frames))

    def _cosines(self, name: str, vectors: Vectors) -> list[float]:
        """Of each frame with the one before."""
        joined = np.concatenate([self._last.get(name, vectors[:0]), vectors])
        self._last[name] = vectors[-1:]
        return list((joined[1:] * joined[:-1]).sum(axis=-1))

    def add(self, frame: Frame, places: Places | None) -> None:
        """``places`` say where the frame's pixels were before, and which of them were to be seen."""
        self.series.means.append(frame.mean(axis=(0, 1), dtype=np.float64))
        if len(self.before) == 2:
            self.series.second_differences.append(second_difference(self.before[0], self.before[1], frame))
        if places is not None:
            errors = warp_differences(self.before[-1], frame, places[0])[places[1]]
            self.series.warp_errors.append(float(errors.mean()) if len(errors) else np.nan)
        self.before = [*self.before[-1:], frame]


class _EditMeter(_Meter):
    """What is measured of an edit beside its source."""

    def __init__(self, clip: EditedClip, source_prompt: str | None, models: Models, size: tuple[int, int], frames: int):
        self.edit = EditSeries()
        super().__init__(self.edit, models)
        self.missing: dict[str, str] = {}
        """Names of figures that there can't be, and why."""
        self._text: Vector | None = None
        self._direction: Vector | None = None
        self._prepare_texts(clip.prompt, source_prompt)
        self._mask = None if clip.mask is None else _kept_places(clip.mask, size, frames)
        if self._mask is None:
            for name in ("kept_psnr", "kept_ssim"):
                self.missing[name] = f"name a mask of what should not change with {setting('keep')}"

    def _prepare_texts(self, prompt: str | None, source_prompt: str | None) -> None:
        models, missing = self._models, self.missing
        if models.dino is None:
            missing["object_consistency"] = f"name the weights of DINO with {setting('dino')}"
        if models.aesthetic is None:
            missing["aesthetic"] = f"name LAION's file with {setting('aesthetic')}, beside {setting('clip')}"
        if models.clip is None:
            for name in ("clip_text", "clip_frame", "clip_directional"):
                missing[name] = f"name the weights of CLIP with {setting('clip')}"
        elif models.clip.text is None:
            for name in ("clip_text", "clip_directional"):
                missing[name] = f"the weights of {setting('clip')} have no text half: name a whole CLIPModel"
        elif not prompt:
            for name in ("clip_text", "clip_directional"):
                missing[name] = f"give the prompt of the edit with {setting('prompt')}"
        else:
            self._text = embed_text(models.clip, prompt)
            if not source_prompt:
                missing["clip_directional"] = f"say what the source shows with {setting('source_prompt')}"
            elif source_prompt == prompt:
                missing["clip_directional"] = "the prompts of source and edit are the same"
            else:
                self._direction = _unit(self._text - embed_text(models.clip, source_prompt))

    def embed_edit(self, frames: Sequence[Frame], source: _Meter) -> None:
        self.embed(frames)
        if self._text is None or self.vectors is None or source.vectors is None:
            return
        self.edit.text += list(self.vectors @ self._text)
        self.edit.source_text += list(source.vectors @ self._text)
        if self._direction is not None:
            self.edit.directions += list(_unit(self.vectors - source.vectors) @ self._direction)

    def add_edit(self, frame: Frame, source: Frame, original: _Meter, places: Places | None) -> None:
        if self.before:
            sums = difference_sums((original.before[-1], source), (self.before[-1], frame))
            self.edit.differences.append(sums)
        if self._mask is not None:
            self.edit.kept.add(frame, source, next(self._mask))
        self.add(frame, places)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Of length 1; what has none, such as the change of a frame that did not change, stays 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def _kept_places(mask: MaskFile, size: tuple[int, int], frames: int) -> Iterator[Bool[np.ndarray, "H W"]]:
    """What should not change in each frame; a picture holds for all of them."""
    height, width = size
    effect = "should not change" if mask.chooses_what_is_kept else "may change"
    count, places = stream_mask(mask.path, width=width, height=height, effect=effect)
    if count not in (1, frames):
        raise UserError(
            f"the mask {printable(mask.path)} has {count} frames and the clip {frames}: give one picture, or a clip "
            "with a frame for each"
        )

    def kept() -> Iterator[Bool[np.ndarray, "H W"]]:
        for chosen in places:
            here = chosen if mask.chooses_what_is_kept else ~chosen
            yield here
        while count == 1:
            yield here

    return kept()
