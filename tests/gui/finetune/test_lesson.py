"""What is trained on, what is said of it, and what comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_pathsam._napari.finetune_classes import IMAGES, PX, REGIONS
from napari_pathsam._napari.finetune_classes import NAME as NAME_OF_CLASS
from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam._napari.finetune_versions import NAME, NOTE
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam.io.images import write_labels

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

LONG_MS = 900_000
MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}


def test_what_is_missing_is_said(finetune_of, made_up):
    _viewer, dock, hands = lesson = finetune_of(made_up(), name="unknown size")
    dock.view.train.train_button.click()
    lesson.done()
    assert "Nothing is painted" in dock.view.error_bar.text()
    layer = dock.brush.new_labels()
    layer.data_setitem((np.arange(30, 60), np.arange(30, 60)), 1)
    dock.view.train.train_button.click()
    lesson.done()
    assert "Only one class" in dock.view.error_bar.text()
    lesson.strokes(layer)
    assert "unknown" in dock.view.mpp_bar.text()
    dock.view.train.train_button.click()
    lesson.done()
    assert "pixel size" in dock.view.error_bar.text()
    hands.screenshot("46-finetune-missing")
    dock.view.classes.add_class("class 1")
    dock.view.classes.rename(2, "Class 1")
    assert "share the name" in dock.view.classes.error()
    assert not dock.teaching.lesson.versions


@pytest.mark.hidden(False)
def test_what_cannot_be_learned_is_said_in_a_sentence(finetune_of, made_up, tmp_path):
    viewer, dock, hands = lesson = finetune_of(made_up())
    lesson.quick()
    layer = dock.brush.new_labels()

    def refused(*expected: str) -> None:
        dock.view.train.train_button.click()
        lesson.done()
        said = dock.view.error_bar.text()
        assert all(words in said for words in expected), said
        assert len(said.split()) < 45

    few = (np.full(3, 90), np.arange(40, 43))
    layer.data_setitem(tuple(np.mgrid[30:60, 30:60].reshape(2, -1)), 1)
    layer.data_setitem(few, 2)
    refused("“Background” has 3 painted pixels", "at least 16")
    hands.screenshot("55-finetune-three-pixels")
    lesson.write(dock.view.classes._table, 1, NAME_OF_CLASS, "Class 1")
    assert "Two classes share the name Class 1." in dock.view.classes.error()
    hands.screenshot("55-finetune-same-name")
    lesson.write(dock.view.classes._table, 1, NAME_OF_CLASS, "CLASS 1")
    assert "Two classes share the name CLASS 1." in dock.view.classes.error()
    dock.view.classes.rename(2, "ground")
    away = viewer.add_labels(np.ones((40, 40), np.uint8), name="away", translate=(900, 900),
                             units=("um", "um"))  # fmt: skip
    dock.use_labels(away)
    refused("“away” does not lie on the image", "press New")
    # With what is not painted as background, one class is enough.
    dock.use_labels(layer)
    layer.data_setitem(few, 0)
    layer.data_setitem(tuple(np.mgrid[100:130, 100:130].reshape(2, -1)), 1)
    dock.view.classes.zero.setCurrentIndex(1)
    lesson.train()
    assert not dock.view.error_bar.text()
    assert dock.teaching.lesson[1].mean_dice is not None
    dock.view.how.hold_out.setCurrentText("one image in five")
    lesson.train()  # there is one image
    assert dock.teaching.lesson[2].mean_dice is None
    assert dock.view.results.headline.text() == "Version 2: nothing was held out"
    assert "By image: train on several" in dock.view.results.sentence.text()
    versions = dock.view.versions
    versions.save(tmp_path / "theirs.safetensors")
    hands.until((tmp_path / "theirs.safetensors").is_file)
    versions.load(tmp_path / "theirs.safetensors")
    hands.until(lambda: 3 in dock.teaching.lesson)
    assert dock.view.results.headline.text() == "Version 3 was loaded"  # as its row is selected
    lesson.row(versions._table, 2)
    assert "Version 1: too little held out" in dock.view.results.headline.text()
    lesson.answer(versions.delete_button, "Cancel")
    assert len(dock.teaching.lesson.versions) == 3
    lesson.answer(versions.delete_button, "Yes")
    assert [v.number for v in dock.teaching.lesson.versions] == [2, 3]


QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature", "id": f"{n}",
            "geometry": {"type": "Polygon", "coordinates": [
                [[x, y], [x + 24, y], [x + 24, y + 20], [x, y + 20], [x, y]]]},
            "properties": {"objectType": "annotation",
                           "classification": {"name": name, "color": color}},
        }
        for n, (x, y, name, color) in enumerate((
            (20, 20, "Tumor", [200, 0, 0]), (90, 30, "Tumor", [200, 0, 0]),
            (20, 100, "Stroma", [150, 200, 150]), (90, 110, "Stroma", [150, 200, 150]),
        ))
    ],
}  # fmt: skip
"""As QuPath exports annotations: x before y, a class with its colour."""


def test_annotations_of_qupath_teach(finetune_of, made_up, tmp_path):
    path = tmp_path / "exported.geojson"
    path.write_text(json.dumps(QUPATH))
    viewer, dock, hands = lesson = finetune_of(made_up())
    for layer in viewer.open(path, plugin="napari-pathsam"):
        layer.scale, layer.units = (0.5, 0.5), ("um", "um")
    chooser = dock.view.labels
    for layer in [x for x in viewer.layers if x.name.startswith("exported")]:
        chooser.setCurrentIndex(1 + chooser.candidates().index(layer))
        hands.until(lambda: dock.view.classes.text(0, PX) == "960")
        assert dock.teaching.choices.classes.names == ("Tumor", "Stroma")
        assert dock.view.classes.text(1, REGIONS) == "2"
        assert dock.view.classes.background.value() is None  # Stroma has the id Background had
    lesson.quick(1)
    lesson.train()
    assert not dock.view.error_bar.text()
    assert dock.teaching.lesson[1].n_px == 960  # one region of each
    hands.screenshot("56-finetune-qupath")


@pytest.mark.hidden(False)
def test_saved_work_comes_back(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up())
    layer = lesson.strokes()
    lesson.quick()
    dock.train()
    lesson.done()
    shown = viewer.layers[PREVIEW].data.copy()
    mine = layer.data.copy()
    versions = dock.view.versions
    lesson.write(versions._table, 0, NOTE, "first try")
    hands.until(lambda: dock.teaching.lesson[1].note == "first try")
    lesson.write(versions._table, 0, NAME, "two kinds")
    hands.until(lambda: dock.teaching.lesson[1].name == "two kinds")
    assert (versions.text(0, NAME), versions.text(0, NOTE)) == ("two kinds", "first try")
    assert "two kinds" in dock.view.how.start.itemText(1)  # to start from, by its name
    hands.until(lambda: dock.files.idle)
    dock.shut_down()

    viewer, again, _ = lesson = finetune_of(made_up())
    lesson.until(lambda: bool(again.view.restore_bar.text()))
    assert "1 version" in again.view.restore_bar.text()
    again.teaching.restore()
    lesson.until(lambda: "PathSAM training labels" in viewer.layers)
    np.testing.assert_array_equal(viewer.layers["PathSAM training labels"].data, mine)
    assert again.view.versions.text(0, NOTE) == "first try"
    again.view.look.here_button.click()
    lesson.until(lambda: PREVIEW in viewer.layers)
    np.testing.assert_array_equal(viewer.layers[PREVIEW].data, shown)
    again.view.versions.select(1)
    again.view.versions.chosen.emit(1)
    lesson.until(lambda: "Version 1" in again.view.results.headline.text())


def test_classes_follow_the_layer_and_the_layer_the_classes(finetune_of, made_up):
    viewer, dock, hands = finetune_of(made_up())
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


def test_segment_leads_here(make_napari_viewer, hands_of, made_up):
    from napari_pathsam._napari.finetune import FineTuneDock

    viewer = make_napari_viewer(show=True)
    viewer.add_image(made_up(), rgb=True, **MICRONS)
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


def test_files_of_a_folder_and_a_layer_that_is_only_scored_on(finetune_of, made_up, tmp_path):
    from napari_pathsam.io.annotations import write_geojson
    from napari_pathsam.training.finetune_file import read_run

    viewer, dock, hands = lesson = finetune_of(made_up())
    layer = lesson.strokes()
    lesson.quick(1)
    for name in ("one", "two"):
        Image.fromarray(made_up()[::-1]).save(tmp_path / f"{name}.png")
    marked = np.zeros((160, 160), np.uint8)
    marked[60:90, 30:60], marked[60:90, 90:120] = 1, 2
    write_labels(tmp_path / "one_labels.png", marked)
    write_geojson(
        tmp_path / "two.geojson", marked.astype(np.int32), class_of={1: 1, 2: 2},
        classes=dock.teaching.choices.classes,
    )  # fmt: skip
    dock.view.pairs.folder_chosen.emit(tmp_path)
    lesson.until(lambda: len(dock.view.pairs.value()) == 3)
    assert [(p.name, p.labels) for p in dock.view.pairs.value()[1:]] == [
        ("one.png", "one_labels.png"), ("two.png", "two.geojson"),
    ]  # fmt: skip
    hands.until(lambda: dock.view.classes.text(0, IMAGES) == "3")
    # Another open image: those that were painted on stay in use.
    other = viewer.add_image(made_up(140), rgb=True, **{**MICRONS, "name": "other"})
    first = dock.image
    for image in (other, first):
        dock.view.images.setCurrentIndex(1 + dock.view.images.candidates().index(image))
        if image is other:
            lesson.strokes()
    assert dock.view.labels.value() == layer
    hands.until(lambda: dock.view.classes.text(0, IMAGES) == "4")
    dock.view.sections["pairs"].open()
    aside = viewer.add_labels(np.roll(layer.data, 60, axis=0), name="only scored on",
                              scale=(0.5, 0.5), units=("um", "um"))  # fmt: skip
    dock.view.how.hold_out.setCurrentText("what a labels layer marks")
    assert dock.view.how.held_layer.isVisibleTo(dock)
    dock.view.how.held_layer.setCurrentIndex(1 + dock.view.how.held_layer.candidates().index(aside))
    hands.screenshot("49-finetune-folder")
    lesson.train()
    assert not dock.view.error_bar.text()
    run, _ = read_run(dock.teaching.run_path(1))
    assert [i.name for i in run.run.images] == ["H&E", "other", "one.png", "two.png"]
    assert run.run.settings.hold_out.by == "layer"
    np.testing.assert_array_equal(run.labels[0].held, np.asarray(aside.data) > 0)
    assert not any(one.held.any() for one in run.labels[1:])
    assert dock.teaching.lesson[1].n_px == (np.asarray(aside.data) > 0).sum()

    dock.view.how.hold_out.setCurrentText("one image in five")
    lesson.train()
    run, _ = read_run(dock.teaching.run_path(2))
    whole = [bool(one.held.any()) for one in run.labels]
    assert sum(whole) == 1
    one = run.labels[whole.index(True)]
    np.testing.assert_array_equal(one.held, one.labels > 0)


def test_what_is_only_scored_on_belongs_to_one_image(finetune_of, made_up):
    viewer, dock, _hands = lesson = finetune_of(made_up())
    first, layer = dock.image, lesson.strokes()
    aside = viewer.add_labels(np.roll(layer.data, 60, axis=0), name="only scored on",
                              scale=(0.5, 0.5), units=("um", "um"))  # fmt: skip
    how = dock.view.how
    how.hold_out.setCurrentText("what a labels layer marks")
    how.held_layer.setCurrentIndex(1 + how.held_layer.candidates().index(aside))
    other = viewer.add_image(made_up()[::-1], rgb=True, **{**MICRONS, "name": "other"})
    dock.open_image(other)  # it lies where the first one does, so the layer lies on it, too
    assert how.held_layer.value() is None
    lesson.strokes()
    scored = {pair.name: pair.aside is not None for pair in dock.paint.pairs()}
    assert scored == {"H&E": True, "other": False}
    dock.open_image(first)
    assert how.held_layer.value() == aside
    dock.open_image(other)
    viewer.layers.remove(aside)
    assert not any(pair.aside for pair in dock.paint.pairs())


@pytest.mark.hidden(False)
def test_a_deleted_class_takes_its_strokes_along_until_undo(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up())
    layer, view = lesson.strokes(), dock.view
    lesson.press(view.classes.add_button)
    view.classes.rename(3, "third")
    layer.data_setitem(tuple(np.mgrid[70:80, 70:80].reshape(2, -1)), 3)
    lesson.until(lambda: view.classes.text(2, PX) == "100")
    lesson.row(view.classes._table, 2)
    lesson.press(view.classes.delete_button)
    lesson.until(lambda: dock.files.idle)
    hands.settle(5)
    assert dock.teaching.choices.classes.names == ("Class 1", "Background")
    assert not (layer.data == 3).any()
    assert (layer.data > 0).sum() == 6 * 14 * 14
    assert "100 pixels" in view.status.text()
    lesson.press(view.classes.add_button)
    view.classes.rename(4, "fourth")  # 3 is kept for what may come back
    layer.undo()
    lesson.until(lambda: "third" in dock.teaching.choices.classes.names)
    lesson.until(lambda: view.classes.text(2, PX) == "100")
    assert dock.teaching.choices.classes.names == ("Class 1", "Background", "third", "fourth")
    # Painted in the other dock: that one's to erase.
    theirs = viewer.add_labels(np.full((160, 160), 3, np.uint8), scale=(0.5, 0.5),
                               units=("um", "um"), metadata={OWN: "classes"})  # fmt: skip
    dock.use_labels(theirs)
    view.classes.set_active(3)
    dock.say("")
    lesson.press(view.classes.delete_button)
    lesson.until(lambda: "is painted, so it is in the table again" in view.status.text())
    assert "third" in dock.teaching.choices.classes.names
    assert (theirs.data == 3).all()
