"""Training a WSI-SAM: pairs of fields, prompts, losses, from images, slides and label pyramids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pydantic import ValidationError

from napari_pathsam.core.errors import BadFileError, BadLabelsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts, tight_box
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import wsi_profiled
from napari_pathsam.models.wsi_sam_fields import to_surroundings
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.wsi_config import WsiSource, WsiTrainConfig
from napari_pathsam.training.wsi_data import choose, draw_pair, pair_of, shrunk, wide_px
from napari_pathsam.training.wsi_fit import WsiTrainer, fit_wsi_sam, mask_loss
from napari_pathsam.training.wsi_prompts import boxes, clicks, noisy_masks
from napari_pathsam.training.wsi_scenes import ImageScene, PyramidScene, View, load_scenes
from napari_pathsam.training.wsi_score import fields_of, score_fields

STILL = AugmentConfig(stain=0, brightness=0, sharpness=0, noise=0, anisotropy=0, free_rotation=0)


def discs(n: int = 2, side: int = 160) -> list[ImageScene]:
    """Dark discs on pale ground, each its own id."""
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[:side, :side]
    scenes = []
    for i in range(n):
        objects = np.zeros((side, side), np.int32)
        for k, (y, x) in enumerate(rng.integers(10, side - 10, (14, 2)), start=1):
            objects[(yy - y) ** 2 + (xx - x) ** 2 < rng.integers(9, 15) ** 2] = k
        pale = np.full((side, side, 3), 225) + rng.integers(-6, 6, (side, side, 1))
        image = np.where(objects[..., None] > 0, [110, 50, 150], pale).astype(np.uint8)
        known = np.ones((side, side), bool)
        scenes.append(ImageScene(f"d{i}", f"p{i}", View(image, objects, known, middle=False)))
    return scenes


def config(**fields) -> WsiTrainConfig:
    return WsiTrainConfig(
        **{
            "sources": (WsiSource(dataset="made", scale=(0.9, 1.1)),), "field_px": 64,
            "fields": 4, "steps": 4, "fields_per_step": 2, "objects_per_field": 2, "warmup": 2,
            "report_every": 2, "augment": STILL, "smallest_px": 30,
        } | fields
    )  # fmt: skip


def trainer(tiny_model: Sam2, network: dict | None = None, **fields) -> WsiTrainer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = wsi_profiled("recommended", name="w", base="tiny", **(network or {}))
        model = WsiSam(found, tiny_model)
    return WsiTrainer(model, [discs()], config(**fields))


# --- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_a_pair_shows_one_object_twice(factor: float) -> None:
    side, wide = 64, wide_px(64, factor)
    assert wide == round(64 * factor)
    objects = np.zeros((wide, wide), np.int32)
    at = (wide - side) // 2
    objects[at + 8 : at + 32, at - 10 : at + 20] = 5
    image = np.where(objects[..., None] > 0, 50, 200).repeat(3, -1).astype(np.uint8)
    pair = pair_of(image, objects, objects >= 0, side)
    assert pair.high.shape == pair.low.shape == (64, 64, 3)
    assert tight_box(pair.target(5)) == (8, 0, 32, 20)
    assert pair.seen(1) == ([5], [])
    assert pair.seen(10_000) == ([], [])
    low = shrunk(pair.objects == 5, side)
    y0, y1, x1 = (to_surroundings(v, side, wide / side) for v in (8, 32, 20))
    rows, columns = np.flatnonzero(low.sum(1) > 0.5), np.flatnonzero(low.sum(0) > 0.5)
    assert (rows[0], rows[-1] + 1) == (pytest.approx(y0, abs=1), pytest.approx(y1, abs=1))
    assert columns[-1] + 1 == pytest.approx(x1, abs=1)
    assert float(low.sum()) == pytest.approx(24 * 30 / (wide / side) ** 2, rel=0.02)
    dark = pair.low[..., 0] < 125
    assert abs(int(dark.sum()) - float(low.sum())) < 60


def test_a_field_is_drawn_from_its_seed_alone() -> None:
    def drawn(seed: int):
        scenes, made = [discs()], config()
        return draw_pair(scenes, made.sources, made, 2.0, np.random.default_rng(seed))

    one, same, other = drawn(1), drawn(1), drawn(2)
    assert np.array_equal(one.low, same.low)
    assert not np.array_equal(one.low, other.low)
    assert one.objects.shape == (128, 128)
    assert any(one.seen(30))
    hidden = one.hidden(2.0)
    assert np.array_equal(hidden.high, one.high)
    assert (hidden.low[:15] == 244).all()


def test_objects_the_border_cuts_are_preferred_as_asked() -> None:
    objects = np.zeros((128, 128), np.int32)
    objects[32:40, 32:40], objects[60:70, 60:70], objects[90:100, 50:60] = 1, 2, 3
    pair = pair_of(np.zeros((128, 128, 3), np.uint8), objects, objects >= 0, 64)
    assert pair.seen(1) == ([1, 3], [2])
    rng = np.random.default_rng(0)
    assert set(choose(pair, rng, 2, cut_share=1.0, smallest_px=1)) == {1, 3}
    assert choose(pair, rng, 1, cut_share=0.0, smallest_px=1) == [2]
    assert set(choose(pair, rng, 9, cut_share=0.5, smallest_px=1)) == {1, 2, 3}


# --- prompts and losses ---------------------------------------------------------------------------


def test_prompts_say_where_the_object_is() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 64, 64), bool)
    masks[0, 10:30, 5:25], masks[1, :8, 50:], masks[2, 63, 63] = True, True, True
    points, signs = boxes(masks, rng, 0.0)
    assert points[0].tolist() == [[5, 10], [25, 30]]
    assert signs.tolist() == [[2, 3]] * 3
    loose, _ = boxes(masks, rng, 0.5)
    assert (loose >= 0).all()
    assert (loose <= 64).all()
    assert (loose[:, 1] > loose[:, 0]).all()
    assert not torch.equal(loose[0], points[0])
    points, signs = clicks(masks, rng, 4, exactly=True)
    assert points.shape == (3, 4, 2)
    assert (signs == 1).all()
    for mask, some in zip(masks, points.long(), strict=True):
        assert mask[some[:, 1], some[:, 0]].all()
    logits = noisy_masks(masks[:1], rng, (64, 64))
    assert set(logits.unique().tolist()) == {-10.0, 10.0}
    found = logits[0, 0].numpy() > 0
    assert 0.3 < (found & masks[0]).sum() / (found | masks[0]).sum() < 1


def test_what_nobody_looked_at_counts_nowhere() -> None:
    logits, target = torch.randn(2, 8, 8), (torch.rand(2, 8, 8) > 0.5).float()
    known = torch.ones(2, 8, 8)
    known[:, :, 5:] = 0
    other = torch.where(known > 0, logits, 9 * torch.randn(2, 8, 8))
    assert torch.allclose(
        mask_loss(logits, target, known), mask_loss(other, 1 - target, known)
    ) is (False)
    flipped = torch.where(known > 0, target, 1 - target)
    assert torch.allclose(mask_loss(logits, target, known), mask_loss(other, flipped, known))
    perfect = (target * 2 - 1) * 30
    assert float(mask_loss(perfect, target, known)) == pytest.approx(0, abs=1e-4)
    assert mask_loss(logits, target, torch.zeros(2, 8, 8)).isfinite()


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_the_balance_weighs_both_resolutions(tiny_model: Sam2, balance: float) -> None:
    one = trainer(tiny_model, {"carry": False, "from_zero": False}, balance=balance)
    one.model.train()
    batch = one.batch(np.random.default_rng(0))
    one.loss(batch, np.random.default_rng(1))[0].backward()
    for name, part in (("high", one.model.high), ("low", one.model.low)):
        learned = sum(float(p.grad.abs().sum()) for p in part.of_sam.parameters())
        assert (learned > 0) is ((name == "high") is (balance == 1.0))


@pytest.mark.parametrize("target", ["object", "visible", "field"])
def test_targets_of_the_surroundings(tiny_model: Sam2, target: str) -> None:
    one = trainer(tiny_model, target=target)
    objects = np.zeros((128, 128), np.int32)
    objects[40:60, 10:60], objects[80:90, 80:90], objects[5:15, 5:15] = 1, 2, 3
    pair = pair_of(np.zeros((128, 128, 3), np.uint8), objects, objects >= 0, 64)
    area = 4 * float(one._target_low(pair, 1).sum())
    union = 20 * 50 + 100 + 100
    assert area == pytest.approx({"object": 1000, "visible": 20 * 28, "field": union}[target])
    high = float(one._target(pair, 1).sum())
    assert high == (20 * 28 + 100 if target == "field" else 20 * 28)


def test_the_released_code_samples_points_in_each_resolution(tiny_model: Sam2) -> None:
    made = {"prompts": ("point",), "most_clicks": 10, "exactly": True, "target": "field"}
    for low, differs in (("sampled", True), ("moved", False)):
        one = trainer(tiny_model, low_prompts=low, **made)
        batch = one.batch(np.random.default_rng(0))
        asked, asked_low = one.asked(batch, np.random.default_rng(0))
        assert asked[0].shape[1:] == (10, 2)
        assert (asked_low is not None) is differs


# --- learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.slow
def test_it_learns_a_few_objects_by_heart(context: bool) -> None:
    """On the packaged model, which sees a disc and knows nothing of the pale ring that is its."""
    yy, xx = np.mgrid[:128, :128]
    objects = np.zeros((128, 128), np.int32)
    image = np.full((128, 128, 3), 225, np.uint8)
    for k, (y, x) in enumerate([(40, 40), (40, 90), (90, 45), (88, 88)], start=1):
        far = np.hypot(yy - y, xx - x)
        objects[far < 18], image[far < 11] = k, (110, 50, 150)
    scene = ImageScene("r", "r", View(image, objects, objects >= 0, middle=False))
    base = load_model("pathsam-nano", "cpu")
    found = wsi_profiled("recommended", name="w", base=base.name, context=context)
    made = config(
        fields=2, steps=40, report_every=10, lr=5e-3, prompts=("box",), hide_surroundings=0.0,
        box_noise=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WsiSam(found, base)
    reports = list(fit_wsi_sam(WsiTrainer(model, [[scene]], made)))
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert reports[-1].iou > 0.85 > 0.8 > reports[0].iou
    assert (reports[-1].iou_low > 0.6) is context  # NaN without


def test_a_stopped_run_ends_as_one_never_stopped(tiny_model: Sam2, tmp_path: Path) -> None:
    whole = trainer(tiny_model)
    list(fit_wsi_sam(whole))
    first = trainer(tiny_model)
    next(fit_wsi_sam(first, state=tmp_path / "s.pt"))  # stopped after its first report
    second = trainer(tiny_model)
    list(fit_wsi_sam(second, state=tmp_path / "s.pt"))
    for name, value in whole.trained.items():
        assert torch.equal(value, second.trained[name]), name
    with pytest.raises(BadFileError, match=r"lr [\d.]+, now 0\.01"):
        trainer(tiny_model, lr=1e-2).resume(tmp_path / "s.pt")
    second.scenes[0][0].whole.objects[:] = 0
    with pytest.raises(BadFileError, match="other images or labels"):
        WsiTrainer(second.model, second.scenes, second.config).resume(tmp_path / "s.pt")


def test_fields_without_objects_are_said(tiny_model: Sam2) -> None:
    one = trainer(tiny_model, smallest_px=100_000)
    with pytest.raises(BadLabelsError, match="larger"):
        one.train_step()


# --- where fields come from -----------------------------------------------------------------------


def test_slides_with_outlines_give_fields_in_their_own_surroundings(
    layouts, folder, tmp_path: Path
) -> None:
    """CATCH's layout: the surroundings reach beyond the patch, past the slide they are glass."""
    layouts.catch(folder)
    source = WsiSource(dataset="catch", split="train", mpp=2.0, scale=(1.0, 1.0))
    scenes, held = load_scenes(source, {"catch": folder.root})
    assert scenes
    assert not held
    view = scenes[0].view(np.random.default_rng(0), 128)
    assert view.middle
    assert view.image.shape == (192, 192, 3)
    assert view.objects.shape == view.known.shape == (192, 192)
    made = config(sources=(source,), augment=STILL)
    seen = [
        draw_pair([scenes], made.sources, made, 2.0, np.random.default_rng(i)) for i in range(6)
    ]
    assert all(any(pair.seen(30)) for pair in seen)
    assert any(not pair.known.all() for pair in seen)  # tissue that nobody outlined
    assert {int(i) for pair in seen for i in np.unique(pair.objects)} > {0, 1}


@pytest.fixture
def pyramids(tmp_path: Path) -> WsiSource:
    """A slide of 400 x 500 pixels at 0.5 um, and labels of two classes."""
    (tmp_path / "slides").mkdir()
    (tmp_path / "labels").mkdir()
    pixels = np.full((400, 500, 3), 200, np.uint8)
    pixels[100:220, 150:300] = (120, 60, 140)
    tifffile.imwrite(
        tmp_path / "slides" / "A1.tif", pixels, tile=(64, 64), photometric="rgb",
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    store = LabelStore.create(tmp_path / "labels" / "A1.zarr", (400, 500), mpp=0.5, chunk_px=128)
    ids = np.zeros((400, 500), np.uint8)
    ids[100:220, 150:300], ids[300:, 400:] = 1, 255
    store.write(Region(0, 0, 400, 500), ids)
    return WsiSource(slides=tmp_path / "slides", pyramids=tmp_path / "labels", mpp=1.0)


def test_label_pyramids_are_read_where_the_pixels_are(pyramids: WsiSource) -> None:
    (scene,), _ = load_scenes(pyramids, {})
    assert isinstance(scene, PyramidScene)
    for seed in range(5):
        view = scene.view(np.random.default_rng(seed), 80)
        assert view.image.shape == (120, 120, 3)
        dark = view.image[..., 0] < 160
        assert (dark != (view.objects > 0)).mean() < 0.02
        assert not view.objects[~view.known].any()


def test_a_pyramid_of_another_slide_is_refused(pyramids: WsiSource, tmp_path: Path) -> None:
    LabelStore.create(tmp_path / "labels" / "B.zarr", (64, 64), mpp=0.5, chunk_px=64)
    (tmp_path / "slides" / "A1.tif").rename(tmp_path / "slides" / "B.tif")
    (scene,), _ = load_scenes(pyramids, {})
    with pytest.raises(BadFileError, match="another slide"):
        scene.view(np.random.default_rng(0), 64)
    empty = pyramids.model_copy(update={"slides": tmp_path})
    with pytest.raises(BadFileError, match="No slide"):
        load_scenes(empty, {})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two labelled images in two folders."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for scene in discs():
        name, seen = f"{scene.name}.png", scene.whole
        Image.fromarray(seen.image).save(tmp_path / "images" / name)
        Image.fromarray(seen.objects.astype(np.uint8)).save(tmp_path / "labels" / name)
    return tmp_path / "images", tmp_path / "labels"


def test_what_a_source_is(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    source = WsiSource(images=images, labels=labels, label_kind="instances")
    scenes, _ = load_scenes(source, {})
    assert [s.whole.objects.max() for s in scenes] == [s.whole.objects.max() for s in discs()]
    group = scenes[0].group
    train, held = load_scenes(source.model_copy(update={"hold_out": (group,)}), {})
    assert (len(train), len(held)) == (1, 1)
    with pytest.raises(BadFileError, match="no group nobody"):
        load_scenes(source.model_copy(update={"hold_out": ("nobody",)}), {})
    with pytest.raises(BadFileError, match="--root tnbc=FOLDER"):
        load_scenes(WsiSource(dataset="tnbc"), {})
    for wrong in ({}, {"images": images}, {"dataset": "a", "slides": images, "pyramids": images},
                  {"slides": images, "pyramids": images}):  # fmt: skip
        with pytest.raises(ValidationError):
            WsiSource(**wrong)


# --- measuring ------------------------------------------------------------------------------------


class Knows:
    """A model that sees dark pixels: what is under a click or in a box, all of it."""

    name, embedding_name = "knows", "knows"

    def encode(self, image: np.ndarray, *, mpp: float | None = None) -> ImageEmbedding:
        self.dark = image[..., 0] < 160
        return None  # type: ignore[return-value]

    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], *, whole: bool = False
    ) -> list[PromptedMask]:
        masks = []
        for asked in prompts:
            mask = np.zeros(self.dark.shape, bool)
            y0, x0, y1, x1 = (int(v) for v in asked.box or (0, 0, *mask.shape))
            mask[y0:y1, x0:x1] = self.dark[y0:y1, x0:x1]
            logits = np.where(mask, 5.0, -5.0).astype(np.float32)[None]
            masks.append(PromptedMask(logits, np.ones(1, np.float32), 0, mask.shape))
        return masks


def test_scores_tell_cut_objects_from_whole_ones() -> None:
    scenes = discs(1)
    corners = [corner for corner, _ in fields_of(scenes[0], 64, 2.0)]
    assert corners == [(y, x) for y in (16, 80) for x in (16, 80)]
    scores = list(score_fields(Knows(), scenes, side=64, factor=2.0, smallest_px=30))
    assert {s.cut for s in scores} == {True, False}
    assert all(s.hidden == 0 for s in scores if not s.cut)
    assert max(s.hidden for s in scores if s.cut) > 0.3
    assert np.mean([s.iou_box for s in scores]) > 0.8
    assert np.mean([s.iou_click for s in scores]) < 0.5  # takes all that is dark
