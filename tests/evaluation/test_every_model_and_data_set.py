"""Every kind of model on every data set: a run that is stopped and goes on, a report, a page."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from napari_pathsam.cli.evaluate_run import card_of
from napari_pathsam.cli.evaluate_tables import TABLES
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.datasets import DATASETS, dataset
from napari_pathsam.datasets.base import overriding
from napari_pathsam.evaluation import class_figures, everything, prompting
from napari_pathsam.evaluation.classes import ClassSettings
from napari_pathsam.evaluation.evaluate import headlines_of, report_of, scoring, settings_of
from napari_pathsam.evaluation.everything import EverythingScoring
from napari_pathsam.evaluation.html_report import html_report, images_csv
from napari_pathsam.evaluation.measured import read_report
from napari_pathsam.evaluation.prompting import PromptSettings
from napari_pathsam.evaluation.runs import Run
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import TASK_RECIPES
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import wsi_profiled

NETWORKS = {
    "unet": {"width": 8, "levels": 4},
    "mask-rcnn": {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48), "frozen_norm": False},
}
TASK = {"head": "classes", "promptable": "prompts", "wsi-sam": "prompts",
        "everything": "everything", "unet": "classes", "mask-rcnn": "classes"}  # fmt: skip
ON_ALL = ("head", "promptable")
ONE_OF_EACH = ("tnbc", "bcss", "crc-tissue")
"""Binary labels, classes with what nobody looked at, tiles: where what is quick is asked too."""
BUILT = {}


@pytest.fixture
def models(tiny_model, tiny_pathsam, monkeypatch):
    """One of each kind, with random weights; intervals need not be exact."""
    for module in (class_figures, everything, prompting):
        monkeypatch.setattr(module, "intervals", partial(module.intervals, resamples=10))
    if not BUILT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = wsi_profiled(name="wsi", base="tiny", profile="recommended", context=False)
            BUILT["wsi-sam"] = WsiSam(config, tiny_model).eval()
            for name, network in NETWORKS.items():
                config = TASK_RECIPES[name].config(mpp=0.5, tile_px=128, network=network)
                BUILT[name] = TaskModel(config, ClassTable.of("gland", "stroma")).eval()
    return BUILT | {"head": tiny_pathsam, "promptable": tiny_model, "everything": tiny_model}


class Corner:
    """Reads at most 64 × 64 pixels: slides give more than a quick test needs."""

    def __init__(self, reader, at):
        self.reader, self.at = reader, at

    def __call__(self, sample):
        where = np.s_[self.at : self.at + 64, self.at : self.at + 64]
        image, labels = self.reader(sample)
        return image[where], labels[where]


def samples_of(data, root):
    """Two of its test part, of different patients where there are such."""
    found = overriding(data.samples(root), mpp=0.5)
    at = 80 if data.patches and data.name != "bcss" else 0
    two = found[:1] + [s for s in found if s.group != found[0].group][:1]
    return [s if s.homogeneous else replace(s, reader=Corner(s.reader, at)) for s in two]


def settings_for(task, data):
    if task == "prompts":
        return PromptSettings(clicks=(1, 2), most_clicks=2, smallest_px=10)
    if task == "everything":
        return EverythingScoring(points_per_side=3, smallest_px=10)
    return ClassSettings(mapping={"*": data.classes[0]})


@pytest.mark.parametrize("name", DATASETS)
def test_a_run_is_traced_and_shown(name, models, folder, layouts, tmp_path_factory):
    layouts.BUILD[name](folder)
    data = dataset(name, root=folder.root)
    samples = samples_of(data, folder.root)
    for kind, task in TASK.items():
        if not (kind in ON_ALL or name == "glas" or (name in ONE_OF_EACH and kind != "mask-rcnn")):
            continue
        out = tmp_path_factory.mktemp("runs") / "run"
        settings = settings_for(task, data)
        asked = models[kind], samples, settings
        if samples[0].homogeneous and task != "classes":
            with pytest.raises(UnavailableError, match="tile of one class"):
                list(scoring(*asked))
            continue
        scores = stopped_and_resumed(kind, data, asked, out)
        told = {"dataset": name, "split": data.default_split}
        report = report_of(*asked, scores, name=kind, data=told)
        report.write(out / "report.json")
        read = read_report(out)
        assert (read.dataset, read.split, read.n_images) == (*told.values(), len(samples))
        assert read.metrics["intervals"]["groups"] == len({s.group for s in samples})
        if task == "classes":
            assert list(read.metrics["per_class"]) == list(data.classes)
            assert ("object_f1" in read.metrics) == (data.label_kind == "instances")
            assert 0 <= read.metrics["pixel_accuracy"] <= 1
        else:
            assert read.metrics["n_objects"] > 0
        headlines = headlines_of(settings, scores)
        page = html_report(report, headlines, {}, [])
        assert data.default_split in page
        assert "://" not in page
        assert len(images_csv(scores, headlines).splitlines()) == 1 + len(samples)
        console = Console(record=True, width=120, file=io.StringIO())
        console.print(TABLES[task](report))
        assert f"{kind} on {name}" in console.export_text()


def stopped_and_resumed(kind, data, asked, out):
    """The scores of a run that was stopped after its first image, as they are read again."""
    model, samples, settings = asked
    classes = ClassTable.of(*data.classes)
    told = {"dataset": data.name, "split": data.default_split}
    card = card_of(model, kind, samples, settings, told, {})
    first = Run.begin(out, card)
    going = first.keep(scoring(*asked, classes=classes))
    next(going)
    going.close()
    run = Run.begin(out, card, resume=True)
    assert [s.name for s in run.left(samples)] == [s.name for s in samples[1:]]
    list(run.keep(scoring(model, run.left(samples), settings, classes=classes)))
    again = Run.read(out)
    assert settings_of(again.card.task, again.card.settings) == settings
    assert [plain(s) for s in again.scores] == [plain(s) for s in run.scores]
    return again.scores


def plain(score):
    return json.dumps(score.to_values())
