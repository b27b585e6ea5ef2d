"""Runs in folders: written image by image, gone on with, refused where something changed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.class_figures import class_headlines, class_metrics
from napari_pathsam.evaluation.classes import ClassSettings, evaluate_classes
from napari_pathsam.evaluation.compare import compared
from napari_pathsam.evaluation.gallery import compared as drawn
from napari_pathsam.evaluation.gallery import worst_first
from napari_pathsam.evaluation.html_report import images_csv
from napari_pathsam.evaluation.runs import CARD, LINES, Run, RunCard, images_sha256


@pytest.fixture
def samples(tmp_path, rng):
    """Six images of three patients."""
    found = []
    for i in range(6):
        labels = np.zeros((64, 80), np.uint8)
        labels[5 + i : 25 + i, 5:30], labels[40:60, 40:70] = 1, 2
        coarse = rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((80, 64)).save(tmp_path / f"i{i}.png")
        Image.fromarray(labels).save(tmp_path / f"l{i}.png")
        found.append(
            Sample(f"s{i}", f"p{i // 2}", "val", tmp_path / f"i{i}.png", tmp_path / f"l{i}.png",
                   0.5, "classes")
        )  # fmt: skip
    return found


@pytest.fixture
def card(samples):
    return RunCard(
        model="m", weights_sha256={"m": "0"}, dataset="d", split="val", task="classes", n_images=6,
        images=images_sha256(samples), settings=ClassSettings().model_dump(mode="json"),
        versions={"python": "3"},
    )  # fmt: skip


def test_a_run_that_was_stopped_ends_as_one_that_was_not(samples, card, tiny_pathsam, tmp_path):
    whole = list(evaluate_classes(tiny_pathsam, samples))
    run = Run.begin(tmp_path / "run", card)
    stopped = run.keep(evaluate_classes(tiny_pathsam, run.left(samples)))
    next(stopped), next(stopped)
    stopped.close()
    with (tmp_path / "run" / LINES).open("a") as file:
        file.write('{"name": "s2", "gro')  # killed while it wrote
    again = Run.begin(tmp_path / "run", card, resume=True)
    assert [s.name for s in again.left(samples)] == ["s2", "s3", "s4", "s5"]
    with pytest.raises(BadFileError, match="after 2 of 6"):
        Run.read(tmp_path / "run")
    rest = list(again.keep(evaluate_classes(tiny_pathsam, again.left(samples))))
    assert [s.done for s in rest] == [3, 4, 5, 6]
    read = Run.read(tmp_path / "run").scores
    one, two = (class_metrics(scores) for scores in (whole, read))
    one.pop("seconds_per_image"), two.pop("seconds_per_image")
    assert json.dumps(one) == json.dumps(two)


def test_what_changed_is_named(samples, card, tmp_path):
    Run.begin(tmp_path / "run", card)
    with pytest.raises(BadFileError, match="--resume"):
        Run.begin(tmp_path / "run", card)
    other = card.model_copy(update={"weights_sha256": {"m": "1"}})
    with pytest.raises(BadFileError, match="other weights_sha256"):
        Run.begin(tmp_path / "run", other, resume=True)
    fewer = card.model_copy(update={"images": images_sha256(samples[:5])})
    with pytest.raises(BadFileError, match="other images"):
        Run.begin(tmp_path / "run", fewer, resume=True)
    assert images_sha256(samples) == card.images
    Image.new("L", (200, 200)).save(samples[0].labels_path)
    assert images_sha256(samples) != card.images


def test_damaged_runs_are_told(card, tmp_path):
    with pytest.raises(BadFileError, match="holds no run"):
        Run.read(tmp_path)
    Run.begin(tmp_path / "run", card)
    (tmp_path / "run" / LINES).write_text("{}\n{}\n")
    with pytest.raises(BadFileError, match="Line 1"):
        Run.read(tmp_path / "run")
    (tmp_path / "run" / CARD).write_text("{")
    with pytest.raises(BadFileError, match="damaged"):
        Run.read(tmp_path / "run")


def test_the_worst_comes_first(samples, tiny_pathsam):
    scores = list(evaluate_classes(tiny_pathsam, samples))
    title, order = worst_first(class_headlines(scores), scores)
    assert "Dice" in title
    values = [value for _, value in order]
    assert values == sorted(values)
    assert sorted(i for i, _ in order) == list(range(6))


def test_a_line_an_image(samples, tiny_pathsam):
    scores = list(evaluate_classes(tiny_pathsam, samples))
    lines = images_csv(scores, class_headlines(scores)).splitlines()
    assert len(lines) == 7
    heads, first = (line.split(",") for line in lines[:2])
    assert heads[:3] == ["image", "group", "dice"]
    alone = class_metrics(scores[:1])
    assert float(first[2]) == pytest.approx(alone["dice"], rel=1e-5)
    assert float(first[heads.index("gland: iou")]) == pytest.approx(
        alone["per_class"]["gland"]["iou"], rel=1e-5
    )


def test_pictures_show_labels_and_answers():
    image = np.full((50, 70, 3), 128, np.uint8)
    target, pred = np.zeros((2, 50, 70), int)
    target[10:20, 10:20], pred[30:40, 40:60] = 1, 300
    picture = np.asarray(drawn(image, target, pred))
    height, width = picture.shape[:2]
    assert width == 2 * 210 + 8
    left, right = picture[:, :210].astype(int), picture[:, 218:].astype(int)
    assert (left[35 * 3, 50 * 3] == 128).all()  # the image itself
    assert np.ptp(right[35 * 3, 50 * 3]) > 20  # filled in colour
    assert (right[15 * 3, 15 * 3] == 128).all()  # labelled, not found
    for part in (left, right):
        assert (part == 255).all(axis=2)[:, 10 * 3 : 20 * 3].any()  # the label's outline
    assert height == 150


def test_labels_of_several_classes_are_outlined_in_their_colours():
    target = np.zeros((50, 70), np.uint8)
    target[10:40, 10:30], target[10:40, 45:60] = 1, 2
    image = np.full((50, 70, 3), 128, np.uint8)
    left = np.asarray(drawn(image, target, target, colors={1: "#ff0000", 2: "#0000ff"}))[:, :210]
    red, blue = ((left == color).all(axis=2) for color in ((255, 0, 0), (0, 0, 255)))
    assert red[:, :110].any()
    assert blue[:, 110:].any()
    assert not red[:, 110:].any()
    assert not blue[:, :110].any()
    assert not (left == 255).all(axis=2).any()


def better(score, by):
    """The same image with some of the wrong pixels of class 1 put right."""
    counts = score.counts.copy()
    moved = min(by, int(counts[1, 0]))
    counts[1, 1] += moved
    counts[1, 0] -= moved
    return replace(score, counts=counts)


@pytest.mark.slow
def test_comparing(samples, tiny_pathsam):
    scores = list(evaluate_classes(tiny_pathsam, samples))
    both = (ClassSettings(), ClassSettings())
    same = compared(scores, scores[::-1], both)  # in any order
    assert (same.n_images, same.n_groups) == (6, 3)
    assert all(f.apart.value == 0 and f.b_is_better is None for f in same.figures.values())
    improved = [better(s, 40) for s in scores]
    found = compared(scores, improved, both)
    recall = found.figures["gland: recall"]
    assert recall.apart.value == pytest.approx(recall.b - recall.a)
    assert recall.apart.value > 0
    assert recall.b_is_better is True
    back = compared(improved, scores, both).figures["gland: recall"]
    assert back.b_is_better is False
    assert (back.apart.low, back.apart.high) == pytest.approx(
        (-recall.apart.high, -recall.apart.low)
    )
    json.dumps(found.to_values())


def test_what_cannot_be_paired(samples, tiny_pathsam):
    scores = list(evaluate_classes(tiny_pathsam, samples))
    both = (ClassSettings(), ClassSettings())
    with pytest.raises(BadFileError, match="only A has s0"):
        compared(scores, scores[1:], both)
    with pytest.raises(BadFileError, match="differently"):
        compared(scores, [replace(s, names=("background", "x", "y")) for s in scores], both)
    with pytest.raises(BadFileError, match="counted"):
        compared(scores, [replace(s, counts=s.counts * 2) for s in scores], both)
    with pytest.raises(BadFileError, match="no image"):
        compared([], [], both)
