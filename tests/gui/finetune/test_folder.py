"""A lesson of nothing but files: offered again with its folder, or with one of its images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.io.images import write_labels

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def folder(made_up, tmp_path):
    """Two images with labels of two classes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    marked = np.zeros((160, 160), np.uint8)
    marked[60:90, 30:60], marked[60:90, 90:120] = 1, 2
    for name in ("one", "two"):
        Image.fromarray(made_up()[::-1]).save(folder / f"{name}.png")
        write_labels(folder / f"{name}_labels.png", marked)
    return folder


@pytest.mark.parametrize("again", ["its folder", "one of its images"])
def test_it_is_offered_and_brought_back(finetune_of, made_up, viewer_of, folder, again):
    _, dock, _ = lesson = finetune_of(made_up())
    dock.view.pairs.folder_chosen.emit(folder)
    lesson.until(lambda: len(dock.view.pairs.value()) == 2)
    lesson.quick(1)
    dock.teaching.choose(name="by files")
    lesson.train()
    assert not dock.view.error_bar.text()
    dock.shut_down()

    viewer = viewer_of(show=dock.isVisible(), large_px=(1600, 1000))
    if again == "one of its images":
        viewer.open(folder / "two.png", plugin="napari")
    _, dock, hands = lesson = finetune_of(viewer=viewer)
    view = dock.view
    if again == "its folder":
        view.pairs.folder_chosen.emit(folder)
    lesson.until(view.restore_bar.text)
    assert "images of this folder" in view.restore_bar.text()
    assert "2 files" in view.restore_bar.text()
    hands.screenshot(f"57-offered-{again.split()[-1]}")
    (restore,) = [b for b in view.restore_bar.findChildren(type(view.new_button))
                  if b.text() == "Restore"]  # fmt: skip
    restore.click()
    lesson.until(lambda: len(view.pairs.value()) == 2 and len(dock.teaching.lesson.versions) == 1)
    lesson.done()
    assert [(p.name, p.labels) for p in view.pairs.value()] == [
        ("one.png", "one_labels.png"), ("two.png", "two_labels.png"),
    ]  # fmt: skip
    assert dock.teaching.lesson.versions[0].name == "by files"
    assert not view.restore_bar.text()
    view.sections["pairs"].open()
    hands.settle(5)
    hands.screenshot(f"58-brought-back-{again.split()[-1]}")
    if again == "its folder":  # that no image is open is no hindrance
        view.train.train_button.click()
        lesson.until(lambda: len(dock.teaching.lesson.versions) == 2)
        lesson.done()
        assert not view.error_bar.text()
