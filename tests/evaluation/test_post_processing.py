"""What is done to a model's answer before it is measured: done where it is said, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation import answers
from napari_pathsam.evaluation.answers import OF_CLASS_MAPS, ClassSettings, refuse_undone
from napari_pathsam.evaluation.class_figures import class_metrics
from napari_pathsam.evaluation.classes import evaluate_classes
from napari_pathsam.evaluation.confidence import SureMap

SHAPE = (40, 60)


@pytest.fixture
def sample(tmp_path):
    """Classes, no objects: a square of gland and one of stroma."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:20, 5:20], labels[20:35, 35:55] = 1, 2
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "i.png")
    return Sample("s", "g", "val", tmp_path / "i.png", tmp_path / "l.png", 0.5, "classes")


def test_post_processing_is_off_and_said_when_it_is_on():
    assert ClassSettings().post_processing == "none"
    every = ClassSettings(
        threshold=0.6, smallest_px=400, fill_holes_px=40, split=True, sharpen=True
    ).post_processing
    for word in ("0.6", "under 400 px removed", "40 px filled", "by their shape", "redrawn"):
        assert word in every
    assert "0.8 sure" in ClassSettings(seed=0.8, split=True).post_processing
    assert "shape" not in ClassSettings(seed=0.8, split=True).post_processing
    sure = ClassSettings(drop=3, surest=0.88, split=True).post_processing
    assert "drop by 3" in sure
    assert "less than 0.88 sure removed" in sure
    assert "shape" not in sure


@pytest.mark.parametrize(("surest", "stroma"), [(0.0, 1), (0.88, 0)])
def test_unsure_objects_go_where_labels_are_classes_too(
    tiny_pathsam, sample, monkeypatch, surest, stroma
):
    """Both squares are found, the model 0.9 sure of the gland and 0.6 of the stroma."""
    found = sample.load()[1].astype(np.uint8)
    likely = np.where(found == 2, 0.6, 0.9).astype(np.float32)
    sure = SureMap(found, likely[None], Region.of(SHAPE), (1.0, 1.0))
    monkeypatch.setattr(SureMap, "probability_of", lambda *_: likely)
    monkeypatch.setattr(answers, "segment_surely", lambda *_: sure)
    scores = list(evaluate_classes(tiny_pathsam, [sample], ClassSettings(surest=surest)))
    figures = class_metrics(scores)["per_class"]
    assert [figures[name]["dice"] for name in ("gland", "stroma")] == [1, stroma]


def test_two_ways_to_tell_objects_apart_are_refused(tiny_pathsam, sample):
    with pytest.raises(UnavailableError, match=r"--seed-at.*--seed-drop.*Leave one of them out"):
        next(evaluate_classes(tiny_pathsam, [sample], ClassSettings(seed=0.9, drop=3)))


@pytest.mark.parametrize("name", OF_CLASS_MAPS)
def test_a_model_that_finds_objects_refuses_what_is_of_class_maps(tiny_pathsam, monkeypatch, name):
    asked = ClassSettings.model_validate({name: 1})
    refuse_undone(tiny_pathsam, asked)
    monkeypatch.setattr(answers, "knows_objects", lambda model: True)
    with pytest.raises(UnavailableError, match=f"so {OF_CLASS_MAPS[name]} would change nothing"):
        refuse_undone(tiny_pathsam, asked)
    refuse_undone(tiny_pathsam, ClassSettings(smallest_px=9, at_mpp=1))
