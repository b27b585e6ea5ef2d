"""Objects that a model finds one by one, of a slide in blocks: each once, whole, with its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.slide_found_objects import found_on_slide
from napari_pathsam.inference.slide_job import SlideJob, prepare_slide
from napari_pathsam.inference.slide_objects import write_objects
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, class_of_objects
from napari_pathsam.io.slides import ArraySlide
from tests.inference.test_found_objects import Oracle, oracle, scene

__all__ = ["oracle"]
SHAPE = (460, 330)


def job_of(model: Oracle, image: np.ndarray, **fields) -> SlideJob:
    return prepare_slide(
        model, ArraySlide(image), mpp=0.5, tissue=False, chunk_px=32, batch=1, **fields
    )


def one_to_one(found: np.ndarray, wanted: np.ndarray) -> bool:
    both = np.stack([found, wanted])[:, (found > 0) | (wanted > 0)]
    pairs = np.unique(both, axis=1)
    return pairs.shape[1] == len(np.unique(both[0])) == len(np.unique(both[1])) and both.all()


@pytest.mark.parametrize("block_px", [32, 96, 512])
def test_blocks_have_the_objects_of_the_whole(
    oracle: Oracle, block_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.LONGEST_BLOCK_PX", block_px)
    image = scene(SHAPE)
    image[20:30] = 230  # without the bar, which is longer than a window
    job = job_of(oracle, image)
    assert len(job.plan.blocks) > 1 or block_px == 512
    out = np.zeros(SHAPE, np.int32)
    class_of: dict[int, int] = {}
    steps = list(found_on_slide(job))
    for step in steps:
        if step.labels is not None:
            out[step.region.slices] = step.labels
            assert set(np.unique(step.labels)) - {0} == set(step.class_of)
            class_of |= step.class_of
    assert [s.done for s in steps] == list(range(1, steps[0].total + 1))
    wanted = label(image[..., 1] < 100, connectivity=2)
    assert wanted.max() > 20
    assert one_to_one(out, wanted)
    for number, class_id in class_of.items():
        assert class_id == (1 if (image[out == number][:, 0] > 100).all() else 2)


def test_they_are_kept_beside_the_classes(oracle: Oracle, tmp_path: Path) -> None:
    image = scene(SHAPE)
    job = job_of(oracle, image, store=tmp_path / "a.zarr", region=Region(40, 30, 300, 290))
    classes = LabelStore.open(tmp_path / "a.zarr")
    assert [*write_objects(classes, smallest_px=60, job=job)]
    assert not [*write_objects(classes, smallest_px=60, job=job)]  # they are there
    made = LabelStore.open(tmp_path / "a.zarr", OBJECTS).read(Region.of(SHAPE))
    wanted = label(image[..., 1] < 100, connectivity=2)
    small = np.bincount(wanted.ravel()) < 60
    wanted = np.where(small[wanted], 0, wanted)
    cut = np.zeros(SHAPE, np.int32)
    cut[40:340, 30:320] = wanted[40:340, 30:320]
    assert one_to_one(made, cut)
    assert set(class_of_objects(tmp_path / "a.zarr") or {}) == set(np.unique(made)) - {0}
    assert [*write_objects(classes, smallest_px=60)]  # those of the class map are others
