"""Class maps over samples: pooled counts, objects, tiles; exact where the answer is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core import metrics
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.instance_metrics import InstanceCounts
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation import answers, classes
from napari_pathsam.evaluation.class_figures import class_metrics
from napari_pathsam.evaluation.class_names import match_classes
from napari_pathsam.evaluation.class_scores import ClassScore
from napari_pathsam.evaluation.classes import ClassSettings, evaluate_classes, majority
from napari_pathsam.evaluation.confidence import SureMap
from napari_pathsam.evaluation.report import Report
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.objects import SharpObject, SharpTile
from napari_pathsam.models.pathsam import ClassLogits

SHAPE = (80, 100)


@pytest.fixture
def sample(tmp_path):
    """A coarse image; labels 1 and 2 as classes, two squares of 400 and 800 pixels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:30, 20:40], labels[50:70, 50:90] = 1, 2
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    Image.fromarray(coarse.repeat(10, 0).repeat(10, 1)).save(tmp_path / "i.png")
    return with_labels(
        Sample("s", "g", "val", tmp_path / "i.png", tmp_path / "l.png", 0.5, "classes"), labels
    )


def with_labels(sample, labels, **changes):
    path = sample.image_path.parent / f"labels_{abs(hash(labels.tobytes()))}.png"
    Image.fromarray(labels).save(path)
    return replace(sample, labels_path=path, **changes)


@pytest.fixture
def always(tiny_pathsam, monkeypatch):
    """The model with the same answer everywhere: 0 background, 1 gland, 2 stroma."""

    def answering(channel):
        def decode(embedding):
            logits = torch.zeros(3, *(n // 4 for n in embedding.input_yx))
            logits[channel] = 5
            return ClassLogits(logits, torch.ones(3), embedding.shape_yx, tiny_pathsam.classes)

        monkeypatch.setattr(tiny_pathsam, "decode_classes", decode)
        return tiny_pathsam

    return answering


def measured(model, samples, settings=None, **kwargs):
    return class_metrics(list(evaluate_classes(model, samples, settings, **kwargs)))


def test_its_own_answer_is_right(tiny_pathsam, sample):
    own = segment_classes(tiny_pathsam, sample.load()[0], 0.5)
    assert set(np.unique(own)) == {0, 1, 2}
    found = measured(tiny_pathsam, [with_labels(sample, own)])
    assert all(found[k] == 1 for k in ("dice", "iou", "precision", "recall", "mean_dice"))
    assert found["boundary_f1"] == 1
    assert found["pixel_accuracy"] == 1
    assert {n: c["pixels"] for n, c in found["per_class"].items()} == {
        "gland": (own == 1).sum(), "stroma": (own == 2).sum()
    }  # fmt: skip


def test_counts_are_those_of_the_class_map(tiny_pathsam, sample):
    image, labels = sample.load()
    counts = metrics.confusion(labels, segment_classes(tiny_pathsam, image, 0.5), 3)
    found = measured(tiny_pathsam, [sample])
    assert found["confusion"]["pixels"] == counts.tolist()
    assert found["confusion"]["classes"] == ["background", "gland", "stroma"]
    for i, values in enumerate(found["per_class"].values(), start=1):
        assert values["dice"] == pytest.approx(metrics.dice_per_class(counts)[i])
    assert found["mean_dice"] == pytest.approx(metrics.dice_per_class(counts)[1:].mean())
    single = metrics.foreground(counts)
    assert found["dice"] == pytest.approx(metrics.dice_per_class(single)[1])


def test_iou_and_dice_are_one_figure(tiny_pathsam, sample):
    found = measured(tiny_pathsam, [sample])
    for figures in (found, *found["per_class"].values()):
        assert 0 < figures["dice"] < 1
        assert figures["iou"] == pytest.approx(figures["dice"] / (2 - figures["dice"]))


def test_all_foreground_has_the_prevalence_for_its_iou(always, sample):
    found = measured(always(1), [sample])
    assert found["iou"] == pytest.approx(1200 / 8000)
    assert (found["recall"], found["precision"]) == (1, pytest.approx(1200 / 8000))
    assert found["per_class"]["gland"]["iou"] == pytest.approx(400 / 8000)
    assert found["per_class"]["stroma"]["dice"] == 0
    nothing = measured(always(0), [sample])
    assert (nothing["dice"], nothing["recall"]) == (0, 0)
    assert math.isnan(nothing["precision"])


def test_counts_are_pooled_not_averaged(always, sample):
    empty = with_labels(sample, np.zeros(SHAPE, np.uint8))
    found = measured(always(1), [sample, empty])
    assert found["iou"] == pytest.approx(1200 / 16000)


def test_what_nobody_labelled_is_not_counted(always, sample):
    model, labels = always(1), sample.load()[1].copy()
    found = measured(model, [sample], ClassSettings(ignore_id=2))
    assert np.sum(found["confusion"]["pixels"]) == 8000 - 800
    labels[:, :10] = 255  # class labels never use this id for a class
    found = measured(model, [with_labels(sample, labels)])
    assert found["confusion"]["pixels"] == [[0, 8000 - 1200 - 800, 0], [0, 400, 0], [0, 800, 0]]


def test_sparse_labels_say_nothing_of_the_rest(always, sample):
    found = measured(always(1), [sample], ClassSettings(sparse=True))
    assert found["confusion"]["pixels"] == [[0, 0, 0], [0, 400, 0], [0, 800, 0]]
    assert found["precision"] == 1
    assert math.isnan(found["boundary_f1"])  # every outline borders on what nobody labelled


def test_instances_are_scored_as_objects(always, sample, tiny_pathsam):
    labels = np.zeros(SHAPE, np.uint16)
    labels[:, :50], labels[:40, 60:] = 300, 301
    path = sample.image_path.parent / "i.tif"
    Image.fromarray(labels).save(path)
    glands = replace(sample, labels_path=path, label_kind="instances")
    found = measured(always(1), [glands], ClassSettings(mapping={"*": "gland"}),
                     classes=ClassTable.of("gland"))  # fmt: skip
    # One object over everything: it covers the larger one, and the other is missed.
    assert found["object_f1"] == pytest.approx(2 / 3)
    assert found["objects"]["per_image"]["object_f1"] == found["object_f1"]
    assert {k: found["objects"][k] for k in ("in_labels", "predicted", "right", "lone")} == {
        "in_labels": 2, "predicted": 1, "right": 1, "lone": 0
    }  # fmt: skip
    assert found["object_hausdorff"] == found["object_hausdorff_diagonal"]
    assert list(found["per_class"]) == ["gland"]
    assert found["dice"] == pytest.approx(2 * 5600 / (5600 + 8000))
    missed = measured(always(0), [glands], ClassSettings(mapping={"*": "gland"}),
                      classes=ClassTable.of("gland"))  # fmt: skip
    assert (missed["object_f1"], missed["object_dice"]) == (0, 0)
    assert missed["object_hausdorff"] == math.inf
    assert missed["object_hausdorff_diagonal"] == pytest.approx(math.hypot(*SHAPE))


def test_objects_are_told_apart_and_outlined_anew_on_request(tiny_pathsam, sample, monkeypatch):
    discs = np.hypot(*(np.indices(SHAPE) - 40)) < 20
    discs |= np.hypot(*(np.indices(SHAPE) - np.array([40, 71])[:, None, None])) < 13
    flat = SureMap(
        discs.astype(np.uint8), np.ones((3, 1, 1), np.float32), Region(0, 0, 1, 1), (1, 1)
    )
    monkeypatch.setattr(answers, "segment_surely", lambda *_, **__: flat)
    glands = with_labels(sample, discs.astype(np.uint8), label_kind="instances")
    apart = measured(tiny_pathsam, [glands], ClassSettings(mapping={"*": "object"}, split=True))
    assert apart["objects"]["predicted"] == 2
    joined = measured(tiny_pathsam, [glands], ClassSettings(mapping={"*": "object"}))
    assert joined["objects"]["predicted"] == 1
    assert joined["object_dice"] == joined["boundary_f1"] == 1
    # Sure of the two centres only: the objects grow from there, however they are shaped.
    sure = np.full(SHAPE, 0.6, np.float32)
    sure[30:50, 30:50] = sure[35:45, 66:76] = 0.9
    odds = np.stack([1 - sure, sure, np.zeros(SHAPE, np.float32)])
    told = SureMap(discs.astype(np.uint8), odds, Region.of(SHAPE), (1, 1))
    monkeypatch.setattr(answers, "segment_surely", lambda *_, **__: told)
    for seed, n in ((0.8, 2), (0.5, 1)):
        grown = ClassSettings(mapping={"*": "object"}, seed=seed)
        assert measured(tiny_pathsam, [glands], grown)["objects"]["predicted"] == n
    monkeypatch.setattr(answers, "segment_surely", lambda *_, **__: flat)
    larger = np.ones((20, 30), bool)

    def sharpening(model, slide, labels, *, mpp):
        assert slide.shape_yx == labels.shape
        yield SharpTile((SharpObject(1, Region(0, 0, 20, 30), larger, 1.0),), 1, 1)

    monkeypatch.setattr(answers, "sharpen_tiles", sharpening)
    settings = ClassSettings(mapping={"*": "object"}, split=False, sharpen=True)
    moved = measured(tiny_pathsam, [glands], settings)
    overlap = np.count_nonzero(discs[:20, :30])
    assert moved["recall"] == pytest.approx(overlap / discs.sum())
    assert moved["precision"] == pytest.approx(overlap / 600)


def test_sharpening_runs_on_a_real_model(tiny_pathsam, sample):
    settings = ClassSettings(sharpen=True)
    found = measured(tiny_pathsam, [sample], settings)
    assert 0 < found["dice"] <= 1
    assert np.sum(found["confusion"]["pixels"]) == 8000


def test_homogeneous_tiles_are_given_their_most_frequent_class(always, sample):
    tiles = [replace(sample, labels_path=None, class_id=i, name=str(i)) for i in (1, 2, 2, 2)]
    found = measured(always(2), tiles)
    assert found["tiles"]["n"] == 4
    assert found["tiles"]["accuracy"] == found["tile_accuracy"] == 3 / 4
    low, high = found["intervals"]["figures"]["tile_accuracy"]
    assert math.isnan(low)  # one patient
    patients = [replace(tile, group=tile.name) for tile in tiles]
    low, high = measured(always(2), patients)["intervals"]["figures"]["tile_accuracy"]
    assert low < 3 / 4 < high
    assert found["tiles"]["recall"] == {"gland": 0, "stroma": 1}
    assert found["tiles"]["confusion"]["tiles"] == [[0, 0, 0], [0, 0, 1], [0, 0, 3]]
    assert "boundary_f1" not in found
    blank = measured(always(0), tiles)
    assert blank["tiles"]["accuracy"] == 0
    assert [row[0] for row in blank["tiles"]["confusion"]["tiles"]] == [0, 1, 3]


def test_the_majority_leaves_background_out():
    assert majority(np.array([[0, 0, 0, 2, 2, 1]])) == 2
    assert majority(np.zeros((3, 3), int)) == 0


def test_whose_pixel_size_was_taken_is_told(always, sample):
    model = always(1)
    three = [sample, replace(sample, mpp=None, nominal_mpp=1.4), replace(sample, mpp=None)]
    scores = list(evaluate_classes(model, three))
    assert [(s.mpp, s.pixel_size) for s in scores] == [
        (0.5, "given"), (1.4, "nominal"), (model.config.mpp, "model")
    ]  # fmt: skip
    told = class_metrics(scores)["pixel_size"]
    assert told == {"images": {"given": 1, "nominal": 1, "model": 1}, "mpp": [0.5, 1.4]}


def test_works_at_another_pixel_size(tiny_pathsam, sample, monkeypatch):
    seen = []
    encode = type(tiny_pathsam).encode

    def spying(self, image, **kwargs):
        seen.append(image.shape[:2])
        return encode(self, image, **kwargs)

    monkeypatch.setattr(type(tiny_pathsam), "encode", spying)
    for at_mpp in (None, 1.0, 0.25):
        seen.clear()
        found = measured(tiny_pathsam, [sample], ClassSettings(at_mpp=at_mpp))
        assert np.sum(found["confusion"]["pixels"]) == 8000  # compared at the labels' size
        side = 100 * 0.5 / (at_mpp or 0.5)
        assert all(abs(max(shape) - min(side, tiny_pathsam.tile_px)) <= 32 for shape in seen)


def test_ids_that_are_no_class_are_told(tiny_pathsam, sample):
    strange = with_labels(sample, np.full(SHAPE, 9, np.uint8))
    with pytest.raises(BadImageError, match=r"labels of s \(.*\.png\) hold the ids 9"):
        measured(tiny_pathsam, [strange])


def test_closing_stops_and_scores_count(tiny_pathsam, sample):
    running = evaluate_classes(tiny_pathsam, [sample] * 3)
    first = next(running)
    running.close()
    assert (first.done, first.total, first.name, first.group) == (1, 3, "s", "g")


def test_figures_are_valid_json(always, sample, tmp_path):
    report = Report(
        model="m", dataset="d", split="s", task="classes", n_images=1,
        metrics=measured(always(0), [replace(sample, label_kind="instances")],
                         ClassSettings(mapping={"*": "object"})), settings={},
    )  # fmt: skip
    report.write(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert read["object_hausdorff"] is None
    assert read["object_f1"] == 0


def test_how_sure_it_was(always, sample):
    found = measured(always(1), [sample])
    sure = 1 / (1 + 2 * math.exp(-5))  # a logit of 5 against two of 0
    assert found["ece"] == pytest.approx(abs(sure - 400 / 8000), abs=1e-3)
    assert found["calibration"]["right"][-1] == pytest.approx(400 / 8000)
    # Both classes counting as one: the probability is that of both together.
    both = measured(always(1), [sample], ClassSettings(mapping={"*": "gland"}))
    assert both["ece"] == pytest.approx(1 - 1 / (2 * math.exp(5) + 1) - 400 / 8000, abs=0.01)


def test_averages_are_named_and_absent_classes_counted(always, sample):
    empty = with_labels(sample, np.zeros(SHAPE, np.uint8), name="empty", group="h")
    found = measured(always(1), [sample, empty])
    assert "pooled" in found["averaging"]
    assert found["micro_dice"] == pytest.approx(2 * 400 / (2 * 400 + 15600 + 800))
    assert found["mean_recall"] == pytest.approx((1 + 0) / 2)
    per_image = found["per_image"]
    assert per_image["iou"] == pytest.approx((1200 / 8000 + 0) / 2)
    assert per_image["per_class"]["stroma"] == {
        "dice": 0, "iou": 0, "recall": 0, "images": 1, "absent": 1, "precision": pytest.approx(
            math.nan, nan_ok=True)
    }  # fmt: skip
    assert found["as_published"]["sam_path_iou_is_recall"] == pytest.approx(400 / (400 + 800 + 800))


def test_intervals_are_over_patients_and_the_same_twice(tiny_pathsam, sample):
    labels = sample.load()[1]
    samples = [
        with_labels(sample, np.roll(labels, 9 * i, 1), name=f"s{i}", group=f"p{i // 2}")
        for i in range(6)
    ]
    found = measured(tiny_pathsam, samples)
    told = found["intervals"]
    assert (told["groups"], told["resamples"], told["level"]) == (3, 1000, 0.95)
    assert {"dice", "iou", "mean_dice", "gland: dice", "boundary_f1", "ece"} <= set(told["figures"])
    low, high = told["figures"]["dice"]
    assert low < found["dice"] < high
    assert measured(tiny_pathsam, samples)["intervals"] == told
    alone = measured(tiny_pathsam, [sample])["intervals"]
    assert alone["groups"] == 1
    assert np.isnan(alone["figures"]["dice"]).all()


@pytest.mark.slow
def test_scores_survive_as_lines_of_json(tiny_pathsam, sample):
    labels = sample.load()[1]
    glands = with_labels(sample, labels.astype(np.uint16), label_kind="instances")
    settings = ClassSettings(mapping={"*": "object"}, as_published=True)
    for one, chosen in ((glands, settings), (sample, ClassSettings())):
        scores = list(evaluate_classes(tiny_pathsam, [one], chosen))
        again = [ClassScore.of_values(json.loads(json.dumps(s.to_values()))) for s in scores]
        assert json.dumps(class_metrics(again)) == json.dumps(class_metrics(scores))
    assert class_metrics(scores)["ece"] >= 0


def test_figures_of_objects(always, sample):
    labels = np.zeros(SHAPE, np.uint16)
    labels[:, :60], labels[:40, 70:] = 1, 2
    glands = with_labels(sample, labels, label_kind="instances")
    settings = ClassSettings(mapping={"*": "gland"}, as_published=True)
    scores = list(evaluate_classes(always(1), [glands], settings, classes=ClassTable.of("gland")))
    found = class_metrics(scores)
    assert found["pq"] == pytest.approx(2 * 0.6 / 3)
    assert found["average_precision"]["0.60"] == pytest.approx(1 / 2)
    assert found["average_precision"]["0.65"] == 0
    assert found["count_error"] == 1
    assert found["object_hausdorff_um"] == pytest.approx(0.5 * found["object_hausdorff"])
    assert found["per_image"]["object_hausdorff_um"] == found["object_hausdorff_um"]
    assert scores[0].sizes == ((4800, pytest.approx(2 * 4800 / 12800)),
                               (1200, pytest.approx(2 * 1200 / 9200)))  # fmt: skip
    assert found["as_published"]["dtu_f1_is_pixel_f1"] == pytest.approx(found["dice"], abs=0.01)


def test_areas_that_hang_together_are_measured_by_size(always, sample):
    """One gland is found and a part of the other; stroma is called gland, which finds none."""
    found = np.zeros(SHAPE, np.uint8)
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:15, 5:15], labels[5:25, 40:60], labels[50:70, 50:90] = 1, 1, 2
    found[5:15, 5:15], found[5:25, 40:50], found[50:70, 50:90] = 1, 1, 1
    match = match_classes(ClassTable.of("gland", "stroma"), ClassTable.of("gland", "stroma"))
    classed = with_labels(sample, labels)
    whole = answers.answer(always(1), classed, match, ClassSettings())
    scored = classes.score(replace(whole, found=found), classed, match, ClassSettings())
    assert scored.sizes == ((100, 1), (400, pytest.approx(2 * 200 / 600)), (800, 0))


def test_objects_of_several_classes_give_mpq(always, sample):
    """Of two objects the gland is found in full, the other one is called a gland, too."""
    objects = np.zeros(SHAPE, np.int32)
    objects[5:25, 5:25], objects[40:70, 40:70] = 3, 9
    labels = np.where(objects == 3, 1, np.where(objects == 9, 2, 0)).astype(np.uint8)
    kinds = replace(with_labels(sample, labels), objects=lambda s: (s.load()[0], objects))
    model = always(1)
    found = answers.answer(model, kinds, match_classes(model.classes, model.classes),
                           ClassSettings())  # fmt: skip
    shown = replace(found, found=(objects > 0).astype(np.uint8), objects=objects.copy())
    scored = classes.score(shown, kinds, match_classes(model.classes, model.classes),
                           ClassSettings())  # fmt: skip
    figures = class_metrics([scored])
    assert figures["per_class"]["gland"]["pq"] == pytest.approx(2 / 3)  # one right, one too many
    assert figures["per_class"]["stroma"]["pq"] == 0
    assert figures["mpq"] == pytest.approx(1 / 3)
    assert figures["per_image"]["mpq"] == pytest.approx(1 / 3)
    absent = replace(scored, by_class=(scored.by_class[0], InstanceCounts()))
    assert class_metrics([absent])["mpq"] == pytest.approx(2 / 3)  # in neither map: left out
    again = ClassScore.of_values(json.loads(json.dumps(scored.to_values())))
    assert again.by_class == scored.by_class
    assert "mpq" not in measured(model, [with_labels(sample, labels)])
