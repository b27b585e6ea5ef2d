"""The whole of it in a real viewer: a person's mouse and the packaged base."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam._napari.finetune_classes import IMAGES, NAME, PX, REGIONS
from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam._napari.finetune_results import DICE
from napari_pathsam._napari.tables import short
from napari_pathsam.workspace.teaching_choices import Advanced

pytestmark = pytest.mark.gui


def strokes_in(inside, n, rng, apart_px=30):
    """Short lines in the thick of an area, ``n`` of them, apart from each other: ``(2, 2)`` yx."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    free = depth.copy()
    found = []
    for _ in range(n):
        y, x = np.unravel_index(int(free.argmax()), free.shape)
        r = max(2.0, depth[y, x] / 2)
        angle = rng.uniform(0, np.pi)
        centre, step = np.array([y, x]), r * np.array([np.sin(angle), np.cos(angle)])
        found.append(np.stack([centre - step, centre + step]))
        yy, xx = np.indices(free.shape)
        free[np.hypot(yy - y, xx - x) < apart_px] = 0
    return found


def paint(hands, dock, class_id, lines, scale):
    """Choose the class in the table, and draw with the mouse."""
    dock.view.classes._table.selectRow([c.id for c in dock.view.classes.value()].index(class_id))
    for line in lines:
        path = [line[0] + t * (line[1] - line[0]) for t in np.linspace(0, 1, 5)]
        hands.drag([p * scale for p in path])


@pytest.mark.timeout(2000)
def test_paint_train_look_revert_save_load_segment(finetune_of, tmp_path):
    """What a person does, on the packaged gland sample, with the mouse."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    viewer, dock, hands = lesson = finetune_of(estimates=True)
    rng = np.random.default_rng(0)
    truth = next(x for x in viewer.layers if x.name.endswith("labels"))
    truth.visible = False
    glands = np.asarray(truth.data) == 1
    scale = float(viewer.layers[0].scale[0])
    assert dock.view.minimumWidth() <= 380
    hands.screenshot("40-finetune-opened")

    dock.view.new_button.click()
    hands.settle(5)
    dock.view.classes.rename(1, "gland")
    layer = viewer.layers["PathSAM training labels"]
    assert viewer.layers.selection.active == layer
    paint(hands, dock, 1, strokes_in(glands, 3, rng), scale)
    hands.until(lambda: dock.view.classes.text(0, REGIONS) == "3")
    assert "Background" in dock.view.classes.warning.text()
    paint(hands, dock, 2, strokes_in(~glands, 3, rng), scale)
    hands.until(lambda: dock.view.classes.text(1, REGIONS) == "3")
    assert dock.view.classes.text(0, NAME) == "gland"
    assert dock.view.classes.text(0, IMAGES) == "1"
    assert dock.view.classes.text(0, PX) == short((layer.data == 1).sum())
    assert not dock.view.classes.warning.text()
    mine = layer.data.copy()
    lesson.until(lambda: bool(dock.view.how.presets.text("fast").count("GB")))
    hands.screenshot("41-finetune-painted")

    seen, ticks = [], []
    dock.run.previewed.connect(lambda p: seen.append((time.perf_counter(), p.class_map.copy())))
    dock.run.told.connect(lambda reports: ticks.extend(reports))
    began, cpu = time.perf_counter(), time.process_time()
    dock.view.train.train_button.click()
    lesson.until(lambda: bool(seen))
    first_s = seen[0][0] - began
    hands.screenshot("42-finetune-training")
    lesson.done()
    figures = {
        "first_overlay_s": round(first_s, 2),
        "last_overlay_s": round(seen[-1][0] - began, 2),
        "process_cpu_s": round(time.process_time() - cpu, 2),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    sys.stdout.write(f"\nfine-tuning: {json.dumps(figures)}\n")
    assert not dock.view.error_bar.text()
    preview = viewer.layers[PREVIEW]
    assert not preview.editable
    assert len(seen) > 1
    assert (seen[0][1] != seen[-1][1]).any()
    np.testing.assert_array_equal(preview.data, seen[-1][1])
    np.testing.assert_array_equal(layer.data, mine)  # what was drawn is as it was drawn
    one = seen[-1][1]
    first = dock.teaching.lesson[1]
    scored = {r.epoch: r.scores.mean_dice for r in ticks if r.scores is not None}
    assert first.mean_dice == scored[first.epoch]
    assert f"{first.mean_dice:.2f}" in dock.view.results.headline.text()
    assert dock.view.results.text(0, DICE)
    overlap = 2 * ((preview.data == 1) & glands).sum() / ((preview.data == 1).sum() + glands.sum())
    assert overlap > 0.5  # it is about glands
    dock.view.show_widget(dock.view.results.reliability_section)
    dock.view.results.reliability_section.open()
    hands.screenshot("43-finetune-trained")

    paint(hands, dock, 1, strokes_in(glands & (layer.data == 0), 1, rng), scale)
    dock.teaching.choose(advanced=Advanced(epochs=2))
    dock.view.train.train_button.click()
    lesson.done()
    assert dock.teaching.lesson.current == 2
    second = viewer.layers[PREVIEW].data.copy()
    assert dock.view.look.before.value() == 1
    dock.view.look.set_split(0.5)
    hands.settle(3)
    half = second.shape[1] // 2
    swiped = viewer.layers[PREVIEW].data
    np.testing.assert_array_equal(swiped[:, half:], second[:, half:])
    np.testing.assert_array_equal(swiped[:, :half], one[:, :half])
    dock.view.show_widget(dock.view.versions)
    hands.screenshot("44-finetune-swipe")
    slider = dock.view.look._slider
    slider.setFocus()
    for key, shown in ((Qt.Key_End, one), (Qt.Key_Home, second)):
        QTest.keyClick(slider, key)
        np.testing.assert_array_equal(viewer.layers[PREVIEW].data, shown)

    versions = dock.view.versions
    lesson.row(versions._table, 1)
    assert "Version 1: too little held out" in dock.view.results.headline.text()
    lesson.press(versions.revert_button)
    lesson.until(lambda: (viewer.layers[PREVIEW].data == one).all())
    assert dock.teaching.lesson.current == 1

    path = tmp_path / "my glands.safetensors"
    dock.view.versions.save(path)
    hands.until(path.is_file)
    dock.view.versions.load(path)
    lesson.until(lambda: 3 in dock.teaching.lesson)
    assert dock.teaching.lesson[3].name == "my glands"
    hands.until(lambda: dock.teaching.lesson.current == 3)

    dock.view.versions.segment_button.click()
    from napari_pathsam._napari.segment import SegmentDock

    def segment_dock():
        found = viewer.window.dock_widgets.values()
        return next((w for w in found if isinstance(w, SegmentDock)), None)

    lesson.until(lambda: segment_dock() is not None)
    lesson.until(lambda: segment_dock().view.heads.value() is not None)
    segment = segment_dock()
    assert segment.view.heads.value().title == "my glands 3"  # as it is called, not what all are
    segment.view.extent.set_value("whole")
    segment.view.run_button.click()
    lesson.until(lambda: segment.runner.idle and not segment.segmenting.running)
    assert not segment.view.error_bar.text()
    of_dock = viewer.layers[PREVIEW].data
    found = next(x for x in viewer.layers if x.metadata.get("napari-pathsam") == "segmentation")
    np.testing.assert_array_equal(found.data, of_dock)
    assert found.visible
    assert not viewer.layers[PREVIEW].visible  # it would lie over it
    hands.screenshot("45-finetune-segmented")
    segment.shut_down()
