"""All figures of small clips against plain formulas on whole clips, and what copies, jitter, freezing do to them."""

import gc
import re
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from tests.checkpoint.vision_models import PROJECTED, save_clip, save_clip_vision, save_dino
from tests.evaluation.clips import frozen, jittered, moving, write
from tests.media.videos import noise
from tests.runs.runs import Told
from vrwkv_jax.checkpoint.vision_files import load_aesthetic, load_clip, load_dino
from vrwkv_jax.evaluation import measure as module
from vrwkv_jax.evaluation.embedding import clip_embedder, dino_embedder, embed_text
from vrwkv_jax.evaluation.figures import TITLES
from vrwkv_jax.evaluation.measure import EditedClip, MaskFile, Models, measure
from vrwkv_jax.system.errors import UserError

CUT = 9  # the second scene begins here
LEARNED = ("clip_text", "clip_frame", "clip_directional", "object_consistency", "aesthetic")
FLOW = pytest.mark.skipif(module.opencv() is None, reason="OpenCV is optional: pip install 'vrwkv-jax[metrics]'")


def scenes():
    """Two, with a cut between them: 15 frames of 60 x 45, more than half and less than all of a batch."""
    return np.concatenate([moving(CUT), moving(6, seed=5)])


def tinted(clip, seed=3):
    """An edit with noise and another colour."""
    noisy = clip * np.array([0.7, 1.0, 0.9]) + noise(*clip.shape, seed=seed) / 12
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_clip(root / "clip")
    save_dino(root / "dino")
    torch.save({"weight": torch.linspace(-2, 3, PROJECTED)[None], "bias": torch.ones(1)}, root / "head.pth")
    head = load_aesthetic(str(root / "head.pth"))
    return Models(load_clip(str(root / "clip")), load_dino(str(root / "dino")), head)


@pytest.fixture
def files(tmp_path):
    source = scenes()
    edits = {"copy": source, "tinted": tinted(source), "jittered": jittered(source), "frozen": frozen(source)}
    clips = [EditedClip(write(tmp_path / f"{name}.mov", clip)) for name, clip in edits.items()]
    return write(tmp_path / "source.mov", source), clips


@FLOW
def test_what_becomes_of_clips_shows(files):
    source, clips = files
    measured = measure(source, clips)
    assert (measured.frames, measured.width, measured.height, measured.cuts) == (15, 60, 45, [CUT])
    copy, edit, jitter, still = (report.figures for report in measured.reports)
    for name in ("warp_error", "flicker"):
        assert copy[name].edit == copy[name].source == edit[name].source == still[name].source
    assert copy["warp_error"].edit < 0.5
    assert (copy["relative_flicker"].edit, copy["mean_jitter"].edit) == (1, 0)
    assert copy["difference_correlation"].edit == pytest.approx(1)
    assert jitter["warp_error"].edit > copy["warp_error"].edit + 5
    assert jitter["relative_flicker"].edit > 1.3
    assert jitter["mean_jitter"].edit > 5 > 1 > edit["mean_jitter"].edit
    assert 0 < jitter["difference_correlation"].edit < 0.97
    assert (still["flicker"].edit, still["relative_flicker"].edit, still["difference_correlation"].edit) == (0, 0, 0)
    assert still["warp_error"].edit > 5  # it does not go with the source's motion
    assert copy.keys() == {"warp_error", "flicker", "relative_flicker", "difference_correlation", "mean_jitter"}


@FLOW
def test_figures_without_weights_are_plain_formulas(files):
    source_file, clips = files
    report = measure(source_file, clips[1:2]).reports[0]
    source, edit = scenes(), tinted(scenes())
    parts = slice(0, CUT), slice(CUT, None)  # nothing goes across the cut

    for clip, value in ((edit, report.figures["flicker"].edit), (source, report.figures["flicker"].source)):
        seconds = [np.abs(np.diff(clip[part].astype(float), 2, axis=0)).mean((1, 2, 3)) for part in parts]
        assert value == pytest.approx(np.concatenate(seconds).mean(), rel=1e-12)
    pairs = [[np.diff(clip[part].astype(float), axis=0).ravel() for part in parts] for clip in (source, edit)]
    expected = np.corrcoef(*(np.concatenate(of_clip) for of_clip in pairs))[0, 1]
    assert report.figures["difference_correlation"].edit == pytest.approx(expected, rel=1e-9)
    offsets = edit.mean((1, 2)) - source.mean((1, 2))
    jumps = np.concatenate([np.abs(np.diff(offsets[part], axis=0)) for part in parts])
    assert report.figures["mean_jitter"].edit == pytest.approx(jumps.mean(), rel=1e-9)

    from vrwkv_jax.evaluation.optical_flow import correspondence, warp_differences

    errors = []
    for t in range(1, 15):
        flow = correspondence(source[t - 1], source[t])
        errors.append([warp_differences(c[t - 1], c[t], flow.places)[flow.visible].mean() for c in (edit, source)])
    edited, original = np.delete(errors, CUT - 1, axis=0).mean(axis=0)
    figure = report.figures["warp_error"]
    assert (figure.edit, figure.source) == (pytest.approx(edited, rel=1e-6), pytest.approx(original, rel=1e-6))


def test_learned_figures_are_cosines(files, models):
    source_file, clips = files
    edited = EditedClip(clips[1].path, "a blue disc")
    report = measure(source_file, [edited], source_prompt="a red disc", models=models).reports[0]
    assert not set(LEARNED) & report.skipped.keys()
    source, edit = (list(clip) for clip in (scenes(), tinted(scenes())))
    pairs = np.arange(14) != CUT - 1 if module.opencv() else slice(None)

    def vectors(embed, clip):
        return np.concatenate([embed(clip[:7]), embed(clip[7:])])

    def adjacent(embed, clip):
        found = vectors(embed, clip)
        return np.array([found[t] @ found[t - 1] for t in range(1, 15)])[pairs].mean()

    clip, dino = clip_embedder(models.clip), dino_embedder(models.dino)
    prompt, before = (embed_text(models.clip, text) for text in ("a blue disc", "a red disc"))
    weight, bias = models.aesthetic
    change, direction = vectors(clip, edit) - vectors(clip, source), prompt - before
    cosines = change @ direction / np.linalg.norm(change, axis=-1) / np.linalg.norm(direction)
    for name, on_edit, on_source in (
        ("clip_text", (vectors(clip, edit) @ prompt).mean(), (vectors(clip, source) @ prompt).mean()),
        ("clip_frame", adjacent(clip, edit), adjacent(clip, source)),
        ("clip_directional", cosines.mean(), None),
        ("object_consistency", adjacent(dino, edit), adjacent(dino, source)),
        ("aesthetic", (vectors(clip, edit) @ weight + bias).mean(), (vectors(clip, source) @ weight + bias).mean()),
    ):
        figure = report.figures[name]
        # float32 features of batches of another composition; the change of a frame is small beside the features
        tolerance = 1e-4 if name == "clip_directional" else 1e-5
        assert figure.edit == pytest.approx(on_edit, abs=tolerance), name
        assert figure.source == (None if on_source is None else pytest.approx(on_source, abs=tolerance)), name


@pytest.mark.parametrize("frames", [16, 17, 37])
def test_batches_are_joined(tmp_path, models, frames):
    clip = moving(frames)
    path = write(tmp_path / "clip.mov", clip)
    figures = measure(path, [EditedClip(path, "a")], models=Models(models.clip)).reports[0].figures
    embed = clip_embedder(models.clip)
    found = np.concatenate([embed([frame]) for frame in clip])
    expected = np.mean([found[t] @ found[t - 1] for t in range(1, frames)])
    assert figures["clip_frame"].edit == pytest.approx(expected, abs=1e-6)
    assert figures["clip_text"].edit == pytest.approx((found @ embed_text(models.clip, "a")).mean(), abs=1e-5)


def test_learned_figures_of_copy_and_frozen(files, models):
    source, clips = files
    edits = [EditedClip(clip.path, "a blue disc") for clip in clips]
    copy, edit, _, still = (r.figures for r in measure(source, edits, source_prompt="a", models=models).reports)
    for name in ("clip_text", "clip_frame", "object_consistency", "aesthetic"):
        assert copy[name].edit == copy[name].source
    assert copy["clip_directional"].edit == 0
    for name in ("clip_frame", "object_consistency"):  # which is why they are read beside the others
        assert still[name].edit == pytest.approx(1, abs=1e-9) and edit[name].edit < 0.999


@pytest.mark.parametrize("kept", [True, False], ids=["what is kept", "what may change"])
@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_what_should_not_change(files, tmp_path, kind, kept):
    source_file, clips = files
    keep = np.zeros((15, 45, 60), bool)
    keep[:, 10:, 20:] = True
    if kind == "clip":
        keep[5:, :, :30] = False
    painted = np.repeat(255 * (keep if kept else ~keep)[..., None], 3, axis=-1).astype(np.uint8)
    if kind == "picture":
        Image.fromarray(painted[0]).save(tmp_path / "mask.png")
        mask = tmp_path / "mask.png"
    else:
        mask = write(tmp_path / "mask.mov", painted)
    edited = EditedClip(clips[1].path, mask=MaskFile(mask, chooses_what_is_kept=kept))
    report = measure(source_file, [edited]).reports[0]
    source, edit = scenes(), tinted(scenes())
    error = np.mean((edit.astype(float) - source)[keep] ** 2)
    assert report.figures["kept_psnr"].edit == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
    values = []
    for t in range(15):
        rows, columns = (slice(int(np.flatnonzero(keep[t].any(a))[0]) + 3, -3) for a in (1, 0))
        _, full = structural_similarity(edit[t], source[t], channel_axis=-1, full=True)
        values.append(full.mean(-1)[rows, columns].ravel())
    assert report.figures["kept_ssim"].edit == pytest.approx(np.concatenate(values).mean(), abs=1e-9)


def test_a_perfect_copy_keeps_all(files, tmp_path):
    Image.new("L", (60, 45), 255).save(tmp_path / "mask.png")
    copy = EditedClip(files[0], mask=MaskFile(tmp_path / "mask.png", chooses_what_is_kept=True))
    figures = measure(files[0], [copy]).reports[0].figures
    assert figures["kept_ssim"].edit == pytest.approx(1) and figures["kept_psnr"].edit > 68


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(tmp_path, frames):
    path = write(tmp_path / "clip.mov", moving(frames))
    measured = measure(path, [EditedClip(path)])
    figures, skipped = measured.reports[0].figures, measured.reports[0].skipped
    assert figures.keys() | skipped.keys() == TITLES.keys() and not figures.keys() & skipped.keys()
    assert "flicker" in skipped and ("mean_jitter" in figures) == (frames == 2)
    assert skipped["flicker"] == "there are no three frames in a row"


def test_a_source_that_stands_still(tmp_path):
    still, moves = moving(4, step=(0, 0)), moving(4)
    paths = [write(tmp_path / f"{name}.mov", clip) for name, clip in (("still", still), ("moves", moves))]
    report = measure(paths[0], [EditedClip(paths[1])]).reports[0]
    assert report.skipped["difference_correlation"] == "the source stands still"
    assert report.skipped["relative_flicker"] == "the source stands still, or fades evenly"
    assert report.figures["flicker"].edit > report.figures["flicker"].source == 0


def test_small_frames_have_no_flow(tmp_path):
    path = write(tmp_path / "clip.mov", moving(3, 15, 40))
    measured = measure(path, [EditedClip(path)])
    assert measured.cuts is None and "warp_error" in measured.reports[0].skipped
    if module.opencv() is not None:
        assert measured.reports[0].skipped["warp_error"] == (
            "optical flow, by which cuts are found, too, needs sides of 16 pixels, and these are 40x15"
        )


def test_without_opencv(files, monkeypatch):
    monkeypatch.setattr(module, "opencv", lambda: None)
    source, clips = files
    measured = measure(source, clips[:1])
    report = measured.reports[0]
    assert measured.cuts is None and report.figures["relative_flicker"].edit == 1
    assert report.skipped["warp_error"].startswith("it needs OpenCV: pip install 'vrwkv-jax[metrics]'")


@pytest.mark.parametrize(
    ("left_out", "prompt", "source_prompt", "skipped"),
    [
        ("clip", "a", "b", {"clip_text": "CLIP with clip", "clip_frame": "CLIP with", "clip_directional": "CLIP with"}),
        ("dino", "a", "b", {"object_consistency": "name the weights of DINO with dino"}),
        ("aesthetic", "a", "b", {"aesthetic": "name LAION's file with aesthetic, beside clip"}),
        ("", None, "b", {"clip_text": "give the prompt of the edit with prompt", "clip_directional": "with prompt"}),
        ("", "a", None, {"clip_directional": "say what the source shows with source_prompt"}),
        ("", "a", "a", {"clip_directional": "the prompts of source and edit are the same"}),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(tmp_path, models, left_out, prompt, source_prompt, skipped):
    path = write(tmp_path / "clip.mov", moving(3))
    given = {name: getattr(models, name) for name in ("clip", "dino", "aesthetic") if name != left_out}
    if left_out == "clip":
        given.pop("aesthetic")
        skipped = skipped | {"aesthetic": "name LAION's file"}
    report = measure(path, [EditedClip(path, prompt)], source_prompt=source_prompt, models=Models(**given)).reports[0]
    found = {name: sentence for name, sentence in report.skipped.items() if name in LEARNED}
    assert found.keys() == skipped.keys()
    for name, part in skipped.items():
        assert part in found[name] and "\n" not in found[name]


def test_half_a_clip_has_no_texts(tmp_path):
    save_clip_vision(tmp_path / "clip")
    path = write(tmp_path / "clip.mov", moving(3))
    models = Models(load_clip(str(tmp_path / "clip")))
    report = measure(path, [EditedClip(path, "a")], source_prompt="b", models=models).reports[0]
    assert report.figures["clip_frame"].edit < 1
    for name in ("clip_text", "clip_directional"):
        assert report.skipped[name] == "the weights of clip have no text half: name a whole CLIPModel"


def test_mistakes_end_before_the_long_work(tmp_path, models, monkeypatch):
    monkeypatch.setattr(module, "_batches", lambda moments: pytest.fail("measured"))
    path = write(tmp_path / "clip.mov", moving(4))
    edits = [EditedClip(write(tmp_path / "short.mov", moving(3)))]
    with pytest.raises(UserError, match=r"short\.mov has 3 frames and .*clip\.mov 4: give a clip and its edit"):
        measure(path, edits)
    edits = [EditedClip(write(tmp_path / "small.mov", moving(4, 44, 60)))]
    with pytest.raises(UserError, match=r"small\.mov is 60x44 and .*clip\.mov is 60x45"):
        measure(path, edits)
    mask = MaskFile(write(tmp_path / "mask.mov", moving(3)), chooses_what_is_kept=True)
    with pytest.raises(UserError, match=re.escape("mask.mov has 3 frames and the clip 4: give one picture")):
        measure(path, [EditedClip(path, mask=mask)])
    with pytest.raises(UserError, match="aesthetic scores the image features of CLIP: name its weights with clip"):
        measure(path, [EditedClip(path)], models=Models(aesthetic=models.aesthetic))
    with pytest.raises(UserError, match="aesthetic is for image features of 3 numbers, and those of clip have 11"):
        measure(path, [EditedClip(path)], models=Models(models.clip, aesthetic=(np.ones(3), 0.0)))
    with pytest.raises(UserError, match=r"none\.mp4 is not there"):
        measure(path, [EditedClip(tmp_path / "none.mp4")])


def test_memory_does_not_grow_with_the_clip(tmp_path, monkeypatch):
    """Frames that are alive at once, of two clips: batches of 16 and the last frames of each."""
    read, most = module.read_together, {}

    def watched(paths, alive):
        for frames in read(paths):
            alive += map(weakref.ref, frames)
            most[len(alive) // 2] = sum(reference() is not None for reference in alive)
            yield frames

    monkeypatch.setattr(module, "opencv", lambda: None)
    for frames in (40, 80):
        path = write(tmp_path / f"{frames}.mov", noise(frames, 8, 8, 3))
        monkeypatch.setattr(module, "read_together", lambda paths: watched(paths, []))
        gc.collect()
        measure(path, [EditedClip(path)])
        assert max(most) == frames and max(most.values()) <= 2 * (2 * 16 + 3)


def test_progress_is_told(files):
    told = Told()
    measure(files[0], files[1], reporter=told)
    assert told.stages == [("measuring", 15, 0)]
