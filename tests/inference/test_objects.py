"""Objects from class maps, and their outlines by the packaged model's prompt decoder."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import relabel, remove_small
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.objects import (
    SharpObject,
    classes_of,
    instances,
    sharpen_tiles,
    sharpened,
)
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam


def disc(y: int, x: int, r: int) -> np.ndarray:
    rows, columns = np.ogrid[:60, :90]
    return (rows - y) ** 2 + (columns - x) ** 2 <= r * r


def test_touching_objects_of_a_class_are_apart_and_classes_do_not_mix() -> None:
    class_map = np.zeros((60, 90), np.uint8)
    class_map[disc(30, 20, 12) | disc(30, 42, 12)] = 1
    class_map[disc(30, 62, 9)] = 2
    class_map[5, 5] = 1
    class_map[:3, 60:] = UNSURE
    labels = instances(class_map)
    assert labels.max() == 4
    assert ((labels != 0) == ((class_map != 0) & (class_map != UNSURE))).all()
    assert sorted(classes_of(labels, class_map).values()) == [1, 1, 1, 2]
    assert instances(class_map, smallest_px=5).max() == 3
    assert instances(class_map, smallest_px=5, split=False).max() == 2
    assert instances(np.zeros((4, 4), np.uint8)).max() == 0


def test_objects_of_which_a_model_is_unsure_are_left_out() -> None:
    class_map = np.where(disc(20, 20, 9), 1, np.where(disc(40, 60, 9), 1, 0)).astype(np.uint8)
    likely = np.where(disc(20, 20, 9), 0.95, 0.7)
    assert instances(class_map, likely=likely).max() == 2
    kept = instances(class_map, likely=likely, surest=0.8)
    assert np.array_equal(kept > 0, disc(20, 20, 9))
    assert instances(class_map, likely=likely, surest=0.96).max() == 0


def test_an_object_cut_by_the_images_end_is_one() -> None:
    class_map = (disc(0, 45, 14) | disc(59, 89, 20)).astype(np.uint8)
    assert instances(class_map).max() == 2


def test_overlapping_outlines_keep_what_was_theirs() -> None:
    labels = np.array([[1, 1, 0, 2, 2, 0, 3]], np.int32)

    def sharp(label: int, start: int, stop: int, score: float) -> SharpObject:
        return SharpObject(
            label, Region(0, start, 1, stop - start), np.ones((1, stop - start), bool), score
        )

    out = sharpened(labels, [sharp(1, 0, 4, 0.9), sharp(2, 2, 7, 0.5)])
    assert out.tolist() == [[1, 1, 1, 2, 2, 2, 3]]
    assert sharpened(labels, []).tolist() == labels.tolist()


@pytest.fixture(scope="module")
def nano() -> PathSam:
    """The packaged base with an untrained head: its prompt decoder is what is asked here."""
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.models.pathsam_config import profiled
    from napari_pathsam.models.sam2 import Sam2

    base = load_model("pathsam-nano", "cpu")
    assert isinstance(base, Sam2)
    config = profiled("recommended", name="pathsam-nano:t", base="pathsam-nano", mpp=0.25)
    return PathSam(config, base, ClassTable.of("nucleus")).eval()


def test_outlines_get_sharper_where_the_proposal_was_blunt(nano: PathSam) -> None:
    """Real nuclei, proposed two pixels too large."""
    from napari_pathsam.samples import load_sample

    sample = load_sample("breast_1")
    assert sample.labels is not None
    image, truth = sample.image[:256, :256], sample.labels[:256, :256] != 0
    true = relabel(remove_small(ndimage.label(truth)[0], 60))
    blunt = ndimage.grey_dilation(true, size=(5, 5)).astype(np.int32)
    slide, cache = ArraySlide(image), EmbeddingCache()
    objects = [
        found
        for tile in sharpen_tiles(nano, slide, blunt, mpp=0.25, cache=cache)
        for found in tile.objects
    ]
    assert len(objects) > 0.5 * blunt.max()
    sharp = sharpened(blunt, objects)

    def iou(labels: np.ndarray) -> float:
        found = []
        for label in (o.label for o in objects):
            a, b = labels == label, true == label
            found.append((a & b).sum() / (a | b).sum())
        return float(np.mean(found))

    assert iou(sharp) > iou(blunt) + 0.02
    assert len(set(np.unique(sharp))) == blunt.max() + 1
    with pytest.raises(BadImageError, match="one size"):
        next(sharpen_tiles(nano, slide, blunt[:5], mpp=0.25))
    again = list(sharpen_tiles(nano, slide, blunt, mpp=0.25, cache=cache))
    assert sum(len(t.objects) for t in again) == len(objects)
