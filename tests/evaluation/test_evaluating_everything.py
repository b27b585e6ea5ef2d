"""Segment everything against labels: figures of a model whose answers are known."""

import math
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.everything import (
    EverythingScoring,
    evaluate_everything,
    everything_metrics,
)
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
from napari_pathsam.models.sam2_config import SAM2_CONFIGS


class Quarters:
    """Answers a point with its quarter of the image, and with all of it."""

    config, name = SAM2_CONFIGS["sam2.1-tiny"], "quarters"

    def encode(self, image, *, mpp=None):
        return ImageEmbedding(None, (), (), image.shape[:2], image.shape[:2], self.name, mpp)

    def decode_many(self, embedding, prompts, *, whole=False):
        height, width = embedding.shape_yx
        answers = []
        for one in prompts:
            (y, x) = one.points_yx[0]
            logits = np.full((2, height, width), -9, np.float32)
            top, left = (y > height / 2) * height // 2, (x > width / 2) * width // 2
            logits[0, top : top + height // 2, left : left + width // 2] = 9
            logits[1] = 9
            answers.append(
                PromptedMask(logits, np.array([0.9, 0.95], np.float32), 0, (height, width))
            )
        return answers


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    from PIL import Image

    labels = np.zeros((80, 100), np.uint8)
    labels[0:40, 0:50] = 1  # exactly a quarter
    labels[40:60, 50:100] = 2  # half of another
    labels[70:75, 0:5] = 3  # too small
    Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return Sample("s", "g", "val", tmp_path / "i.png", tmp_path / "l.png", None, "instances")


def test_the_best_mask_of_each_object_counts(sample):
    settings = EverythingScoring(points_per_side=4, largest_share=0.5)
    metrics = everything_metrics(list(evaluate_everything(Quarters(), [sample], settings)))
    assert metrics["best_iou"] == pytest.approx((1 + 0.5) / 2)
    assert metrics["share_found"] == 1
    assert (metrics["n_objects"], metrics["n_too_small"], metrics["n_found"]) == (2, 1, 4)
    labelled = 40 * 50 + 20 * 50 + 25
    assert metrics["foreground_dice"] == pytest.approx(2 * labelled / (labelled + 80 * 100))


def test_without_post_processing_the_whole_image_is_an_object_too(sample):
    settings = EverythingScoring(points_per_side=4)
    score = next(iter(evaluate_everything(Quarters(), [sample], settings)))
    assert score.n_found == 5
    nothing = everything_metrics([])
    assert nothing.pop("intervals")["figures"] == {}
    assert nothing | {"best_iou": 0, "share_found": 0, "foreground_dice": 0} == {
        "best_iou": 0, "share_found": 0, "foreground_dice": 0, "n_objects": 0, "n_too_small": 0,
        "n_found": 0, "seconds_per_image": 0.0,
    }  # fmt: skip
    assert math.isnan(everything_metrics([])["best_iou"])
