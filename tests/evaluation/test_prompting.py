"""Simulated clicks over samples: counted as defined, exact where the answer is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import BadImageError, UnavailableError
from napari_pathsam.core.prompts import Prompts, ellipse_in_box, scribble_points
from napari_pathsam.datasets.base import Sample
from napari_pathsam.datasets.objects import objects_of, objects_to_find
from napari_pathsam.evaluation.prompting import (
    ImageScore,
    PromptSettings,
    evaluate_prompts,
    prompt_metrics,
)
from napari_pathsam.evaluation.report import Report
from napari_pathsam.evaluation.simulated_prompts import noisy_box, scribble_path
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
    settings = PromptSettings(most_clicks=5)
    scores = list(evaluate_prompts(model, [sample], settings))
    metrics = prompt_metrics(scores, settings)
    # The first object is met at once; the second is ten columns wider than the answer.
    second = 21 / 31
    assert metrics["iou_at_clicks"]["1"] == pytest.approx((1 + second) / 2)
    assert scores[0].objects[0].iou_at_clicks == (1,)
    assert scores[0].objects[0].iou_after(5) == 1
    assert metrics["iou_box"] == 1
    assert metrics["n_objects"] == 2
    assert metrics["n_too_small"] == 1
    disc = ellipse_in_box((0, 0, 21, 21), (21, 21)).mean()
    ellipse = ellipse_in_box((0, 0, 21, 31), (21, 31)).mean()
    assert metrics["iou_ellipse"] == pytest.approx((disc + ellipse) / 2)
    # One click for the object that is right, five for the other; only the first is not fed back;
    # and a scribble on each.
    assert model.fed_back == [False, False, False, True, True, True, True, False]
    assert len(scores[0].objects[1].seconds) == 5
    assert (metrics["noc_80"], metrics["noc_80_failed"]) == ((1 + 5) / 2, 0.5)


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
    every = [o.iou_at_clicks[0] for s in both for o in s.objects]
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
    few = PromptSettings(most_clicks=6)
    first, again = (
        prompt_metrics(list(evaluate_prompts(tiny_model, [sample], few)), few) for _ in range(2)
    )
    first.pop("intervals"), again.pop("intervals")  # one patient: none
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
    assert score.objects[0].iou_at_clicks[0] == pytest.approx(iou)
    assert score.objects[0].iou_box == pytest.approx(iou)
    assert settings.model_dump()["largest_share"] == share


class Slow(Square):
    """Its square grows by two pixels a side with every click."""

    def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
        self.half_px = 2 * max(1, len(prompts.points_yx))
        return super().decode_prompts(embedding, replace(prompts, points_yx=prompts.points_yx[:1],
            positive=prompts.positive[:1]), previous=previous)  # fmt: skip


def test_clicks_are_counted_to_the_iou_wanted_and_no_further(sample):
    labels = np.zeros((80, 100), np.uint8)
    labels[20:61, 30:71] = 1  # 41 x 41: the square is as large after ten clicks
    Image.fromarray(labels).save(sample.labels_path)
    settings = PromptSettings(clicks=(1, 3))
    scores = list(evaluate_prompts(Slow(2), [sample], settings))
    found = prompt_metrics(scores, settings)
    ious = [((4 * n + 1) / 41) ** 2 for n in range(1, 11)]
    assert scores[0].objects[0].iou_at_clicks == pytest.approx(ious)
    assert found["noc_80"] == next(n for n, iou in enumerate(ious, 1) if iou >= 0.8)
    assert found["noc_90"] == 10
    assert (found["noc_80_failed"], found["noc_90_failed"]) == (0, 0)
    capped = PromptSettings(clicks=(1,), most_clicks=4)
    found = prompt_metrics(list(evaluate_prompts(Slow(2), [sample], capped)), capped)
    assert (found["noc_90"], found["noc_90_failed"]) == (4, 1)


def test_noisy_boxes_are_off_by_what_is_said_and_the_same_again(sample):
    settings = PromptSettings(clicks=(1,), most_clicks=1)
    one, again = (list(evaluate_prompts(Square(3), [sample], settings)) for _ in range(2))
    assert [o.iou_noisy_box for o in one[0].objects] == [o.iou_noisy_box for o in again[0].objects]
    for o in one[0].objects:
        assert 0.6**2 / 1.2**2 < o.iou_noisy_box < 1
    other = settings.model_copy(update={"seed": 1})
    third = list(evaluate_prompts(Square(3), [sample], other))
    assert third[0].objects[0].iou_noisy_box != one[0].objects[0].iou_noisy_box
    exact = settings.model_copy(update={"box_noise": 0.0})
    assert prompt_metrics(list(evaluate_prompts(Square(3), [sample], exact)))["iou_noisy_box"] == 1


def test_boxes_stay_inside_the_image(rng):
    boxes = [noisy_box((0, 90, 4, 100), (80, 100), 0.9, (0, "i", k)) for k in range(200)]
    for y0, x0, y1, x1 in boxes:
        assert 0 <= y0 < y1 <= 80
        assert 0 <= x0 < x1 <= 100
    sides = np.array(
        [
            y1 - y0
            for y0, _, y1, _ in (
                noisy_box((20, 20, 60, 60), (80, 100), 0.2, (0, "i", k)) for k in range(200)
            )
        ]
    )
    assert 0.79 * 40 < sides.min() < 0.85 * 40 < 1.15 * 40 < sides.max() < 1.21 * 40


def test_scribbles_run_along_an_object():
    mask = np.zeros((60, 90), bool)
    mask[10:21, 10:80] = True
    path = scribble_path(mask)
    assert np.hypot(*np.diff(path, axis=0).T).max() < 1.5  # without gaps
    assert mask[tuple(path.astype(int).T)].all()
    assert np.ptp(path[:, 1]) > 50
    assert len(scribble_points(path)) > 4
    dot = np.zeros((20, 20), bool)
    dot[7, 9] = True
    assert scribble_path(dot).tolist() == [[7, 9]]
    mask[40:43, 5:8] = True  # a small piece elsewhere
    assert scribble_path(mask)[:, 0].max() < 25


def test_scores_survive_as_lines_of_json(sample):
    scores = list(evaluate_prompts(Square(10), [sample]))
    again = [ImageScore.of_values(json.loads(json.dumps(s.to_values()))) for s in scores]
    assert again == scores


def test_a_model_that_knows_classes_adds_a_baseline(sample, tiny_pathsam, monkeypatch):
    """Its class map finds the first object and a stripe beside it, and nothing of the second."""
    found = np.zeros((80, 100), np.uint8)
    found[10:31, 20:51] = 1
    monkeypatch.setattr(
        "napari_pathsam.evaluation.prompting.segment_classes", lambda model, image, mpp: found
    )
    settings = PromptSettings(clicks=(1,), most_clicks=1)
    scores = list(evaluate_prompts(Square(10), [sample], settings, classes=tiny_pathsam))
    assert [o.iou_component for o in scores[0].objects] == [pytest.approx(21 / 31), 0]
    assert prompt_metrics(scores, settings)["iou_component"] == pytest.approx(21 / 31 / 2)
    assert ImageScore.of_values(scores[0].to_values()) == scores[0]
    nowhere = replace(sample, mpp=None)
    scores = list(evaluate_prompts(Square(10), [nowhere], settings, classes=tiny_pathsam))
    assert "iou_component" not in prompt_metrics(scores, settings)


def test_its_class_map_is_its_own(sample, tiny_pathsam):
    settings = PromptSettings(clicks=(1,), most_clicks=1)
    (score,) = evaluate_prompts(tiny_pathsam.base, [sample], settings, classes=tiny_pathsam)
    assert all(0 <= o.iou_component <= 1 for o in score.objects)


def test_what_nobody_looked_at_is_no_object_and_costs_nothing(sample, tmp_path):
    """Half of each answer is where nobody looked: what is left of it is right."""
    labels = np.zeros((80, 100), np.uint8)
    labels[10:31, 20:31], labels[:, 31:] = 1, 255
    Image.fromarray(labels).save(tmp_path / "partly.png")
    partly = replace(sample, labels_path=tmp_path / "partly.png", label_kind="classes")
    settings = PromptSettings(clicks=(1,), most_clicks=1)

    class Twice(Square):  # twice as wide as the object: to the right of it nobody looked
        def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
            return super().decode_prompts(embedding, Prompts(box=(10, 20, 31, 42)))

    (score,) = evaluate_prompts(Twice(3), [partly], settings)
    assert [(o.area_px, o.iou_after(1), o.iou_box) for o in score.objects] == [(231, 1, 1)]
    objects, known = objects_to_find(partly, labels)
    assert objects.max() == 1
    np.testing.assert_array_equal(known, labels != 255)
    drawn = replace(partly, objects=lambda s: (s.load()[0], np.where(labels == 1, 7, 0)))
    assert set(np.unique(objects_to_find(drawn, labels)[0])) == {0, 7}
    assert objects_to_find(sample, sample.load()[1])[1] is None


def test_a_tile_of_one_class_has_nothing_to_click_at(sample):
    tile = replace(sample, labels_path=None, class_id=1)
    with pytest.raises(UnavailableError, match=r"i\.png is a tile of one class"):
        list(evaluate_prompts(Square(3), [tile]))
