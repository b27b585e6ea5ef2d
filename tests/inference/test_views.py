"""Answers to turned and mirrored views of a tile are averaged: images, slides, any network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings, segment_classes, segment_tiles
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.inference.slide_plan import plan_slide, run_identity
from napari_pathsam.inference.views import logits_of
from napari_pathsam.inference.windows import window_logits
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe

GLAND = ClassTable.of("gland")
EIGHT = SegmentSettings(views=8, keep_probabilities=True)


@pytest.fixture
def field(rng: np.random.Generator) -> np.ndarray:
    """Blobs of colours, 64 × 96: one tile, not square."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(64, 96, 3)), (4, 4, 0))
    return np.clip(smooth * 700 + 128, 0, 255).astype(np.uint8)


def turned(image: np.ndarray) -> np.ndarray:
    return np.rot90(image).copy()


def test_the_answer_turns_with_the_image(tiny_pathsam: PathSam, field: np.ndarray) -> None:
    """Over all eight views it does not matter how the image lies; over one it does."""

    def odd(views: int) -> float:
        here, _ = logits_of(tiny_pathsam, field, (16, 24), views=views)
        there, _ = logits_of(tiny_pathsam, turned(field), (24, 16), views=views)
        return float((torch.rot90(here, 1, (1, 2)) - there).abs().max())

    assert odd(1) > 0.1
    assert odd(8) < 1e-3


def test_it_is_the_mean_of_what_each_view_says(tiny_pathsam: PathSam, field: np.ndarray) -> None:
    each = []
    for pixels, back in (
        (field, lambda x: x),
        (field[:, ::-1], lambda x: x.flip(2)),
        (np.rot90(field, 2), lambda x: torch.rot90(x, -2, (1, 2))),
        (np.rot90(field[:, ::-1], 2), lambda x: torch.rot90(x, -2, (1, 2)).flip(2)),
    ):
        found, _ = logits_of(tiny_pathsam, np.ascontiguousarray(pixels), (16, 24))
        each.append(back(found))
    four, encoded = logits_of(tiny_pathsam, field, (16, 24), views=4)
    assert encoded
    assert torch.allclose(four, torch.stack(each).mean(0), atol=1e-5)
    assert not torch.allclose(four, each[0], atol=0.1)


def test_views_are_kept_and_the_first_is_everybodys(
    tiny_pathsam: PathSam, field: np.ndarray
) -> None:
    cache, slide = EmbeddingCache(), ArraySlide(field)

    def run(views: int | None) -> tuple[np.ndarray, bool]:
        settings = SegmentSettings(views=views)
        (tile,) = segment_tiles(tiny_pathsam, slide, mpp=0.5, settings=settings, cache=cache)
        return tile.class_map, tile.encoded

    eight, encoded = run(8)
    assert encoded
    assert not run(None)[1]
    assert not run(2)[1]
    again, encoded = run(8)
    assert not encoded
    assert (again == eight).all()
    assert (eight == segment_classes(tiny_pathsam, field, 0.5, views=8)).all()
    assert (eight != segment_classes(tiny_pathsam, field, 0.5)).any()


def test_slides_and_batches_of_windows_say_the_same(
    tiny_pathsam: PathSam, rng: np.random.Generator
) -> None:
    smooth = ndimage.gaussian_filter(rng.normal(size=(200, 260, 3)), (6, 6, 0))
    slide = ArraySlide(np.clip(smooth * 900 + 128, 0, 255).astype(np.uint8), mpp=0.5)
    settings = SegmentSettings(views=4, overlap=0.25)
    whole = np.zeros(slide.shape_yx, np.uint8)
    for block in segment_slide(tiny_pathsam, slide, tissue=False, settings=settings):
        whole[block.region.slices] = block.class_map
    image = np.zeros_like(whole)
    for tile in segment_tiles(tiny_pathsam, slide, mpp=0.5, settings=settings):
        image[tile.region.slices] = tile.class_map
    # Windows of a slide lie on a grid of its own, so seams differ a little.
    assert (whole == image).mean() > 0.97
    once = segment_classes(tiny_pathsam, slide)
    assert (once != image).mean() > 0.03

    pixels = [slide.read(Region(y, 0, 96, 64)) for y in (0, 90)]
    batched = window_logits(tiny_pathsam, pixels, (24, 16), views=8)
    for found, one in zip(batched, pixels, strict=True):
        alone, _ = logits_of(tiny_pathsam, one, (24, 16), views=8)
        assert torch.allclose(found, alone, atol=0.05)  # alone it is rounded to half precision


def test_a_label_pyramid_goes_on_with_the_same_views_only(
    tiny_pathsam: PathSam, field: np.ndarray, tmp_path
) -> None:
    slide, store = ArraySlide(field, mpp=0.5), tmp_path / "a.zarr"
    about = {"store": store, "tissue": False}
    _ = [*segment_slide(tiny_pathsam, slide, **about, settings=EIGHT)]
    assert [*segment_slide(tiny_pathsam, slide, **about, settings=EIGHT, resume=True)] == []
    with pytest.raises(BadFileError):
        segment_slide(tiny_pathsam, slide, **about, resume=True,
                      settings=SegmentSettings(keep_probabilities=True))  # fmt: skip
    plain = run_identity(tiny_pathsam, slide, plan_slide(tiny_pathsam, slide, tissue=False), ())
    assert set(plain["settings"]) == {
        "threshold", "smallest_px", "fill_holes_px", "keep_probabilities", "overlap",
    }  # fmt: skip  # as before there were views: what was begun then goes on


def test_a_network_that_reads_pixels_turns_them_itself(field: np.ndarray) -> None:
    torch.manual_seed(0)
    config = find_task_recipe("unet").config(mpp=0.5, tile_px=96, network={"width": 4}, views=8)
    model = TaskModel(config, GLAND).eval()
    own, _ = logits_of(model, field, (64, 96))
    eight, _ = logits_of(model, field, (64, 96), views=8)
    once, _ = logits_of(model, field, (64, 96), views=1)
    assert torch.equal(own, eight)
    assert not torch.allclose(own, once, atol=1e-3)


def test_objects_found_one_by_one_cannot_be_averaged(field: np.ndarray) -> None:
    network = {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48)}
    config = find_task_recipe("mask-rcnn").config(mpp=0.5, tile_px=96, network=network)
    model = TaskModel(config, GLAND).eval()
    for refused in (
        lambda: segment_classes(model, field, 0.5, views=2),
        lambda: plan_slide(model, ArraySlide(field, mpp=0.5), settings=SegmentSettings(views=2)),
    ):
        with pytest.raises(UnavailableError, match="one view only"):
            refused()
    with pytest.raises(ValueError, match="1, 2, 4 or 8"):
        SegmentSettings(views=3)
