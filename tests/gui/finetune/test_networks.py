"""“Train a U-Net”: the same dock, the same strokes, a network of its own."""

from __future__ import annotations

import pytest

from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam.workspace.teaching_choices import Advanced

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_a_unet_is_trained_scored_and_cancelled_like_any_other(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up())
    how = dock.view.how
    lesson.until(lambda: any("U-Net" in how.base.itemText(i) for i in range(how.base.count())))
    lesson.strokes()
    how.base.setCurrentIndex(how.base.findText("Train a U-Net from scratch"))
    assert dock.teaching.choices.base == "unet"
    assert not how.trained.isEnabled()
    assert how.trained.currentText() == "all of the network"
    dock.teaching.choose(device="cpu", advanced=Advanced(epochs=500))
    dock.train()
    scores = dock.view.results.curves.scores
    lesson.until(lambda: any(epoch for epoch, _ in scores))
    dock.view.train.cancel_button.click()
    lesson.done()
    version = dock.teaching.lesson[1]
    assert not version.finished
    assert version.n_px > 0  # held out, as ever
    assert PREVIEW in viewer.layers
    assert not dock.view.error_bar.text()

    dock.teaching.choose(start=str(dock.teaching.model_path(1)), advanced=Advanced(epochs=1))
    assert how.trained.currentText() == "all of the network"
    lesson.train()  # goes on from there
    how.base.setCurrentIndex(0)  # what the version is counts, not what lies under it
    hands.settle(5)
    assert not how.trained.isEnabled()
    assert not how.advanced._boxes["grid"].isEnabled()
    how.base.setCurrentIndex(how.base.findText("Train a U-Net from scratch"))
    dock.teaching.choose(start="pathsam-nano:glands")
    lesson.until(how.trained.isEnabled)
    assert how.advanced._boxes["grid"].isEnabled()
    how.base.setCurrentIndex(0)
    dock.teaching.choose(start=None)
    assert how.trained.isEnabled()
    assert how.trained.currentText() == "classes, features and outlines"
    assert dock.teaching.lesson[2].finished
    assert not dock.view.error_bar.text()
    hands.screenshot("train-unet")
    dock.answers.explain(1)
    lesson.until(lambda: "no KAN" in dock.view.error_bar.text())
