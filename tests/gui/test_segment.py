"""The dock “PathSAM: Segment” in a real viewer, with a small real model and random weights."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_pathsam._napari.plane import data_to_canvas
from napari_pathsam._napari.segment_layers import UNSURE
from napari_pathsam._napari.segment_table import (
    COUNT,
    DENSITY,
    MM2,
    NAME,
    PX,
    density_text,
    short,
)
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.objects import instances
from napari_pathsam.workspace.segment_request import SegmentOptions

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def image(field):
    """An H&E field, small enough for many tiles of the small model to take a second."""
    return np.ascontiguousarray(field.image[:240, :300])


MICRONS = {"rgb": True, "name": "H&E", "scale": (0.5, 0.5), "units": ("um", "um")}


def choose(dock, name="tiny:made", kind="whole", **options) -> None:
    dock.view.heads.set_value(name)
    dock.view.heads.value_changed.emit()
    dock.view.extent.set_value(kind)
    dock.view.options.set_value(SegmentOptions(**options))


def run(dock, hands) -> None:
    dock.view.run_button.click()
    done(dock, hands)


def done(dock, hands) -> None:
    hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 120_000)


def layer_of(viewer):
    return viewer.layers["PathSAM made"]


@pytest.mark.hidden(False)
def test_one_press_gives_every_pixel_a_class(segment_of, image, tiny_pathsam, tmp_path):
    viewer, dock, hands = segment_of(image, **MICRONS)
    assert dock.view.minimumWidth() <= 380
    assert dock.view.heads.value() is None  # none is chosen for the person
    choose(dock, threshold=0.4, instances=True, probabilities=True, uncertainty=True)
    assert not dock.view.mpp_bar.text()
    run(dock, hands)
    assert not dock.view.error_bar.text()
    layer = layer_of(viewer)
    expected = segment_classes(tiny_pathsam, image, 0.5, threshold=0.4)
    np.testing.assert_array_equal(layer.data, expected)
    np.testing.assert_allclose(layer.data_to_world((7, 9)), viewer.layers[0].data_to_world((7, 9)))
    assert (layer.data == UNSURE).any()
    names = dict(zip(layer.features["index"], layer.features["class"], strict=True))
    assert names == {0: "background", 1: "gland", 2: "stroma", 255: "unsure"}
    colors = {c.id: c.color for c in tiny_pathsam.classes}
    for class_id, color in colors.items():
        assert to_hex(layer.get_color(class_id)) == color

    objects = viewer.layers["PathSAM made objects"]
    np.testing.assert_array_equal(objects.data, instances(expected))
    probability, uncertainty = viewer.layers["P(stroma) made"], viewer.layers["Uncertainty made"]
    assert not probability.visible
    assert np.nanmax(uncertainty.data) <= 1
    assert uncertainty.visible
    assert tuple(uncertainty.colormap.colors[[0, -1], 3]) == (0, 1)  # clear where it is sure
    extent = np.asarray(viewer.layers[0].extent.world)
    np.testing.assert_allclose(np.asarray(uncertainty.extent.world), extent, atol=2)
    hands.screenshot("30-segmented")

    table = dock.view.table
    texts = [[table.text(row, column) for column in (NAME, PX, COUNT)] for row in range(4)]
    assert [row[0] for row in texts] == ["gland", "stroma", "unsure", "background"]
    pixels = [int((expected == i).sum()) for i in (1, 2, 255, 0)]
    assert [row[1] for row in texts] == [short(n) for n in pixels]
    tips = [table._table.item(row, PX).toolTip().rpartition(": ")[2] for row in range(4)]
    assert [int(tip.replace("\u2009", "")) for tip in tips] == pixels
    assert sum(int(row[2] or 0) for row in texts) == objects.data.max()
    assert table.text(1, MM2)
    table.save_csv(tmp_path / "areas.csv", say=lambda text: None)
    lines = (tmp_path / "areas.csv").read_text().splitlines()
    rows = {r["class"]: r for r in csv.DictReader(lines)}
    assert int(rows["stroma"]["px"]) == pixels[1]
    assert float(rows["stroma"]["mm2"]) == pytest.approx(pixels[1] * 0.25e-6, rel=1e-4)

    # The field is tissue all over, so that densities are of all of it.
    mm2 = image.shape[0] * image.shape[1] * 0.25e-6
    for row, name in enumerate(("gland", "stroma")):
        n = int(rows[name]["objects"])
        assert float(rows[name]["tissue_mm2"]) == pytest.approx(mm2, rel=1e-4)
        assert float(rows[name]["objects_per_mm2_of_tissue"]) == pytest.approx(n / mm2, rel=1e-4)
        assert table.text(row, DENSITY) == density_text(n / mm2)
    assert not table.text(3, DENSITY)  # of background there are no objects
    assert f"{mm2:.2g} mm²" in table.tissue_text()
    shown = [c for c in range(7) if not table._table.isColumnHidden(c)]
    assert DENSITY in shown
    assert PX not in shown
    metrics = table._table.fontMetrics()
    for column in shown[1:]:
        texts = [table.text(row, column) for row in range(4)]
        texts.append(table._table.horizontalHeaderItem(column).text())
        wide = max(metrics.horizontalAdvance(text) for text in texts)
        assert wide + 4 <= table._table.columnWidth(column), (column, texts)

    uncertainty.visible = layer.visible = False
    viewer.theme = "light"
    hands.screenshot("31-light")
    viewer.theme = "dark"


def to_hex(rgba) -> str:
    return "#" + "".join(f"{round(float(v) * 255):02x}" for v in rgba[:3])


def test_what_is_missing_is_said(segment_of, image):
    viewer, dock, hands = segment_of()
    dock.segment_all()
    assert "no image" in dock.view.error_bar.text()
    viewer.add_image(image, rgb=True, name="unknown size")
    hands.until(lambda: dock.image is not None)
    dock.view.run_button.click()
    assert "Choose what to find" in dock.view.error_bar.text()
    choose(dock)
    assert "unknown" in dock.view.mpp_bar.text()
    assert "0.5" in dock.view.mpp_bar.text()
    hands.screenshot("32-unknown-size")
    dock._take_button.click()
    assert dock.mpp == 0.5
    assert not dock.view.mpp_bar.text()
    dock.view.pixel_size._spin.setValue(2.5)
    for number in ("2.5", "0.3", "1"):
        assert number in dock.view.mpp_bar.text()
    hands.screenshot("33-outside-range")
    dock.view.extent.set_value("shapes")
    dock.view.run_button.click()
    hands.settle(3)
    assert "nothing to segment" in dock.view.error_bar.text()


@pytest.mark.hidden(False)
def test_it_appears_tile_by_tile_and_cancel_keeps_it(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    choose(dock)
    seen = []
    dock.segmenting.piece_written.connect(lambda result, region: seen.append(region))
    dock.view.run_button.click()
    hands.until(lambda: len(seen) == 3, 60_000)
    assert layer_of(viewer).data.any()
    assert not dock.view.run_button.isEnabled()
    assert "left" in dock.view.progress.text() or dock.view.progress.bar.value()
    hands.screenshot("34-running")
    dock.view.progress.cancel_button.click()
    done(dock, hands)
    kept = layer_of(viewer).data
    assert kept.any()
    assert not kept[-20:, -20:].any()
    assert "kept" in dock.view.status.text()
    assert dock.view.table.text(1, PX)
    assert dock.view.run_button.isEnabled()
    hands.screenshot("35-cancelled")


def test_a_persons_strokes_are_never_written_over(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    choose(dock)
    seen = []
    dock.segmenting.piece_written.connect(lambda result, region: seen.append(region))
    dock.view.run_button.click()
    hands.until(lambda: len(seen) == 2, 60_000)
    layer = layer_of(viewer)
    viewer.layers.selection.active = layer
    layer.mode, layer.brush_size, layer.selected_label = "paint", 40, 1
    plane = dock.source.plane
    path = [data_to_canvas(viewer, plane, (120, x)).round().astype(int) for x in (60, 240)]
    events = hands.canvas._scene_canvas.events
    press = events.mouse_press(pos=path[0], button=1, modifiers=[])
    events.mouse_move(pos=path[1], button=1, modifiers=[], press_event=press, last_event=press)
    events.mouse_release(pos=path[1], button=1, modifiers=[], press_event=press, last_event=press)
    painted = layer.data[112:128, 70:230].copy()
    assert (painted == 1).all()
    done(dock, hands)
    assert (layer.data[112:128, 70:230] == 1).all()
    mine = layer.data.copy()
    run(dock, hands)
    assert "by hand" in dock.view.status.text()
    np.testing.assert_array_equal(layer.data, mine)
    assert "PathSAM made [1]" in viewer.layers
    assert not (viewer.layers["PathSAM made [1]"].data[112:128, 70:230] == 1).all()
    run(dock, hands)  # the new one is untouched: it is used again
    assert "PathSAM made [2]" not in viewer.layers


@pytest.mark.hidden(False)
def test_layers_may_go_at_any_time(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    # There from the beginning: napari 0.9 on software OpenGL ends the process when an image is
    # added after one below a labels layer was removed.
    other = viewer.add_image(image[::-1], **{**MICRONS, "name": "other"})
    dock.view.images.set_value(viewer.layers["H&E"])
    dock.open_image(viewer.layers["H&E"])
    choose(dock)
    seen = []
    dock.segmenting.piece_written.connect(lambda result, region: seen.append(region))
    dock.view.run_button.click()
    hands.until(lambda: bool(seen), 60_000)
    viewer.layers.remove(layer_of(viewer))
    done(dock, hands)
    assert "stopped" in dock.view.status.text()
    seen.clear()
    dock.view.run_button.click()
    hands.until(lambda: bool(seen), 60_000)
    viewer.layers.remove(viewer.layers["H&E"])
    done(dock, hands)
    kept = layer_of(viewer)
    assert kept.data.any()
    assert dock.image is None
    assert not dock.view.run_button.isEnabled()
    dock.open_image(other)
    choose(dock)
    dock.view.run_button.click()
    dock.shut_down()
    hands.settle(10)
    assert kept in viewer.layers


def test_inside_shapes_of_another_scale(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    shapes = viewer.add_shapes(
        [[(20, 30), (20, 60), (60, 60), (60, 30)]], shape_type="rectangle", name="mine",
        units=("um", "um"),
    )  # fmt: skip
    shapes.add_ellipses([[(70, 90), (70, 140), (110, 140), (110, 90)]])
    shapes.selected_data = set()
    choose(dock, kind="shapes")
    dock.view.extent.shapes.set_value(shapes)
    run(dock, hands)
    assert not dock.view.error_bar.text()
    result = dock.segmenting.result_of(dock.source.key, "tiny:made")
    assert result.covered[42:118, 62:118].all()  # µm are half a pixel
    assert not result.covered[:38].any()
    assert result.covered[180, 230]
    assert not result.covered[142, 182]  # the corner outside the ellipse
    assert not layer_of(viewer).data[~result.covered].any()
    assert not dock.view.status.text()
    hands.screenshot("36-shapes")

    shapes.data = [[(100, 120), (100, 400), (110, 400), (110, 120)]]  # 150 µm wide is the image
    run(dock, hands)
    said = dock.view.status.text()
    assert not dock.view.error_bar.text()
    assert dock.parts()[0].drawn
    assert "columns 240 to 801 were asked for" in said
    assert "only rows 200 to 221, columns 240 to 300" in said
    hands.screenshot("36b-shapes-beyond")


def test_switching_the_head_says_what_it_takes(segment_of, image):
    _viewer, dock, hands = segment_of(image, **MICRONS)
    choose(dock)
    assert "first tile" in dock.view.encoding.text()
    run(dock, hands)
    choose(dock, "tiny:other")
    assert "there already" in dock.view.encoding.text()
    choose(dock, "tiny:coarse")
    assert "second encoding" in dock.view.encoding.text()
    assert " s." in dock.view.encoding.text()
    choose(dock, "tiny:other")
    told = []
    dock.segmenting.progress_changed.connect(lambda p: told.append(p) if p else None)
    run(dock, hands)
    assert told[-1].reused == told[-1].total
    dock.view.pixel_size.set_value(0.7)
    dock._on_pixel_size(0.7)  # other pixels are encoded then
    assert "second encoding" in dock.view.encoding.text()


def test_what_is_advised_for_a_head_is_a_press_away(segment_of, image, qtbot):
    _viewer, dock, hands = segment_of(image, model=None, **MICRONS)
    hands.until(lambda: bool(dock.view.heads.heads()))
    options = dock.view.options
    assert not options.advised_button.isVisibleTo(dock)
    choose(dock, "pathsam-nano:nuclei", instances=True)
    assert "Nuclei" in options.advised_button.text()
    assert "TNBC patients 08-09" in options.advised_button.toolTip()
    qtbot.mouseClick(options.advised_button, Qt.LeftButton)
    assert options.value() == SegmentOptions(
        threshold=0.73, surest=0.94, smallest_px=10, views=8, instances=True
    )  # 2.5 µm² at 0.5 µm/px
    assert not options.advised_button.isVisibleTo(dock)
    hands.screenshot("38-advised")
    options.views.setCurrentIndex(1)
    assert options.value().views == 1
    assert options.advised_button.isVisibleTo(dock)

    choose(dock, "pathsam-nano:glands", instances=True)
    qtbot.mouseClick(options.advised_button, Qt.LeftButton)
    assert options.value() == SegmentOptions(smallest_px=600, fill_holes_px=6000, instances=True)
    dock.view.pixel_size.set_value(0.25)
    dock._on_pixel_size(0.25)  # the same areas
    assert options.value() == SegmentOptions(smallest_px=2400, fill_holes_px=24_000, instances=True)
    assert "150 µm²" in options.smallest.text()
    dock.view.heads.set_value("pathsam-nano:tissue")
    dock.view.heads.value_changed.emit()  # what was advised for glands goes with them
    assert options.value() == SegmentOptions(instances=True)
    assert not options.advised_button.isVisibleTo(dock)
    options.smallest.setValue(70)
    dock.view.heads.set_value("pathsam-nano:glands")
    dock.view.heads.value_changed.emit()
    assert options.value() == SegmentOptions(smallest_px=70, instances=True)  # a person's stays


def test_a_list_of_models_that_cannot_be_read_is_told(segment_of, image, monkeypatch):
    from napari_pathsam._napari import segment_models

    def broken(_files):
        raise OSError("the folder of models cannot be read")

    monkeypatch.setattr(segment_models, "read_heads", broken)
    _viewer, dock, hands = segment_of(image, model=None, **MICRONS)
    hands.until(lambda: "cannot be read" in dock.view.error_bar.text())
    listed = dock.view.heads.findChild(QComboBox)
    assert [listed.itemText(n) for n in range(listed.count())] == ["choose what to find…"]


def test_a_result_may_be_deleted_and_made_anew(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    choose(dock)
    run(dock, hands)
    choose(dock, "tiny:other")
    run(dock, hands)
    viewer.layers.remove("PathSAM made [1]")
    assert dock._result() is None
    run(dock, hands)
    assert viewer.layers["PathSAM made [1]"].data.any()
    assert dock.view.table.value() is not None


@pytest.mark.hidden(False)
def test_the_legend_has_the_packaged_classes_whole(segment_of, image):
    from napari_pathsam.models.catalogue import HEADS
    from napari_pathsam.models.model_file import read_card

    viewer, dock, hands = segment_of(image, **MICRONS)
    viewer.window._qt_window.resize(1500, 950)
    dock.view.table.setVisible(True)
    for head in HEADS.values():
        classes = read_card(head.weights.path).classes
        dock.view.table.set_value(classes, None)
        hands.settle(5)
        assert dock.view.minimumWidth() <= 380
        table = dock.view.table._table
        wide = max(table.fontMetrics().horizontalAdvance(c.name) for c in classes)
        assert wide + 6 <= table.columnWidth(NAME), (head.name, wide, table.columnWidth(NAME))


@pytest.mark.hidden(False)
def test_another_field_in_view_is_another_encoding(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    viewer.window._qt_window.resize(1500, 950)
    hands.settle(5)
    viewer.fit_to_view()
    choose(dock, kind="view")
    run(dock, hands)
    assert "there already" in dock.view.encoding.text()
    viewer.scene.camera.zoom *= 3
    hands.until(lambda: "This part is encoded first: about" in dock.view.encoding.text())
    dock.view.extent.set_value("whole")
    viewer.scene.camera.zoom /= 3
    hands.settle(3)
    assert not dock._resting.isActive()  # the whole image is the whole image


def test_only_what_the_legend_explains_is_in_sight(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    choose(dock, uncertainty=True)
    run(dock, hands)
    assert [x.name for x in viewer.layers] == ["H&E", "PathSAM made", "Uncertainty made"]
    choose(dock, "tiny:other")
    run(dock, hands)
    shown = [x.name for x in viewer.layers if x.visible]
    assert shown == ["H&E", "PathSAM made [1]"]
    assert "“PathSAM made” and more" in dock.view.status.text()
    hands.screenshot("37-other-head")
    choose(dock)
    run(dock, hands)
    assert [x.name for x in viewer.layers if x.visible] == ["H&E", "PathSAM made"]


@pytest.mark.parametrize("kind", ["stack", "pyramid"])
def test_other_image_layers(segment_of, image, tiny_pathsam, kind):
    import dask.array as da

    expected = segment_classes(tiny_pathsam, image, 0.5)
    if kind == "stack":
        data = np.stack([image[::-1], image])
        viewer, dock, hands = segment_of(data, **{**MICRONS, "scale": (1, 0.5, 0.5),
                                                  "units": ("um",) * 3})  # fmt: skip
        viewer.dims.set_current_step(0, 1)
        hands.until(lambda: dock.source.index == (1,))
    else:
        levels = [da.from_array(image[::k, ::k], chunks=(64, 64, 3)) for k in (1, 2)]
        viewer, dock, hands = segment_of(levels, multiscale=True, **MICRONS)
    choose(dock)
    run(dock, hands)
    assert not dock.view.error_bar.text()
    layer = layer_of(viewer)
    np.testing.assert_array_equal(layer.data, expected)
    if kind == "stack":
        viewer.dims.set_current_step(0, 0)
        hands.until(lambda: not layer.visible)
        viewer.dims.set_current_step(0, 1)
        hands.until(lambda: layer.visible)


@pytest.mark.hidden(False)
def test_the_field_in_view_comes_first(segment_of, image):
    viewer, dock, hands = segment_of(image, **MICRONS)
    viewer.scene.camera.center = (0, 110, 140)
    viewer.scene.camera.zoom *= 4
    hands.settle(5)
    choose(dock)
    seen = []
    dock.segmenting.piece_written.connect(lambda result, region: seen.append(region))
    dock.view.run_button.click()
    done(dock, hands)
    assert seen[0].contains(220, 280)
    choose(dock, kind="view")
    viewer.layers.remove(layer_of(viewer))
    run(dock, hands)
    result = dock.segmenting.result_of(dock.source.key, "tiny:made")
    assert result.covered[220, 280]
    assert not result.covered[5, 5]
