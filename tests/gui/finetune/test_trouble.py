"""What goes wrong in training is said in the dock, and what was good is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam.workspace.teaching_choices import Advanced

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_short_memory_and_a_loss_that_is_no_number(finetune_of, made_up, monkeypatch):
    from napari_pathsam.training import finetune

    viewer, dock, hands = lesson = finetune_of(made_up())
    lesson.strokes()
    lesson.quick(2)
    view, true = dock.view, finetune.Teacher._stepped
    said = []
    dock.run.status.connect(said.append)

    def short(teacher, crops):
        """A machine that has room for one crop."""
        if len(crops) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return true(teacher, crops)

    with monkeypatch.context() as patch:
        patch.setattr(finetune.Teacher, "_stepped", short)
        lesson.train()
    assert not view.error_bar.text()
    assert any("goes on with 1 crop in a step instead of 2" in text for text in said)
    assert "not enough memory" in view.status.text()  # and it is still to be read in the end
    assert dock.teaching.lesson[1].finished
    hands.screenshot("52-finetune-short-of-memory")

    def spoiled(from_step):
        loss = finetune.class_loss

        def of_step(*args, **kwargs):
            teacher = dock.run._run.training.teacher
            found = loss(*args, **kwargs)
            return found * torch.nan if teacher.step >= from_step else found

        return of_step

    dock.teaching.choose(advanced=Advanced(epochs=4))
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "class_loss", spoiled(from_step=20))  # in the third epoch
        lesson.train()
    assert "the loss is no number any more" in view.error_bar.text()
    assert "Lower the learning rate" in view.error_bar.text()
    kept = dock.teaching.lesson[2]
    assert not kept.finished
    assert kept.epoch in (0, 1, 2)
    assert dock.teaching.lesson.current == 2
    assert view.train.train_button.isEnabled()
    hands.screenshot("53-finetune-no-number")

    shown = viewer.layers[PREVIEW].data.copy()
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "class_loss", spoiled(from_step=0))
        lesson.train()
    assert "at step 1:" in view.error_bar.text()
    assert "What training started from was kept" in view.error_bar.text()
    assert dock.teaching.lesson.current == 2  # nothing was trained: what there was is in use
    assert 3 not in dock.teaching.lesson
    np.testing.assert_array_equal(viewer.layers[PREVIEW].data, shown)
