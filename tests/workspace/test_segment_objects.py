"""Segmenting with a model that finds objects one by one: they stay apart where they touch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.models.mask_rcnn import FoundObjects
from napari_pathsam.models.pathsam import ClassLogits
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.workspace import ArraySource, InlineRunner
from napari_pathsam.workspace.segment_request import Part, SegmentOptions, SegmentRequest
from napari_pathsam.workspace.segmenting import Segmenting

SHAPE = (120, 180)
GREYS = (40, 80, 120)


class ByGrey(TaskModel):
    """Each grey is an object; the lightest is of the second class."""

    def seen(self, embedding):
        height, width = embedding.shape_yx
        grey = embedding.trunk[0][0, 0, :height, :width].round()
        return torch.stack([(grey == g).float() for g in GREYS])

    def find_objects(self, embedding):
        masks = self.seen(embedding)
        there = masks.flatten(1).any(1)
        classes = torch.tensor([1, 1, 2])[there]
        return FoundObjects(torch.full((int(there.sum()),), 0.9), classes, masks[there] * 0.9)

    def decode_classes(self, embedding, *, views=None):
        masks = self.seen(embedding)
        two = torch.stack([masks[0] + masks[1], masks[2]])
        logits = torch.cat([torch.zeros_like(two[:1]), 8 * two - 4])
        return ClassLogits(logits, logits.new_zeros(3), embedding.shape_yx, self.classes)


@pytest.fixture
def model() -> ByGrey:
    network = {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48)}
    config = find_task_recipe("mask-rcnn").config(mpp=0.5, tile_px=96, network=network)
    return ByGrey(config, ClassTable.of("gland", "nucleus")).eval()


@pytest.fixture
def image():
    """Two that touch, over two tiles; one apart."""
    image = np.full((*SHAPE, 3), 220, np.uint8)
    image[20:80, 30:100] = GREYS[0]
    image[20:80, 100:150] = GREYS[1]
    image[95:110, 20:60] = GREYS[2]
    return image


def segmented(model, image, parts, **options):
    segmenting = Segmenting(lambda name, device: model, InlineRunner())
    failed, finished, said = [], [], []
    segmenting.failed.connect(failed.append)
    segmenting.finished.connect(finished.append)
    segmenting.progress_changed.connect(lambda p: said.append(p.text if p else ""))
    options = SegmentOptions(instances=True, **options)
    source = ArraySource(image, name="field", mpp=0.5)
    segmenting.start(SegmentRequest(source, parts, "by grey", mpp=0.5, options=options))
    assert not failed
    return finished[0], said


def test_touching_objects_stay_apart(model, image):
    result, said = segmented(model, image, (Part(Region.of(SHAPE)),))
    found = result.objects.shown
    assert len(result.class_of) == 3
    for grey, class_id in zip(GREYS, (1, 1, 2), strict=True):
        [index] = np.unique(found[image[..., 0] == grey])
        np.testing.assert_array_equal(found == index, image[..., 0] == grey)
        assert result.class_of[int(index)] == class_id
    assert result.table[1].objects == 2
    assert any("Finding objects" in text for text in said)
    result, _ = segmented(model, image, (Part(Region.of(SHAPE)),), smallest_px=1000)
    assert len(result.class_of) == 2  # the small one goes


def test_only_in_the_parts_that_were_asked_for(model, image):
    within = np.zeros((60, 90), bool)
    within[:, 20:] = True
    parts = (Part(Region(10, 20, 60, 90), within), Part(Region(90, 0, 30, 70)))
    result, _ = segmented(model, image, parts)
    wanted = np.zeros(SHAPE, bool)
    wanted[10:70, 20:110], wanted[90:, :70] = within, True
    found = result.objects.shown
    np.testing.assert_array_equal(found > 0, wanted & (image[..., 0] < 200))
    assert set(np.unique(found[found > 0])) == set(result.class_of)
    assert len(result.class_of) == 3
