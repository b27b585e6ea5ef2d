"""The dock “PathSAM: Fine-tune” in a real viewer: a person's hands and the packaged base."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam._napari.finetune_classes import IMAGES, NAME, PX, REGIONS
from napari_pathsam._napari.finetune_places import Place
from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam._napari.finetune_results import DICE
from napari_pathsam._napari.finetune_versions import NOTE
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching_choices import Advanced
from napari_pathsam.workspace.teaching_store import LessonStore

pytestmark = pytest.mark.gui

SAMPLE = "colon_low_grade"
LONG_MS = 900_000


@pytest.fixture(scope="module")
def load():
    """Models as in a viewer, but read once for all tests."""
    from napari_pathsam.models.catalogue import load_model

    kept = {}

    def loaded(name, device):
        key = (name, Path(name).stat().st_mtime_ns if Path(name).exists() else 0)
        if key not in kept:
            kept[key] = load_model(name, device="cpu")
        return kept[key]

    return loaded


@pytest.fixture
def finetune_of(make_napari_viewer, put_beside, tmp_path, load):
    """``open_(image, …) -> (viewer, dock, hands)``; without an image: with the gland sample."""
    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam._napari.keys import Keys

    def open_(image=None, *, estimates=False, **layer):
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_window.resize(1600, 1000)
        if image is None:
            viewer.open_sample("napari-pathsam", SAMPLE)
        else:
            viewer.add_image(image, rgb=True, **layer)
        dock = FineTuneDock(
            viewer, model_loader=load, store=LessonStore(tmp_path / "lessons"),
            keys=Keys(tmp_path / "keys.json"),
        )  # fmt: skip
        if not estimates:  # a few timed steps that most tests can do without
            dock.shown._timer.timeout.disconnect()
        return viewer, dock, put_beside(viewer, dock, "PathSAM: Fine-tune")

    return open_


MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}


def made_up(field, side=160):
    return np.ascontiguousarray(field.image[60 : 60 + side, 60 : 60 + side])


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


def done(hands, dock) -> None:
    hands.until(lambda: not dock.run.running, LONG_MS)
    hands.until(lambda: dock.files.idle, LONG_MS)


def quick(dock, epochs=2) -> None:
    dock.teaching.choose(device="cpu", trained="head", advanced=Advanced(epochs=epochs))


def some_strokes(layer) -> None:
    """Two regions of each class, all at once, as a person with many hands."""
    labels = np.zeros(layer.data.shape, np.uint8)
    for y, x in ((20, 20), (20, 110), (110, 20)):
        labels[y : y + 14, x : x + 14] = 1
        labels[y + 22 : y + 36, x : x + 14] = 2
    layer.data_setitem(np.nonzero(labels), labels[labels > 0])


@pytest.mark.timeout(2000)
def test_paint_train_look_revert_save_load_segment(finetune_of, tmp_path):
    """What a person does, on the packaged gland sample, with the mouse."""
    viewer, dock, hands = finetune_of(estimates=True)
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
    assert int(dock.view.classes.text(0, PX).replace("\u2009", "")) == (layer.data == 1).sum()
    assert not dock.view.classes.warning.text()
    mine = layer.data.copy()
    hands.until(lambda: bool(dock.view.how.presets.text("fast").count("GB")), LONG_MS)
    hands.screenshot("41-finetune-painted")

    seen, ticks = [], []
    dock.run.previewed.connect(lambda p: seen.append((time.perf_counter(), p.class_map.copy())))
    dock.run.told.connect(lambda reports: ticks.extend(reports))
    began, cpu = time.perf_counter(), time.process_time()
    dock.view.train.train_button.click()
    hands.until(lambda: bool(seen), LONG_MS)
    first_s = seen[0][0] - began
    hands.screenshot("42-finetune-training")
    done(hands, dock)
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
    done(hands, dock)
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
    dock.view.look.set_split(0)

    dock.view.versions.select(1)
    dock.view.versions.revert_button.click()
    hands.until(lambda: (viewer.layers[PREVIEW].data == one).all(), LONG_MS)
    assert dock.teaching.lesson.current == 1

    path = tmp_path / "my glands.safetensors"
    dock.view.versions.save(path)
    hands.until(path.is_file)
    dock.view.versions.load(path)
    hands.until(lambda: 3 in dock.teaching.lesson, LONG_MS)
    assert dock.teaching.lesson[3].name == "my glands"
    hands.until(lambda: dock.teaching.lesson.current == 3)

    dock.view.versions.segment_button.click()
    from napari_pathsam._napari.segment import SegmentDock

    def segment_dock():
        found = viewer.window.dock_widgets.values()
        return next((w for w in found if isinstance(w, SegmentDock)), None)

    hands.until(lambda: segment_dock() is not None, LONG_MS)
    hands.until(lambda: segment_dock().view.heads.value() is not None, LONG_MS)
    segment = segment_dock()
    assert "my classes" in segment.view.heads.value().title
    segment.view.extent.set_value("whole")
    segment.view.run_button.click()
    hands.until(lambda: segment.runner.idle and not segment.segmenting.running, LONG_MS)
    assert not segment.view.error_bar.text()
    of_dock = viewer.layers[PREVIEW].data
    found = next(x for x in viewer.layers if x.metadata.get("napari-pathsam") == "segmentation")
    np.testing.assert_array_equal(found.data, of_dock)
    hands.screenshot("45-finetune-segmented")
    segment.shut_down()


def test_cancel_answers_and_keeps_the_best(finetune_of, field):
    viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    some_strokes(dock.new_labels())
    quick(dock, epochs=500)
    dock.train()
    scores = dock.view.results.curves.scores
    hands.until(lambda: any(epoch for epoch, _ in scores), LONG_MS)  # 0 is the start
    began = time.perf_counter()
    dock.view.train.cancel_button.click()
    said = time.perf_counter() - began
    assert said < 1
    assert "kept" in dock.view.status.text()
    done(hands, dock)
    assert not dock.teaching.lesson[1].finished
    assert PREVIEW in viewer.layers
    assert dock.view.train.train_button.isEnabled()
    assert not dock.view.train.bar.isVisible()


def test_painting_while_it_trains_counts_the_next_time(finetune_of, field):
    _viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    layer = dock.new_labels()
    some_strokes(layer)
    quick(dock, epochs=6)
    dock.train()
    hands.until(lambda: bool(dock.view.results.curves.losses), LONG_MS)
    hands.drag([np.array((80, 70)) * 0.5, np.array((95, 90)) * 0.5])
    painted = layer.data.copy()
    done(hands, dock)
    assert not dock.view.error_bar.text()
    np.testing.assert_array_equal(layer.data, painted)
    from napari_pathsam.training.finetune_file import read_run

    run, _ = read_run(dock.teaching.run_path(1))
    assert (run.labels[0].labels > 0).sum() < (painted > 0).sum()
    dock.train()
    done(hands, dock)
    run, _ = read_run(dock.teaching.run_path(2))
    assert (run.labels[0].labels > 0).sum() == (painted > 0).sum()


@pytest.mark.parametrize("what", ["labels", "image", "switch", "close"])
def test_things_may_go_while_it_trains(finetune_of, field, what):
    viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    # There from the beginning: napari 0.9 on software OpenGL ends the process when an image is
    # added after one below a labels layer was removed.
    other = viewer.add_image(made_up(field)[::-1], rgb=True, **{**MICRONS, "name": "other"})
    dock.open_image(viewer.layers["H&E"])
    layer = dock.new_labels()
    some_strokes(layer)
    quick(dock, epochs=8 if what == "switch" else 4)
    dock.train()
    hands.until(lambda: bool(dock.view.results.curves.losses), LONG_MS)
    if what == "labels":
        viewer.layers.remove(layer)
    elif what == "image":
        viewer.layers.remove(viewer.layers["H&E"])
    elif what == "switch":
        dock.view.images.setCurrentIndex(1 + dock.view.images.candidates().index(other))
        assert dock.image == other
    else:
        dock.shut_down()
        hands.until(lambda: not dock.runner._thread.is_alive(), LONG_MS)
        assert layer in viewer.layers
        return
    done(hands, dock)
    assert not dock.view.error_bar.text()
    assert dock.teaching.lesson[1].mean_dice is not None
    if what == "switch":
        dock.view.look.here_button.click()
        hands.until(lambda: PREVIEW in viewer.layers, LONG_MS)
        dock.open_image(viewer.layers["H&E"])
        assert dock.view.labels.value() == layer


def test_what_is_missing_is_said(finetune_of, field):
    _viewer, dock, hands = finetune_of(made_up(field), name="unknown size")
    dock.view.train.train_button.click()
    done(hands, dock)
    assert "Nothing is painted" in dock.view.error_bar.text()
    layer = dock.new_labels()
    layer.data_setitem((np.arange(30, 60), np.arange(30, 60)), 1)
    dock.view.train.train_button.click()
    done(hands, dock)
    assert "Only one class" in dock.view.error_bar.text()
    some_strokes(layer)
    assert "unknown" in dock.view.mpp_bar.text()
    dock.view.train.train_button.click()
    done(hands, dock)
    assert "pixel size" in dock.view.error_bar.text()
    hands.screenshot("46-finetune-missing")
    dock.view.classes.add_class("class 1")
    dock.view.classes.rename(2, "Class 1")
    assert "share the name" in dock.view.classes.error()
    dock.view.how.start.value()
    assert not dock.teaching.lesson.versions


def test_saved_work_comes_back(finetune_of, field):
    viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    layer = dock.new_labels()
    some_strokes(layer)
    quick(dock)
    dock.train()
    done(hands, dock)
    shown = viewer.layers[PREVIEW].data.copy()
    mine = layer.data.copy()
    dock.view.versions.described.emit(1, None, "first try")
    hands.until(lambda: dock.teaching.lesson[1].note == "first try")
    hands.until(lambda: dock.files.idle)
    dock.shut_down()

    viewer, again, _ = finetune_of(made_up(field), **MICRONS)
    hands.until(lambda: bool(again.view.restore_bar.text()), LONG_MS)
    assert "1 version" in again.view.restore_bar.text()
    again.teaching.restore()
    hands.until(lambda: "PathSAM training labels" in viewer.layers, LONG_MS)
    np.testing.assert_array_equal(viewer.layers["PathSAM training labels"].data, mine)
    assert again.view.versions.text(0, NOTE) == "first try"
    again.view.look.here_button.click()
    hands.until(lambda: PREVIEW in viewer.layers, LONG_MS)
    np.testing.assert_array_equal(viewer.layers[PREVIEW].data, shown)
    again.view.versions.select(1)
    again.view.versions.chosen.emit(1)
    hands.until(lambda: "Version 1" in again.view.results.headline.text(), LONG_MS)


def test_where_next_worst_and_explain(finetune_of, field):
    from napari_pathsam.training.finetune_score import WorstRegion

    viewer, dock, hands = finetune_of(made_up(field, 420), **MICRONS)
    some_strokes(dock.new_labels())
    quick(dock)
    for ask in (dock.view.where.find_button, dock.view.explain.explain_button):
        ask.click()
        assert "no version yet" in dock.view.error_bar.text()
        dock.view.error_bar.say("")
    dock.train()
    done(hands, dock)
    dock.view.sections["where"].open()
    dock.view.where.find_button.click()
    hands.until(lambda: bool(dock.view.where.places.value()), LONG_MS)
    hands.until(lambda: dock.runner.idle, LONG_MS)
    assert "PathSAM uncertainty" in viewer.layers
    place = dock.view.where.places.value()[0]
    zoom = viewer.scene.camera.zoom
    hands.key("J")
    r = place.region
    centre = np.array([r.y + (r.height - 1) / 2, r.x + (r.width - 1) / 2]) * 0.5
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre, atol=1e-6)
    assert viewer.scene.camera.zoom >= zoom
    hands.key("K")
    hands.screenshot("47-finetune-where")
    worst = WorstRegion(0, "H&E", Region(20, 20, 14, 14), "Class 1", "background", 196, 0.4)
    dock.answers.set_worst((worst,), (dock.source.key,))
    assert "40 % read as background" in dock.view.worst.value()[0].text
    dock.answers.go(Place("here", Region(0, 0, 20, 20), dock.source.key))
    viewer.fit_to_view()

    dock.view.sections["explain"].open()
    dock.view.explain.explain_button.click()
    hands.until(lambda: bool(dock.view.explain.plots), LONG_MS)
    assert "no proof" in dock.view.explain.text.text()
    dock.answers.show_map(0)
    assert "PathSAM acts here" in viewer.layers
    dock.view.show_widget(dock.view.copy_button)
    hands.screenshot("48-finetune-explain")
    dock.shut_down()
    assert [x.name for x in viewer.layers if x.name.startswith("PathSAM")] == [
        "PathSAM training labels"
    ]


def test_copied_code_makes_the_same_model(finetune_of, field, tmp_path, monkeypatch):
    from qtpy.QtGui import QGuiApplication

    from napari_pathsam.models.catalogue import load_model

    _viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    dock.view.copy_button.copy_python()
    assert "nothing to copy yet" in dock.view.status.text()
    some_strokes(dock.new_labels())
    quick(dock, epochs=1)
    dock.train()
    done(hands, dock)
    monkeypatch.chdir(tmp_path)
    dock.view.copy_button.copy_python()
    exec(compile(QGuiApplication.clipboard().text(), "copied", "exec"), {})  # what a person does
    made = load_model(tmp_path / "my classes.safetensors", device="cpu")
    mine = load_model(dock.teaching.model_path(1), device="cpu")
    for (name, a), (_, b) in zip(
        mine.head.state_dict().items(), made.head.state_dict().items(), strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
    dock.view.copy_button.copy_command()
    assert QGuiApplication.clipboard().text().startswith("pathsam train --run ")


def test_classes_follow_the_layer_and_the_layer_the_classes(finetune_of, field):
    viewer, dock, hands = finetune_of(made_up(field), **MICRONS)
    labels = np.zeros((160, 160), np.uint8)
    labels[10:30, 10:30], labels[60:80, 60:80] = 3, 5
    layer = viewer.add_labels(
        labels, name="mine", scale=(0.5, 0.5), units=("um", "um"),
        features={"index": [3, 5], "class": ["tumour", "stroma"]},
    )  # fmt: skip
    dock.use_labels(layer)
    hands.until(lambda: dock.view.classes.text(0, PX) == "400")
    assert dock.teaching.choices.classes.names == ("tumour", "stroma")
    layer.selected_label = 5
    assert dock.view.classes.active() == 5
    dock.view.classes._table.selectRow(0)
    assert (layer.selected_label, str(layer.mode)) == (3, "paint")
    info = dock.teaching.choices.classes[3]
    dock.teaching.set_classes(
        dock.teaching.choices.classes.replacing(info.model_copy(update={"color": "#00ff00"}))
    )
    np.testing.assert_allclose(layer.get_color(3), (0, 1, 0, 1))
    layer.selected_label = 9
    hands.drag([np.array((120, 20)) * 0.5, np.array((120, 60)) * 0.5])
    hands.until(lambda: "Class 9" in dock.teaching.choices.classes.names)
    # A layer of a part of the image, at another pixel size.
    part = viewer.add_labels(
        np.full((10, 10), 3, np.uint8), name="part", scale=(1, 1), translate=(20, 30),
        units=("um", "um"),
    )  # fmt: skip
    dock.use_labels(part)
    hands.until(lambda: dock.view.classes.text(0, PX) == "400")
    aside = viewer.add_labels(np.ones((8, 8), np.uint8), name="far", translate=(900, 900),
                              units=("um", "um"))  # fmt: skip
    dock.use_labels(aside)
    hands.until(lambda: "does not lie on the image" in dock.view.error_bar.text())


def test_segment_leads_here(make_napari_viewer, hands_of, field):
    from napari_pathsam._napari.finetune import FineTuneDock

    viewer = make_napari_viewer(show=True)
    viewer.add_image(made_up(field), rgb=True, **MICRONS)
    _, segment = viewer.window.add_plugin_dock_widget("napari-pathsam", "PathSAM: Segment")
    hands = hands_of(viewer)
    hands.settle(5)
    teach = segment.view.heads.teach_button
    assert not teach.isHidden()
    teach.click()
    hands.settle(5)
    found = [w for w in viewer.window.dock_widgets.values() if isinstance(w, FineTuneDock)]
    assert len(found) == 1
    assert found[0].image == viewer.layers["H&E"]
    hands.until(lambda: found[0].view.how.start.count() > 1, LONG_MS)
    assert any("glands" in found[0].view.how.start.itemText(n).lower()
               for n in range(found[0].view.how.start.count()))  # fmt: skip
    for dock in (found[0], segment):
        dock.shut_down()
        hands.until(lambda d=dock: not d.runner._thread.is_alive(), LONG_MS)
