"""Objects found tile by tile come out once and whole, wherever the tiles lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.measure import label

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import plan_segmenting
from napari_pathsam.inference.found_objects import (
    FoundObject,
    assembled,
    merged,
    object_tiles,
    segment_objects,
)
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.mask_rcnn import FoundObjects
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe

CLASSES = ClassTable.of("gland", "nucleus")


class Oracle(TaskModel):
    """Knows what is in a picture: dark areas are objects, red ones of the first class."""

    def find_objects(self, embedding):
        pixels = embedding.trunk[0][0].round().cpu().numpy()
        height, width = embedding.shape_yx
        pixels = pixels[:, :height, :width]
        found = label(pixels[1] < 100, connectivity=2)
        masks = [torch.from_numpy((found == i) * 0.9) for i in range(1, found.max() + 1)]
        classes = [
            1 if pixels[0][found == i].mean() > 100 else 2 for i in range(1, found.max() + 1)
        ]
        scores = [0.5 + 0.4 * float(m.bool().sum()) / m.numel() for m in masks]
        stacked = torch.stack(masks) if masks else torch.zeros(0, height, width)
        return FoundObjects(torch.tensor(scores), torch.tensor(classes), stacked.float())


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    network = {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48)}
    config = find_task_recipe("mask-rcnn").config(mpp=0.5, tile_px=96, network=network)
    return Oracle(config, CLASSES).eval()


def scene(shape: tuple[int, int] = (300, 250), seed: int = 0) -> np.ndarray:
    """Discs of all sizes, one bar through everything, none touching."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), 230, np.uint8)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    image[20:30, 10 : shape[1] - 10] = (30, 30, 30)
    free = np.ones(shape, bool)
    free[:40] = False
    for _ in range(60):
        y, x, r = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(3, 22)
        disc = (yy - y) ** 2 + (xx - x) ** 2 <= r * r
        if free[(yy - y) ** 2 + (xx - x) ** 2 <= (r + 3) ** 2].all():
            image[disc] = (200, 30, 30) if rng.random() < 0.5 else (30, 30, 30)
            free[disc] = False
    return image


@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_every_object_comes_out_once_and_whole(oracle: Oracle, mpp: float) -> None:
    image = scene()
    if mpp == 0.25:
        image = image.repeat(2, 0).repeat(2, 1)
    found = segment_objects(oracle, ArraySlide(image), mpp=mpp)
    wanted = label(image[..., 1] < 100, connectivity=2)
    pairs = np.unique(
        np.stack([wanted, found.labels])[:, (wanted > 0) & (found.labels > 0)], axis=1
    )
    assert wanted.max() == found.labels.max() == pairs.shape[1]  # one to one
    wrong = (wanted > 0) != (found.labels > 0)
    assert wrong.mean() <= (0 if mpp == 0.5 else 0.01)
    red = image[..., 0] > 100
    assert (found.class_map[(wanted > 0) & red] == 1).all()
    assert (found.class_map[(wanted > 0) & ~red & (found.labels > 0)] == 2).all()


def test_a_region_sees_what_lies_round_it(oracle: Oracle) -> None:
    image = scene(seed=3)
    whole = segment_objects(oracle, ArraySlide(image), mpp=0.5).labels > 0
    region = Region(41, 57, 130, 111)
    part = segment_objects(oracle, ArraySlide(image), mpp=0.5, region=region)
    assert part.labels.shape == (130, 111)
    assert ((part.labels > 0) == whole[region.slices]).all()


def test_the_tiles_come_one_by_one_and_small_objects_can_go(oracle: Oracle) -> None:
    image = scene()
    slide = ArraySlide(image)
    plan = plan_segmenting(oracle, slide, mpp=0.5)
    tiles = list(object_tiles(oracle, slide, plan))
    assert [t.done for t in tiles] == list(range(1, tiles[0].total + 1))
    everything = [one for tile in tiles for one in tile.objects]
    all_of_them, large = assembled(everything, plan), assembled(everything, plan, smallest_px=200)
    sizes = np.bincount(all_of_them.labels.ravel())[1:]
    assert large.labels.max() == (sizes >= 200).sum() < len(sizes)
    assert set(large.class_of) == set(range(1, large.labels.max() + 1))


def test_neighbours_stay_two_and_the_surer_answer_stays() -> None:
    left = FoundObject(
        Region(10, 10, 20, 20), np.ones((20, 20), bool), 0.6, 1, False, Region(0, 0, 64, 64)
    )
    again = replace(left, region=Region(11, 10, 20, 20), score=0.9, tile=Region(0, 32, 64, 64))
    beside = replace(left, region=Region(10, 30, 20, 20), tile=Region(0, 32, 64, 64))
    found = merged([left, again, beside])
    assert [one.score for one in found] == [0.9, 0.6]
    assert found[1].region == beside.region
    # Of one tile both stay, even on top of each other: the tile told them apart.
    assert len(merged([left, replace(again, tile=left.tile)])) == 2


def test_models_of_classes_are_refused(tiny_pathsam) -> None:
    slide = ArraySlide(np.zeros((40, 40, 3), np.uint8))
    plan = plan_segmenting(tiny_pathsam, slide, mpp=0.5)
    with pytest.raises(BadWeightsError, match="a mask-rcnn does"):
        next(object_tiles(tiny_pathsam, slide, plan))
