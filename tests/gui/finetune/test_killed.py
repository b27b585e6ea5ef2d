"""The program is killed in the middle of a stroke, and of a training; what is found afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.timeout(900)]

CHILD = Path(__file__).with_name("teach_until_killed.py")


def test_killed_in_the_middle_of_a_stroke_and_a_training(finetune_of, made_up, tmp_path):
    image, strokes = tmp_path / "image.npy", tmp_path / "strokes.npy"
    np.save(image, made_up())
    words = [sys.executable, str(CHILD), str(image), str(tmp_path / "lessons"), str(strokes)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        try:
            said = next((line for line in child.stdout if "middle" in line), "")
        finally:
            child.kill()
    assert said, "the other process ended by itself"

    viewer, dock, hands = lesson = finetune_of(made_up())
    view = dock.view
    lesson.until(view.restore_bar.text)
    dock.teaching.restore()
    lesson.until(lambda: "PathSAM training labels" in viewer.layers)
    mine, found = np.load(strokes), viewer.layers["PathSAM training labels"].data
    np.testing.assert_array_equal(found[mine > 0], mine[mine > 0])  # every stroke that was finished
    assert "interrupted" in view.resume_bar.text()
    hands.screenshot("54-finetune-killed")
    reports = []
    dock.run.told.connect(reports.extend)
    dock.run.resume()
    lesson.until(lambda: reports and reports[-1].done)
    view.train.cancel_button.click()
    lesson.done()
    assert min(r.epoch for r in reports) >= 1  # what was trained is not trained again
    assert not view.error_bar.text()
    assert dock.teaching.lesson[1].mean_dice is not None
    assert not view.resume_bar.text()
