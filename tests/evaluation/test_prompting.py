"""Simulated clicks over samples: counted as defined, exact where the answer is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.prompts import Prompts, ellipse_in_box
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.prompting import (
    PromptSettings,
    evaluate_prompts,
    objects_of,
    prompt_metrics,
)
from napari_pathsam.evaluation.report import Report
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask


class Square:
    """Answers any click with a square round the last one, any box with the box: all is known."""

    device, name = "cpu", "square"

    def __init__(self, half_px: int) -> None:
        self.half_px = half_px
        self.fed_back: list[bool] = []
        self.seen: list[tuple[int, int]] = []

    def encode(self, image, *, mpp=None):
        shape = image.shape[:2]
        self.seen.append(shape)
        return ImageEmbedding(None, (), (), shape, shape, self.name, mpp)

    def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
        height, width = embedding.shape_yx
        logits = np.full((1, height, width), -1, np.float32)
        if prompts.box is not None:
            y0, x0, y1, x1 = (int(v) for v in prompts.box)
            logits[0, y0:y1, x0:x1] = 1
        else:
            self.fed_back.append(previous is not None)
            (y, x), h = prompts.points_yx[-1], self.half_px
            logits[0, max(0, int(y) - h) : int(y) + h + 1, max(0, int(x) - h) : int(x) + h + 1] = 1
        return PromptedMask(logits, np.ones(1, np.float32), 0, (height, width))


@pytest.fixture
def sample(tmp_path):
    """One object of 21 × 21 pixels, one of 21 × 31, one of 49 pixels."""
    labels = np.zeros((80, 100), np.uint8)
    labels[10:31, 20:41], labels[50:71, 60:91], labels[70:77, 0:7] = 1, 2, 3
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "i.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return Sample("s", "g", "val", tmp_path / "i.png", tmp_path / "l.png", 0.5, "instances")


def test_figures_of_a_model_whose_answers_are_known(sample):
    model = Square(half_px=10)
    scores = list(evaluate_prompts(model, [sample]))
    metrics = prompt_metrics(scores)
    # The first object is met at once; the second is ten columns wider than the answer.
    second = 21 / 31
    assert metrics["iou_at_clicks"]["1"] == pytest.approx((1 + second) / 2)
    assert scores[0].interactions[0].iou_at_clicks == (1,) * 5
    assert metrics["iou_box"] == 1
    assert metrics["n_objects"] == 2
    assert metrics["n_too_small"] == 1
    disc = ellipse_in_box((0, 0, 21, 21), (21, 21)).mean()
    ellipse = ellipse_in_box((0, 0, 21, 31), (21, 31)).mean()
    assert metrics["iou_ellipse"] == pytest.approx((disc + ellipse) / 2)
    # One click for the object that is right, five for the other; only the first is not fed back.
    assert model.fed_back == [False, False, True, True, True, True]
    assert len(scores[0].interactions[1].seconds) == 5


def test_reports_the_clicks_asked_for(sample):
    settings = PromptSettings(clicks=(1, 3), smallest_px=1)
    metrics = prompt_metrics(list(evaluate_prompts(Square(3), [sample], settings)), settings)
    assert list(metrics["iou_at_clicks"]) == ["1", "3"]
    assert metrics["n_objects"] == 3
    assert metrics["n_too_small"] == 0


def test_means_are_over_objects_not_images(sample, tmp_path):
    one = np.zeros((80, 100), np.uint8)
    one[5:12, 5:80] = 1
    Image.fromarray(one).save(tmp_path / "one.png")
    other = replace(sample, name="t", labels_path=tmp_path / "one.png")
    settings = PromptSettings()
    both = list(evaluate_prompts(Square(10), [sample, other], settings))
    assert [(s.done, s.total) for s in both] == [(1, 2), (2, 2)]
    every = [i.iou_at_clicks[0] for s in both for i in s.interactions]
    assert len(every) == 3
    assert prompt_metrics(both)["iou_at_clicks"]["1"] == pytest.approx(np.mean(every))


def test_binary_and_class_labels_become_components():
    labels = np.zeros((12, 12), np.uint8)
    labels[0:2, 0:2], labels[2:4, 2:4], labels[8:, 8:], labels[8:, 0:8] = 1, 1, 1, 2
    assert len(np.unique(objects_of(labels, "instances"))) == 3
    components = objects_of(labels, "classes")
    assert components[0, 0] == components[3, 3]  # corners touch
    assert len(np.unique(components)) == 4
    assert (objects_of(labels, "binary") > 0).sum() == (labels > 0).sum()


def test_works_at_another_pixel_size_and_compares_at_the_labels(sample):
    model = Square(half_px=10)
    at_half = prompt_metrics(list(evaluate_prompts(model, [sample], PromptSettings(at_mpp=1.0))))
    assert model.seen == [(40, 50)]
    assert at_half["iou_box"] == 1  # masks and prompts stayed in the image's pixels
    unknown = replace(sample, mpp=None)
    with pytest.raises(BadImageError, match="--mpp"):
        list(evaluate_prompts(model, [unknown], PromptSettings(at_mpp=1.0)))


def test_closing_the_generator_stops_the_work(sample):
    model = Square(half_px=10)
    running = evaluate_prompts(model, [sample] * 50)
    next(running)
    running.close()
    assert len(model.seen) == 1


def test_no_objects_give_no_figures_and_valid_json(sample, tmp_path):
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(sample.labels_path)
    metrics = prompt_metrics(list(evaluate_prompts(Square(3), [sample])))
    assert math.isnan(metrics["iou_box"])
    report = Report(
        model="m", dataset="d", split="s", task="prompts", n_images=1, metrics=metrics, settings={}
    )
    report.write(tmp_path / "new" / "r.json")
    read = json.loads((tmp_path / "new" / "r.json").read_text())
    assert read["metrics"]["iou_box"] is None
    assert {"torch", "numpy", "napari-pathsam", "python"} <= set(read["versions"])
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["r.json"]


def test_a_real_model_gives_the_same_figures_twice(sample, tiny_model):
    first, again = (prompt_metrics(list(evaluate_prompts(tiny_model, [sample]))) for _ in range(2))
    times = ("ms_per_click", "ms_to_encode")
    assert all(first[k] == again[k] for k in first if k not in times)
    assert 0 <= first["iou_box"] <= 1
    embedding = tiny_model.encode(sample.load()[0])
    mask = tiny_model.decode_prompts(embedding, Prompts().with_point(20, 30)).mask
    assert mask.shape == (80, 100)


def test_pieces_of_binary_labels_that_touch_by_corners_are_one_object():
    labels = np.zeros((10, 10), np.uint8)
    labels[:3, :3] = labels[3:5, 3:5] = 255
    labels[8:, 8:] = 255
    assert objects_of(labels, "binary").max() == 2


class Large(Square):
    """Two answers: most of the image, which it trusts more, and a square that is right."""

    def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
        right = super().decode_prompts(embedding, prompts, previous=previous).low_res_logits
        logits = np.concatenate([np.ones_like(right), right])
        return PromptedMask(logits, np.array([0.9, 0.5], np.float32), 0, embedding.shape_yx)


@pytest.mark.parametrize(("share", "iou"), [(None, 441 / 8000), (0.5, 1.0), (0.01, 0.0)])
def test_answers_over_half_the_image_are_dropped_where_that_is_asked_for(sample, share, iou):
    settings = PromptSettings(clicks=(1,), largest_share=share)
    score = next(iter(evaluate_prompts(Large(half_px=10), [sample], settings)))
    assert score.interactions[0].iou_at_clicks[0] == pytest.approx(iou)
    assert score.interactions[0].iou_box == pytest.approx(iou)
    assert settings.model_dump()["largest_share"] == share
