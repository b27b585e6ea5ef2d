"""Browsing a data set without a viewer: opening, going about, scoring, the worst first."""

from __future__ import annotations

import json
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.evaluation.classes import evaluate_classes
from napari_pathsam.workspace.browsing import Browsing
from napari_pathsam.workspace.runner import InlineRunner

SIDE = 72


@pytest.fixture
def folder(tmp_path, rng):
    """Four images with objects; the labels of the third are those of a perfect model."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for n in range(4):
        image = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[8:40, 4 : 20 + 12 * n], labels[50:70, 10:60] = 1, 2
        Image.fromarray(image).save(tmp_path / "images" / f"n{n}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"n{n}.png")
    return tmp_path


class Heard:
    def __init__(self, browsing: Browsing) -> None:
        self.failed, self.images, self.answers, self.progress = [], [], [], []
        browsing.failed.connect(self.failed.append)
        browsing.image_changed.connect(self.images.append)
        browsing.answer_changed.connect(self.answers.append)
        browsing.progress_changed.connect(self.progress.append)


@pytest.fixture
def one_class(tiny_pathsam):
    """The small model with its second class out of the way."""
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.models.pathsam import PathSam

    return PathSam(tiny_pathsam.config, tiny_pathsam.base, ClassTable.of("object")).eval()


@pytest.fixture
def opened(folder, one_class):
    browsing = Browsing(lambda name, device: one_class, InlineRunner(), InlineRunner())
    heard = Heard(browsing)
    browsing.open("folder", folder)
    return browsing, heard


def test_an_opened_data_set_shows_its_first_image_and_goes_on(opened):
    browsing, heard = opened
    assert not heard.failed
    assert browsing.n == 4
    assert browsing.image.sample.name == "n0"
    assert browsing.image.kind == "instances"
    assert (np.unique(browsing.image.labels) == (0, 1, 2)).all()
    browsing.step(1)
    browsing.step(1)
    assert browsing.image.sample.name == "n2"
    browsing.step(-1)
    assert browsing.image.index == 1
    browsing.go(3)
    browsing.step(1)  # there is none
    assert browsing.image.index == 3


def test_scores_are_those_of_evaluate_and_the_worst_comes_first(opened, one_class):
    browsing, heard = opened
    browsing.go_to_worst()
    assert "No image is scored yet" in heard.failed.pop()
    browsing.use_model("made")
    assert heard.answers[-1].index == 0  # the image that is shown is scored at once
    assert heard.answers[-1].prediction.shape == (SIDE, SIDE)
    assert browsing.order == [0, 1, 2, 3]
    browsing.score_all()
    assert heard.progress[-1] is None
    assert not browsing.scoring_all
    assert [p.done for p in heard.progress if p] == [1, 2, 3]
    wanted = list(evaluate_classes(one_class, browsing.opened.samples))
    for i, score in enumerate(wanted):
        np.testing.assert_array_equal(browsing.scores[i].score.counts, score.counts)
        assert browsing.scores[i].score.objects == score.objects
    values = [browsing.scores[i].figures["object_dice"].value for i in browsing.order]
    assert values == sorted(values)
    from napari_pathsam.evaluation.class_figures import class_metrics

    figures = class_metrics(wanted)
    assert browsing.totals["dice"].value == pytest.approx(figures["dice"])
    assert browsing.totals["pq"].value == pytest.approx(figures["pq"])
    browsing.use_order("object_hausdorff")
    values = [browsing.scores[i].figures["object_hausdorff"].value for i in browsing.order]
    assert values == sorted(values, reverse=True)  # a distance: the largest is the worst
    browsing.go_to_worst()
    assert browsing.image.index == browsing.order[0]
    browsing.use_order("")
    assert browsing.order == [0, 1, 2, 3]


@pytest.mark.parametrize("task", ["classes", "prompts"])
def test_the_copied_code_measures_the_same(opened, one_class, task, pathsam, monkeypatch, tmp_path):
    import napari_pathsam
    from napari_pathsam.workspace.browse_script import evaluate_command, evaluate_python

    browsing, heard = opened
    assert browsing.measured is None
    browsing.use_model("made", "cpu", task=task)
    browsing.use_mpp(0.7)  # not the model's, so that leaving it out would show
    browsing.score_all()
    assert not heard.failed
    asked = []
    load = lambda *name, **device: asked.append((name, device)) or one_class  # noqa: E731
    monkeypatch.setattr(napari_pathsam, "load_model", load, raising=False)
    monkeypatch.setattr(sys.modules["napari_pathsam.cli.evaluate"], "load", load)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(evaluate_python(browsing.measured), "copied", "exec"), scope)
    words = shlex.split(evaluate_command(browsing.measured))
    assert words[0] == "pathsam"
    status, _, told = pathsam(*words[1:])
    assert status == 0, told
    assert asked == [(("made",), {"device": "cpu"}), (("made", "cpu"), {})]
    written = json.loads((tmp_path / "folder-all.json").read_text())
    key = {"classes": "dice", "prompts": "iou_box"}[task]
    wanted = browsing.totals[key].value
    assert written["metrics"][key] == pytest.approx(wanted)
    assert scope["report"].metrics[key] == pytest.approx(wanted)
    assert written["n_images"] == scope["report"].n_images == 4
    assert written["settings"].get("most_clicks", 5) == 5


def test_a_model_is_scored_by_clicks_as_evaluate_does(opened, tiny_model, one_class):
    from napari_pathsam.evaluation.prompting import (
        PromptSettings,
        evaluate_prompts,
        prompt_metrics,
    )

    browsing, heard = opened
    stopped: list[int] = []
    browsing._checkpoint = lambda: stopped.append(1)
    browsing.use_model("made", task="prompts")  # a head: what it stands on answers
    assert not heard.failed
    assert len(stopped) == 2  # asked between objects whether to go on
    assert browsing.objects == (2, 2)
    browsing.score_all()
    shown = heard.answers[-1] or next(a for a in reversed(heard.answers) if a)
    assert shown.kind == "instances"
    assert set(np.unique(shown.prediction)) <= {0, 1, 2}
    settings = PromptSettings(most_clicks=5)
    wanted = list(evaluate_prompts(one_class.base, browsing.opened.samples, settings))
    for i, score in enumerate(wanted):
        got = [o.iou_at_clicks for o in browsing.scores[i].score.objects]
        assert got == [o.iou_at_clicks for o in score.objects]
    figures = prompt_metrics(wanted, settings)
    assert browsing.totals["iou_at_3"].value == pytest.approx(figures["iou_at_clicks"]["3"])
    assert browsing.totals["iou_box"].value == pytest.approx(figures["iou_box"])
    assert browsing.figure == "iou_at_3"
    values = [browsing.scores[i].figures["iou_at_3"].value for i in browsing.order]
    assert values == sorted(values)
    browsing.use_model("made")  # its classes are scored by themselves
    assert len(browsing.scores) == 1
    browsing._load = lambda name, device: tiny_model
    browsing.use_model("clicks", task="prompts")
    assert len(browsing.scores) == 1
    assert not heard.failed


@pytest.mark.slow
def test_a_model_that_finds_objects_is_scored_by_them(opened):
    import torch

    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.models.task_model import TaskModel
    from napari_pathsam.models.task_recipes import TASK_RECIPES

    browsing, heard = opened
    network = {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48), "frozen_norm": False}
    config = TASK_RECIPES["mask-rcnn"].config(mpp=0.5, tile_px=96, network=network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TaskModel(config, ClassTable.of("object")).eval()
    browsing._load = lambda name, device: model
    browsing.use_model("boxes")
    assert not heard.failed
    assert heard.answers[-1].kind == "instances"
    assert {"object_dice", "object_f1", "pq"} <= set(browsing.figures)
    assert browsing.figure == "object_dice"
    browsing.use_model("boxes", task="prompts")
    assert "answers no clicks" in heard.failed.pop()


def test_another_pixel_size_or_model_begins_anew(opened):
    browsing, _ = opened
    assert browsing.image.mpp is None
    browsing.use_model("made")
    assert list(browsing.scores) == [0]
    browsing.use_mpp(0.25)
    assert browsing.image.mpp == 0.25
    assert browsing.scores[0].score.mpp == 0.25
    browsing.use_model("other")
    browsing.step(1)
    assert set(browsing.scores) == {0, 1}
    browsing.use_model("made")
    assert set(browsing.scores) == {0, 1}  # 0 was kept, and 1 is what is shown
    browsing.use_model(None)
    assert not browsing.scores


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("glas", True, "holds no image of GlaS"),
        (None, True, "has the layout of none"),
        ("folder", False, "does not exist"),
    ],
)
def test_a_wrong_folder_is_one_sentence_or_two(tmp_path, name, make, says):
    browsing = Browsing(lambda name, device: None, InlineRunner(), InlineRunner())
    heard = Heard(browsing)
    root = tmp_path / "nothing"
    if make:
        root.mkdir()
    browsing.open(name, root)
    [text] = heard.failed
    assert says in text
    assert str(root) in text
    assert browsing.opened is None


def test_a_model_that_does_not_fit_is_said(opened, tiny_model, tiny_pathsam):
    browsing, heard = opened
    browsing._load = lambda name, device: tiny_model
    browsing.use_model("clicks")
    assert "knows no classes" in heard.failed.pop()
    browsing._load = lambda name, device: tiny_pathsam
    browsing.use_model("two classes")
    assert "finds gland, stroma" in heard.failed.pop()
    assert not browsing.scores


def test_only_the_newest_image_lands(folder, one_class):
    class Later(InlineRunner):
        def __init__(self):
            self.jobs = []

        def submit(self, fn, *args, then, failed):
            self.jobs.append((fn, args, then))
            return type("Job", (), {"cancel": lambda self: None})()

    files = Later()
    browsing = Browsing(lambda name, device: one_class, InlineRunner(), files)
    heard = Heard(browsing)
    browsing.open("folder", folder)
    fn, args, then = files.jobs.pop()
    then(fn(*args))
    browsing.step(1)  # while the first is still being read
    browsing.step(1)
    for fn, args, then in files.jobs:
        then(fn(*args))
    assert [i.index for i in heard.images] == [2]
