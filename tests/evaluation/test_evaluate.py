"""One call from a model and samples to a report."""

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.classes import ClassSettings
from napari_pathsam.evaluation.evaluate import evaluate
from napari_pathsam.evaluation.prompting import PromptSettings


@pytest.fixture
def sample(tmp_path, rng):
    labels = np.zeros((64, 80), np.uint8)
    labels[10:30, 20:40] = 1
    Image.fromarray(rng.integers(0, 256, (64, 80, 3)).astype(np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return Sample("s", "g", "val", tmp_path / "i.png", tmp_path / "l.png", 0.5, "classes")


def test_what_the_model_can_is_measured(sample, tiny_pathsam, tiny_model):
    report = evaluate(tiny_pathsam, [sample], dataset="made", split="val")
    assert (report.task, report.n_images, report.model) == ("classes", 1, tiny_pathsam.name)
    assert (report.dataset, report.split) == ("made", "val")
    assert list(report.metrics["per_class"]) == ["gland", "stroma"]
    assert report.settings["label_kind"] == "classes"
    assert evaluate(tiny_model, [sample]).task == "prompts"


def test_settings_are_the_task(sample, tiny_pathsam, tiny_model):
    few = PromptSettings(clicks=(1,))
    heads, base = (evaluate(model, [sample], few).metrics for model in (tiny_pathsam, tiny_model))
    assert heads["iou_at_clicks"] == base["iou_at_clicks"]  # a head does not change the prompting
    named = evaluate(
        tiny_pathsam, [sample], ClassSettings(mapping={"*": "all"}), classes=ClassTable.of("all")
    )
    assert list(named.metrics["per_class"]) == ["all"]
    sure = evaluate(tiny_pathsam, [sample], ClassSettings(seed=0.9)).settings
    assert (sure["seed"], sure["bootstrap_seed"]) == (0.9, 0)  # neither hides the other
    with pytest.raises(UnavailableError, match="knows no classes"):
        evaluate(tiny_model, [sample], ClassSettings())
