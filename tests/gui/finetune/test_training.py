"""While it trains: cancelling, painting on, and what may happen to viewer and layers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam._napari.finetune_results import WAITING
from napari_pathsam._napari.finetune_versions import DICE
from napari_pathsam.workspace.teaching_store import LessonStore

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}


def seconds_of(thread) -> float:
    """Processor time of a thread, which a busy machine does not change; 0 where nobody says."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def test_cancel_answers_and_keeps_the_best(finetune_of, field):
    viewer, dock, _ = lesson = finetune_of(field.image)
    lesson.strokes()
    lesson.quick(500)
    dock.train()
    scores = dock.view.results.curves.scores
    lesson.until(lambda: any(epoch for epoch, _ in scores))  # 0 is the start
    began, worked = time.thread_time(), seconds_of(dock.runner._thread)
    dock.view.train.cancel_button.click()
    said = time.thread_time() - began
    assert said < 1
    assert "kept" in dock.view.status.text()
    lesson.until(lambda: 1 in dock.teaching.lesson)
    worked = seconds_of(dock.runner._thread) - worked
    assert worked < 1, f"{worked:.2f} s of work from the press to the best version on disk"
    assert dock.teaching.model_path(1).is_file()
    assert dock.view.train.train_button.isEnabled()
    lesson.done()
    assert dock.view.worst.value() or "agrees" in dock.view.worst._nothing.text()
    assert not dock.teaching.lesson[1].finished
    assert PREVIEW in viewer.layers
    assert dock.view.train.train_button.isEnabled()
    assert not dock.view.train.bar.isVisible()


def test_what_is_shown_is_of_the_version_in_use_and_says_if_it_means_little(finetune_of, made_up):
    _, dock, hands = lesson = finetune_of(made_up())
    lesson.strokes()
    lesson.quick()
    results, versions = dock.view.results, dock.view.versions

    def begin_and_cancel():
        dock.train()
        lesson.until(lambda: results.headline.text().startswith("Epoch 0"))
        dock.view.train.cancel_button.click()
        lesson.done()
        assert "nothing was trained" in dock.view.status.text()

    begin_and_cancel()
    assert results.headline.text() == WAITING
    assert not results.curves.scores
    lesson.train()
    assert results.headline.text().startswith("Version 1: too little held out to say")
    assert "bold" not in results.headline.styleSheet()
    assert versions.text(0, DICE).endswith(" ?")
    assert not results.curves.isHidden()
    shown = results.headline.text()
    begin_and_cancel()
    assert results.headline.text() == shown
    assert results.curves.isHidden()  # those of its training are gone
    hands.screenshot("52-finetune-cancelled")
    dock.teaching.delete(1)
    hands.settle(2)
    assert results.headline.text() == WAITING


def test_painting_while_it_trains_counts_the_next_time(finetune_of, made_up):
    _viewer, dock, hands = lesson = finetune_of(made_up())
    layer = lesson.strokes()
    lesson.quick(6)
    dock.train()
    lesson.until(lambda: bool(dock.view.results.curves.losses))
    hands.drag([np.array((80, 70)) * 0.5, np.array((95, 90)) * 0.5])
    painted = layer.data.copy()
    lesson.done()
    assert not dock.view.error_bar.text()
    np.testing.assert_array_equal(layer.data, painted)
    from napari_pathsam.training.finetune_file import read_run

    run, _ = read_run(dock.teaching.run_path(1))
    assert (run.labels[0].labels > 0).sum() < (painted > 0).sum()
    dock.train()
    lesson.done()
    run, _ = read_run(dock.teaching.run_path(2))
    assert (run.labels[0].labels > 0).sum() == (painted > 0).sum()


@pytest.mark.parametrize("what", ["labels", "image", "switch"])
def test_things_may_go_while_it_trains(finetune_of, made_up, what):
    viewer, dock, _ = lesson = finetune_of(made_up())
    # There from the beginning: napari 0.9 on software OpenGL ends the process when an image is
    # added after one below a labels layer was removed.
    other = viewer.add_image(made_up()[::-1], rgb=True, **{**MICRONS, "name": "other"})
    dock.open_image(viewer.layers["H&E"])
    layer = lesson.strokes()
    lesson.quick(8 if what == "switch" else 4)
    dock.train()
    lesson.until(lambda: bool(dock.view.results.curves.losses))
    if what == "labels":
        viewer.layers.remove(layer)
    elif what == "image":
        viewer.layers.remove(viewer.layers["H&E"])
    else:
        dock.view.images.setCurrentIndex(1 + dock.view.images.candidates().index(other))
        assert dock.image == other
    lesson.done()
    assert not dock.view.error_bar.text()
    assert dock.teaching.lesson[1].mean_dice is not None
    if what == "switch":
        dock.view.look.here_button.click()
        lesson.until(lambda: PREVIEW in viewer.layers)
        dock.open_image(viewer.layers["H&E"])
        assert dock.view.labels.value() == layer


@pytest.mark.hidden(False)
def test_a_closed_viewer_leaves_a_training_that_can_be_resumed(finetune_of, made_up):
    viewer, dock, _ = lesson = finetune_of(made_up())
    lesson.strokes()
    lesson.quick(6)
    dock.train()
    scores = dock.view.results.curves.scores
    lesson.until(lambda: any(epoch for epoch, _ in scores))
    folder, key = dock.teaching.folder.path, dock.source.key
    viewer.close()
    lesson.until(lambda: not dock.runner._thread.is_alive())
    kept = LessonStore(folder.parent).find(key)  # test_killed.py goes on from there
    assert kept.path == folder
    assert (folder / kept.lesson.running.run).is_file()
    assert (folder / kept.lesson.running.state).is_file()
    assert (kept.strokes(key).labels > 0).sum() == 6 * 14 * 14
    kept.close()
